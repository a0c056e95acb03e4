"""Runs what a page shows: files that it says to write, and the commands of its ``console`` blocks, in their order.

A file is a block that follows a line which names it (``… into `mods/x/mod.py`:``). Below a command stands what it prints:
``…`` is any number of lines, a number is any number, and columns may be wider.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"(?:`(?P<file>[\w./]+)`:\n\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
_SHOWN_ROOT = "/srv"


@dataclass
class Shell:
    """A shell's folder and variables, which one command leaves to the next."""

    folder: Path
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.folder

    def run(self, command: str) -> str:
        """Run a command of a page; return what it prints."""
        note = self.root / "folder"
        done = subprocess.run(
            ["bash", "-c", f"{command}\npwd > {note}"],
            cwd=self.folder,
            env=self._variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self.folder = Path(note.read_text().strip())
        return done.stdout.replace(str(self.root), _SHOWN_ROOT)

    def _variables(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("MODVISOR_")}
        return own | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}


@dataclass(frozen=True)
class Step:
    """A file to write, or a command with what a page says that it prints."""

    file: str = ""
    command: str = ""
    text: str = ""


def steps(page: str) -> Iterator[Step]:
    """Yield the files and commands of a page."""
    for block in _BLOCK.finditer(page):
        if block["language"] == "console":
            for part in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                yield Step(command=command, text=shown)
        elif block["file"]:
            yield Step(file=block["file"], text=block["text"])


def is_as_shown(printed: str, shown: str) -> bool:
    """Whether a command printed what a page shows; a page may show nothing of it."""
    lines = shown.strip().splitlines()
    pattern = "".join("(?:.*\n)*" if line == "…" else f"{_loosely(line)}\n" for line in lines)
    return not lines or re.fullmatch(pattern, printed.rstrip() + "\n") is not None


def _loosely(line: str) -> str:
    words = (re.sub(r"\d+(?:\\\.\d+)?", r"\\d+(?:\\.\\d+)?", re.escape(word)) for word in line.split())
    return r"\s*" + r"[^\S\n]+".join(words) + r"[^\S\n]*"
