"""The pages of the site and their blocks: what a reader is shown to type, to write into a file, or to read.

A block is a file if the line above it names one (``… into `mods/x/mod.py`:``). A ``console`` block has commands behind
``$``, with what they print below them. A block of ``sh`` is commands alone.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FILE = r"(?:[^\n]*`(?P<file>\w[\w./-]*\.(?:py|js|yaml))`:\n\n(?P=indent))?"
_FENCED = re.compile(
    rf"^(?P<indent> *){_FILE}```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A file to write, or a command with what a page says that it prints."""

    file: str = ""
    command: str = ""
    text: str = ""


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its fence, `heading` the text of the heading above it.

    `of_a_host`: what it shows is that of some host. It stands below ``<!-- of some host -->``.
    """

    page: str
    heading: str
    line: int
    language: str
    text: str
    file: str = ""
    of_a_host: bool = False

    @property
    def begins(self) -> str:
        """The first line: what the table of blocks that are not run names a block by."""
        return self.text.partition("\n")[0]

    @property
    def is_a_talk(self) -> bool:
        """Whether it shows what goes over a WebSocket, to the network behind ``>`` and from it behind ``<``."""
        return self.language == "console" and self.text.startswith("> ")

    @property
    def steps(self) -> list[Step]:
        """The file, or the commands."""
        if self.is_a_talk:
            return [Step(command="websocket", text=self.text)]
        if self.language == "console":
            parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
            return [Step(command=part.partition("\n")[0], text=part.partition("\n")[2]) for part in parts]
        if self.language in ("sh", "bash"):
            return [Step(command=line) for line in self.text.splitlines() if line and line[0] != "#"]
        return [Step(file=self.file, text=self.text)] if self.file else []


def blocks(text: str, page: str = "") -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    for found in _FENCED.finditer(text):
        headings = _HEADING.findall(_without_blocks(text[: found.start()]))
        yield Block(
            page=page,
            heading=headings[-1] if headings else "",
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            text=textwrap.dedent(found["text"]),
            file=found["file"] or "",
            of_a_host=text[: found.start()].endswith("<!-- of some host -->\n"),
        )


def _without_blocks(text: str) -> str:
    """A comment of a shell is no heading."""
    return _FENCED.sub("", text)


def steps(text: str) -> Iterator[Step]:
    """Yield the files and commands of a page."""
    for block in blocks(text):
        yield from block.steps


def _places(nav: Any) -> Iterator[str]:
    for entry in nav:
        for place in entry.values():
            yield from [place] if isinstance(place, str) else _places(place)


def names() -> list[str]:
    """Return the pages of the site in their order, and the README."""
    nav = yaml.safe_load((DOCS / "site" / "mkdocs.yml").read_text("utf-8"))["nav"]
    return ["README.md", *_places(nav)]


def text_of(page: str) -> str:
    """Return the text of a page."""
    return ((ROOT if page == "README.md" else DOCS) / page).read_text("utf-8")


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page of the site, or of the README."""
    return list(blocks(text_of(page), page))
