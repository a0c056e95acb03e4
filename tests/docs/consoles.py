"""A shell in which the commands of a page are given, one after the other, as a reader would.

What a reader has is put in the place of what a page shows: free ports for its ports, the folder of the test for /srv,
codes that this run has printed for those that the page shows.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests import warm
from tests.ports import free_port

from . import showing

SHOWN_ROOT = "/srv"
DEADLINE = 30.0  # seconds for what takes well below one; a loaded machine is slow
_MODVISOR = [sys.executable, "-m", "modvisor.supervisor.cli"]
_PORT = re.compile(r"\b(?:8700|8701|8702)\b")
_CURL = "curl -s --unix-socket .modvisor/run/admin.sock"
_ADMIN = f'admin() {{ {_CURL} "$@"; }}\n'


@dataclass
class Shell:
    """A shell's folder and variables, which one command leaves to the next."""

    folder: Path
    root: Path = field(init=False)
    variables: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.folder

    def here(self, text: str) -> str:
        """Return a text of a page with what this run has in its place."""
        for shown, own in {f"{SHOWN_ROOT}/": f"{self.root}/", **self.codes}.items():
            text = text.replace(shown, own)
        return _PORT.sub(lambda port: self.ports.setdefault(port[0], str(free_port())), text)

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text), "utf-8")

    def run(self, command: str) -> str:
        """Run a command of a page; return what it prints."""
        return self.done(command)[0]

    def done(self, command: str) -> tuple[str, int]:
        """Run a command of a page; return what it prints, and its exit code."""
        command = self.here(command)
        assigned = re.fullmatch(r"([A-Z]+)=(\S+|\$\(.*\))", command)
        if assigned:
            self.variables[assigned[1]] = self.done(f"echo {assigned[2]}")[0].strip()
            return "", 0
        with self.popen(command) as process:
            try:
                printed = process.communicate(timeout=DEADLINE)[0]
            finally:
                process.kill()
        note = self.root / "folder"
        if note.exists():
            self.folder = Path(note.read_text().strip())
            note.unlink()
        return printed.replace(str(self.root), SHOWN_ROOT), process.returncode

    def popen(self, command: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command. One of modvisor alone is forked from a Python that has imported it: that takes a tenth."""
        words = plain_words(command)
        how = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        if words is not None and words[0] == "modvisor":
            return warm.Popen([*_MODVISOR, *words[1:]], cwd=self.folder, env=self._variables(), **how)
        script = f"{_ADMIN}{command}\ncode=$?; pwd > {shlex.quote(str(self.root / 'folder'))}; exit $code"
        return subprocess.Popen(["bash", "-c", script], cwd=self.folder, env=self._variables(), text=True, **how)  # type: ignore[call-overload]

    def _variables(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MODVISOR_", "NO_COLOR"))}
        own |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200", "HOME": str(self.root)}
        own |= {"PYTHONUNBUFFERED": "1"}  # as on a terminal: in the order in which it is printed
        own |= {"BROWSER": "false"}  # none that opens on the desktop of whoever runs the tests
        return own | self.variables

    def close(self) -> None:
        """End what was started and still runs. Raises AssertionError if something is left nevertheless."""
        for running in list(self.running):
            running.end()
        for file in self.root.rglob("network.yaml"):
            self.folder = file.parent
            if (file.parent / ".modvisor" / "run" / "admin.sock").exists():
                self.run("modvisor stop")
            if (file.parent / ".modvisor" / "cluster").exists():
                self.run("modvisor cluster down")
        left = [process for process in psutil.process_iter(["cwd"]) if _is_below(self.root, process.info["cwd"])]
        for process in left:
            process.kill()
        assert not left, left


def _is_below(root: Path, folder: str | None) -> bool:
    return folder is not None and Path(folder).is_relative_to(root)


def plain_words(command: str) -> list[str] | None:
    """Return the words of a command that needs no shell, or None."""
    if re.search(r"[$`|&;<>()*~\\]", re.sub(r"'[^']*'", "", command.partition(" #")[0])) or re.match(r"\w+=", command):
        return None
    return shlex.split(command, comments=True)


class Running:
    """A command that goes on until Ctrl-C: what it prints is read as it comes, and lines can be typed to it."""

    def __init__(self, shell: Shell, command: str) -> None:
        self.command = command
        self.printed = ""
        self._shell = shell
        script = re.sub(r"^admin\b", _CURL, shell.here(command))
        if (plain_words(script) or [""])[0] != "modvisor":
            script = f"exec {script}"  # so that it is the program that gets Ctrl-C
        self._process = shell.popen(script, stdin=subprocess.PIPE)
        shell.running.append(self)

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def has_printed(self, lines: list[str]) -> bool:
        """Wait until it has printed these lines, or has ended without, or too long."""
        assert self._process.stdout is not None
        wanted, deadline = showing.pattern(lines), time.monotonic() + DEADLINE
        while wanted.match(self.told) is None:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            read = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not read:
                return False
            self.printed += read.decode()
        return True

    @property
    def told(self) -> str:
        """What it has printed, without empty lines."""
        told = self.printed.replace(str(self._shell.root), SHOWN_ROOT)
        return "".join(f"{line}\n" for line in told.splitlines() if line.strip())

    def codes(self, lines: list[str]) -> None:
        """Remember the codes that it printed in the place of those of the page."""
        told = "".join(f"{line}\n" for line in self.told.splitlines()[: len(lines)])
        self._shell.codes.update(showing.compared(told, "\n".join(lines)) or {})

    def end(self) -> None:
        """Type Ctrl-C, and wait for its end."""
        if self in self._shell.running:
            self._shell.running.remove(self)
        with self._process as process:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=DEADLINE)
            finally:
                process.kill()


def ended(shell: Shell, command: str) -> None:
    """End the networks that a new ``modvisor run`` takes the place of: all of them, unless it is one more node."""
    if "--node" not in command:
        for running in [each for each in shell.running if each.command.startswith("modvisor run")]:
            running.end()


def lines_of(text: str) -> Iterator[str]:
    """Yield the lines of a text that are not empty."""
    yield from (line for line in text.strip().splitlines() if line.strip())
