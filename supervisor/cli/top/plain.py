"""The table as lines, for a terminal that cannot move its cursor, and for a file or a pipe."""

from __future__ import annotations

from collections.abc import Iterator

from ..client.live import Picture, Row
from ..terminal.columns import STYLES
from .columns import BLOCKS, Column, columns_of, fitted
from .heading import heading, worst
from .order import arranged


def lines(picture: Picture, width: int, *, ramp: str = BLOCKS, styled: bool = False) -> Iterator[str]:
    """Yield what the screen would show, all rows of it."""
    yield from heading(picture)
    if (wrong := worst(picture)) is not None:
        yield f"! {wrong}"
    rows = arranged(picture.mods.values())
    columns = columns_of(width, rows)
    yield " ".join(fitted(column.head, column) for column in columns).rstrip()
    for row in rows:
        yield " ".join(_cell(row, column, ramp, styled) for column in columns).rstrip()


def _cell(row: Row, column: Column, ramp: str, styled: bool) -> str:
    shown = column.show(row, ramp)
    text = fitted(shown.text, column)
    return f"\x1b[{STYLES[shown.style]}m{text}\x1b[0m" if styled and shown.style else text
