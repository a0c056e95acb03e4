"""Empty tables and their cells, and JSON in colours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from ..terminal.output import is_shown, printable
from .figures import NOTHING, state_style


def cell(value: Any, style: str = "") -> Text:
    """Return a cell without markup: ids and versions come from mods."""
    return Text(NOTHING if value is None else printable(str(value)), style)


def state(value: Any) -> Text:
    return cell(value, state_style(value))


def table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table with a name and a value per line."""
    made = table()
    made.show_header = False
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(cell(name), cell(value))
    return made


def json_text(data: Any) -> Text:
    """Return data as coloured JSON. Letters of any script are shown; what could control a terminal is escaped."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    text = "".join(each if is_shown(each) or each == "\n" else json.dumps(each)[1:-1] for each in text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeError:
        text = json.dumps(data, indent=2, default=str)
    return JSONHighlighter()(text)
