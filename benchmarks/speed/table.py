"""The table of a run, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from . import wording
from .rows import COLUMNS, FLOOR, OURS
from .verdict import MISSED, Line
from .work import EVENT_SIZE


def table(lines: Sequence[Line], columns: Sequence[str], goals: bool = True) -> Table:
    """Of these columns of `COLUMNS`; without goals, nothing is compared with them."""
    made = Table(title=f"event of {EVENT_SIZE} bytes; median of the rounds, smallest to largest", show_lines=False)
    made.add_column("")
    made.add_column("unit")
    for column in columns:
        made.add_column(COLUMNS[column], justify="right")
    made.add_column("ratio", justify="right")
    if goals:
        made.add_column("goal")
        made.add_column("")
    for line in lines:
        cells = [_cell(line, column) for column in columns]
        last: list[str] = []
        if goals:
            goal, verdict = wording.goal(line)
            last = [goal, f"[{'bold red' if line.verdict == MISSED else 'green'}]{verdict}[/]" if verdict else ""]
        made.add_row(line.row.label, line.row.unit, *cells, wording.ratio(line), *last)
    return made


def _cell(line: Line, column: str) -> str:
    median, rest = wording.spread(line.cells.get(column))
    return f"{median}\n[dim]{rest}[/dim]" if rest and column in (OURS, FLOOR) else median
