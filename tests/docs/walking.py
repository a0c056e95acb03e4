"""Walks a page: writes its files and gives its commands in their order, and compares what is printed with what it shows.

What a page takes for granted (a network that runs, a mod that has crashed) is its `Scene`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from websockets.sync.client import connect

from . import showing
from .consoles import DEADLINE, Running, Shell, ended, lines_of
from .not_run import row_of
from .pages import Block, Step, blocks_of

_GOES_ON = re.compile(
    r"modvisor run\b|modvisor events(?!.* -n)|modvisor logs -f|curl -sN|admin -N|modvisor agent \w+$|modvisor top$"
)
_ANY = "… …"  # a line of two words or more: that it runs, a signal finds it ready
_TYPED = re.compile(r"^(?:\w+)?> (.*)$")


@dataclass(frozen=True)
class Scene:
    """What a page takes for granted.

    `files` are there, and `first` was done, before its first command. `before` is done before each command that begins
    so or prints a line that begins so (while a command goes on: before that line); or before the first command below a
    heading, ``## TEXT``.
    `instead` is put in the place of what a test cannot have.
    """

    folder: str = "demo"
    files: Mapping[str, str] = field(default_factory=dict)
    first: Sequence[str] = ()
    before: Mapping[str, Sequence[str]] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)


class Walk:
    """One reader of a page."""

    def __init__(self, page: str, scene: Scene, root: Path) -> None:
        self.page, self.scene = page, scene
        self.shell = Shell(root)
        self.shell.folder = root / scene.folder
        self.shell.folder.mkdir(exist_ok=True)
        self.used: set[str] = set()
        self.wrong: list[str] = []

    def whole(self) -> None:
        """Walk the whole page. Raises AssertionError with all that is not as the page says."""
        try:
            for file, text in self.scene.files.items():
                self.shell.write(file, text)
            self._prepare(self.scene.first)
            for block in blocks_of(self.page):
                for step in block.steps:
                    self._step(block, step)
        finally:
            self.shell.close()
        assert not self.wrong, "\n\n".join(self.wrong)
        assert self.used == set(self.scene.before), f"docs/{self.page} has no longer what this prepares"

    def _step(self, block: Block, step: Step) -> None:
        if step.file:
            self.shell.write(step.file, step.text)
        elif row_of(self.page, step.command) is None:
            if step.command.startswith("modvisor run"):
                ended(self.shell, step.command)
            self._prepare_for(f"## {block.heading}", once=True)
            self._prepare_for(step.command)
            command, shown = self._instead(step.command), self._instead(step.text)
            where = f"{self.page}:{block.line}: $ {command}"
            if block.is_a_talk:
                self._talk(shown, where)
            elif _GOES_ON.match(command):
                self._follow(command, shown, where)
            else:
                self._give(command, in_general(shown) if block.of_a_host else shown, where)

    def _instead(self, text: str) -> str:
        for shown, own in self.scene.instead.items():
            text = text.replace(shown, own)
        return text

    def _give(self, command: str, shown: str, where: str) -> None:
        for line in lines_of(shown):
            self._prepare_for(line)
        printed, code = self.shell.done(command)
        found = showing.compared(printed, shown)
        if found is None:
            self.wrong.append(_differs(where, printed, shown))
        elif not shown.strip() and code:
            self.wrong.append(f"{where}\nended with {code}\n{printed}")
        self.shell.codes.update(found or {})
        if command.startswith("modvisor init"):
            self._take_a_free_port()

    def _follow(self, command: str, shown: str, where: str) -> None:
        """Give a command that goes on, until it has printed what is shown; a network goes on until the next one."""
        running = Running(self.shell, command)
        told: list[str] = []
        lines = list(lines_of(shown)) or [_ANY]
        if command.startswith("modvisor run") and lines[0] in ("…", _ANY):
            self._wait(running, ["…", "ready in …"], where)
        for line in lines:
            typed = _TYPED.match(line)
            if typed is not None and "agent" in command:
                running.type(typed[1])
                continue
            self._prepare_for(line)
            told.append(line)
            if not self._wait(running, told, where):
                break
        running.codes(told)
        if not command.startswith("modvisor run"):
            running.end()

    def _talk(self, shown: str, where: str) -> None:
        """Say what a page says over a WebSocket, and compare what the network says."""
        with connect(self.shell.here("ws://127.0.0.1:8700/ws")) as socket:
            for line in lines_of(shown):
                self._prepare_for(line)
                if line.startswith("> "):
                    socket.send(self.shell.here(line[2:]))
                else:
                    said = str(socket.recv(timeout=DEADLINE))
                    if not showing.is_as_shown(said, line[2:]):
                        self.wrong.append(_differs(where, said, line))

    def _wait(self, running: Running, lines: list[str], where: str) -> bool:
        if running.has_printed(lines):
            return True
        self.wrong.append(_differs(where, running.told, "\n".join(lines)))
        return False

    def _prepare_for(self, begins: str, *, once: bool = False) -> None:
        for key, commands in self.scene.before.items():
            if begins == key if once else (not key.startswith("## ") and begins.startswith(key)):
                if not (once and key in self.used):
                    self._prepare(commands)
                self.used.add(key)

    def _prepare(self, commands: Sequence[str]) -> None:
        """Give commands that a reader does not see. What ends with ``|| true`` may fail."""
        for command in commands:
            if _GOES_ON.match(command):
                if command.startswith("modvisor run"):
                    ended(self.shell, command)
                self._follow(command, "", command)
                continue
            given = command.removesuffix(" || true")
            printed, code = self.shell.done(given)
            assert code == 0 or given != command, f"to prepare {self.page}: $ {command}\n{printed}"

    def _take_a_free_port(self) -> None:
        for file in [*self.shell.folder.glob("network.yaml"), *self.shell.folder.glob("*/network.yaml")]:
            file.write_text(self.shell.here(file.read_text("utf-8")), "utf-8")


def in_general(shown: str) -> str:
    """Return what a page shows of some host without what differs on another one: its lines that begin at the margin."""
    return "".join("…\n" if line[:1] in (" ", "…") else f"{line.partition('. ')[0]}…\n" for line in lines_of(shown))


def _differs(where: str, printed: str, shown: str) -> str:
    first = showing.first_difference(printed, shown)
    return f"{where}\n{printed}\n--- the page shows\n{shown}\n--- which differs at\n{first}"
