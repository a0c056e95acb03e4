"""A table whose columns are never cut: one line per row, wider than the terminal if need be.

rich draws all other tables. `modvisor ps` and `modvisor run` do not wait for its import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

GAP = "  "
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}  # SGR codes of terminals


class Cell(NamedTuple):
    """A text and how it is shown: one of `STYLES`, or ""."""

    text: str
    style: str = ""


class Columns:
    """A table.

    Args:
        names: heads of the columns; ``right``: those whose cells stand at the right.
    """

    def __init__(self, names: Sequence[str], right: Sequence[str] = ()) -> None:
        self._right = [name in right for name in names]
        self._rows: list[Sequence[Cell]] = [[Cell(name, "bold") for name in names]]

    def add_row(self, *cells: Cell) -> None:
        """Add a row; cells that are missing at its end are empty."""
        self._rows.append([*cells, *[Cell("")] * (len(self._right) - len(cells))])

    def lines(self, *, styled: bool) -> Iterator[str]:
        """Yield the head and the rows."""
        widths = [max(_width(row[column].text) for row in self._rows) for column in range(len(self._right))]
        for row in self._rows:
            parts = zip(row, widths, self._right, strict=True)
            yield GAP.join(_shown(each, width, right, styled) for each, width, right in parts).rstrip()


def is_styled() -> bool:
    """Return whether stdout is a terminal that shows colours, and nobody asked for none."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def _shown(each: Cell, width: int, right: bool, styled: bool) -> str:
    room = " " * (width - _width(each.text))
    text = f"\x1b[{STYLES[each.style]}m{each.text}\x1b[0m" if styled and each.style else each.text
    return room + text if right else text + room


def _width(text: str) -> int:
    """Return the columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
