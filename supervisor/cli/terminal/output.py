"""Write to stdout and stderr: one JSON document, a stream of JSON lines, or text and tables for people."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .columns import Columns, is_styled

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PIPED_WIDTH = 10_000  # columns: piped output is never wrapped
TABLE_WIDTH = 120  # columns: on a narrower terminal lines run on, which reads better than columns cut to "…"

LEAST_FOLDED = 30  # columns for a text that may wrap
GAP = 2  # columns between those of a table


class Output:
    """Prints results. With ``--json`` nothing but JSON reaches stdout."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, data: Any, show: Callable[[], None]) -> None:
        """Write the whole result of a command: ``data`` as JSON, or what ``show`` prints."""
        if self.as_json:
            write(as_json(data, indent=2))
        else:
            show()

    def item(self, data: Any, text: Callable[[], str]) -> None:
        """Write one of a stream of results: a line of JSON, or a line of text. Flushed, since a reader waits for it."""
        write(as_json(data) if self.as_json else printable(text()))

    def note(self, message: str) -> None:
        """Write a note for people to stderr; nothing with ``--json``."""
        if not self.as_json:
            print(printable(message), file=sys.stderr, flush=True)


def as_json(data: Any, indent: int | None = None) -> str:
    """Return ``data`` as JSON that stdout can encode: what its locale lacks is escaped, so that nothing is lost."""
    text = json.dumps(data, indent=indent, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, indent=indent, default=str)
    return text


def write(text: str) -> None:
    """Write a line to stdout. Characters that cannot be encoded become question marks."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def show(*parts: RenderableType | Columns, width: int = TABLE_WIDTH) -> None:
    """Write tables and styled text to stdout; styled only on a terminal, and not with NO_COLOR.

    Args:
        width: columns a table may have even if the terminal has fewer.
    """
    for part in parts:
        if isinstance(part, Columns):
            for line in part.lines(styled=is_styled()):
                write(line)
        else:
            _show_rich(part, width)


def _show_rich(part: RenderableType, width: int) -> None:
    from rich.console import ConsoleDimensions
    from rich.table import Table

    out = console()
    is_table = isinstance(part, Table)
    columns = max(out.width, width, _table_width(part) if is_table else 0)
    # Columns and lines: with columns alone rich takes a dumb terminal for one of 80 columns.
    out.size = ConsoleDimensions(columns, out.height)
    out.print(part, soft_wrap=not is_table)


def _table_width(table: Table) -> int:
    """Return the columns for a table: enough for all that may not wrap, such as ids, in full."""
    from rich.cells import cell_len

    needed = 0
    for column in table.columns:
        widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        needed += GAP + (widest if column.no_wrap else min(widest, LEAST_FOLDED))
    return needed


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # 35 ms, which programs that read JSON do not have to wait for

    stream = sys.stderr if stderr else sys.stdout
    size = shutil.get_terminal_size() if stream.isatty() else os.terminal_size((PIPED_WIDTH, 25))
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=size.columns, height=size.lines)


def give_up_stdout() -> None:
    """Discard what is still written to stdout, at the exit of Python too: its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def complain(message: str) -> None:
    """Write an error to stderr."""
    print(printable(f"error: {message}"), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Remove from ``text`` what would control a terminal: mods and agents choose their words freely."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    return character if is_shown(character) or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"


def is_shown(character: str) -> bool:
    """Return whether a character is text: Python calls spaces of other scripts and joiners of letters unprintable."""
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
