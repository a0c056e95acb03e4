"""What the tests of the command share: the command in this process, and networks run by it that never outlive a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from modvisor.supervisor.cli.app import app

COMMAND = [sys.executable, "-m", "modvisor.supervisor.cli"]
DEADLINE = 20.0  # seconds for what takes well below one; a loaded machine is slow

NETWORK = """
network: {name: demo, port: 0}
mods:
  - path: ./echo
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the shell that runs the tests, and nothing but tmp_path to find a network file in."""
    for name in ("MODVISOR_FILE", "MODVISOR_URL", "MODVISOR_TOKEN", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


class Command:
    """The command in this process."""

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(args), input=stdin, prog_name="modvisor")

    def ok(self, *args: str, stdin: str | bytes | None = None) -> str:
        """Its stdout; it must succeed."""
        result = self(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str, stdin: str | bytes | None = None, code: int = 0) -> Any:
        """The one document it prints with --json."""
        result = self(*args, "--json", stdin=stdin)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def cli() -> Command:
    return Command()


class Running:
    """``modvisor run`` in a process of its own, ready; what it says on stdout is read line by line."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.folder = folder
        with open(folder / "stderr.txt", "ab") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "--json", "run", *args], cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.said: list[dict[str, Any]] = []
        self.workers: set[int] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    def until(self, happened: str) -> dict[str, Any]:
        """The next line that says so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            if self.said[-1].get("happened") == happened:
                self.note_workers()
                return self.said[-1]
        raise AssertionError(f"ended before it was {happened}: {self.said}\n{self.stderr}")

    def note_workers(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.workers |= {child.pid for child in psutil.Process(self.pid).children(recursive=True)}

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Signal it and return its exit code."""
        self.note_workers()
        self.process.send_signal(signum)
        return self.process.wait(DEADLINE)

    def left(self) -> set[int]:
        """Workers that are still there."""
        return {pid for pid in self.workers if psutil.pid_exists(pid) and _is_worker(pid)}

    def kill(self) -> None:
        if self.process.poll() is None:
            self.note_workers()
            self.process.kill()
        self.process.wait(DEADLINE)
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _is_worker(pid: int) -> bool:
    """Numbers of processes are given away again."""
    try:
        return "modvisor.worker" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


@pytest.fixture
def start(tmp_path: Path, write_mod: Callable[..., str]) -> Iterator[Callable[..., Running]]:
    """Start ``modvisor run ARGS…`` in tmp_path; with ``ready`` (the default), wait until it is."""
    started: list[Running] = []

    def start(*args: str, network: str | None = NETWORK, ready: bool = True) -> Running:
        if not (tmp_path / "mods" / "echo").exists():
            write_mod("echo")
        if network is not None:
            (tmp_path / "network.yaml").write_text(network)
        running = Running(tmp_path, *args)
        started.append(running)
        if ready:
            running.until("ready")
        return running

    yield start
    for running in started:
        running.kill()


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    """A network with an echo mod."""
    return start()
