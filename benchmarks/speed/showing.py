"""Show the figures of a run: a table in the terminal, and the page docs/figures.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from .record import Record
from .rows import COLUMNS, FLOOR, OURS, ROWS, Row, short
from .verdict import MISSED, Line, Spread, line
from .work import EVENT_SIZE


def columns_of(record: Record) -> list[str]:
    """Return the columns to show: ours, the floor, and everyone who was measured."""
    return [column for column in COLUMNS if column in (OURS, FLOOR) or any(column in each for each in record.rounds)]


def number(value: float) -> str:
    """Write about three digits."""
    size = abs(value)
    if size < 0.1:
        return f"{value:.2g}" if size > 1e-4 else "0"
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def cells(record: Record, rows: Sequence[Row]) -> list[list[str]]:
    """Return the heads of the columns, then the cells of each row. Goals are the last two."""
    columns = columns_of(record)
    found = [["", "unit", *(COLUMNS[column] for column in columns), "ratio", "goal", ""]]
    for each in (line(row, record.rounds) for row in rows):
        figures = [_spread(each.cells.get(column)) for column in columns]
        found.append([each.row.label, each.row.unit, *figures, *_comparison(each)])
    return found


def _spread(found: Spread | None) -> str:
    if found is None:
        return "–"
    span = "" if found.low == found.high else f" ({number(found.low)} to {number(found.high)})"
    return f"{number(found.median)}{span}"


def _comparison(line: Line) -> tuple[str, str, str]:
    """Return the ratio, the goal, and whether the goal is met."""
    ratio = "–" if line.ratio is None else f"{number(line.ratio.median)} × {short(line.row.reference or '')}"
    if line.row.goal is None:
        return ratio, "", ""
    return ratio, str(line.row.goal), MISSED.upper() if line.verdict == MISSED else str(line.verdict)


def table(record: Record, rows: Sequence[Row], goals: bool = True) -> Table:
    """Make the table of the terminal. Without goals, nothing is judged."""
    head, *found = (row if goals else row[:-2] for row in cells(record, rows))
    made = Table(title=f"event of {EVENT_SIZE} bytes; median of the rounds (smallest to largest)")
    for text in head:
        made.add_column(text)
    for row in found:
        figures = (text.replace(" (", "\n(") for text in row[2:])
        made.add_row(*row[:2], *figures, style="bold" if row[-1] == MISSED.upper() else None)
    return made


def page(record: Record) -> str:
    """Write docs/figures.md, so that no figure of it is written by hand."""
    machine = record.machine
    head, *found = cells(record, ROWS)
    rows = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *found)]
    said = [
        *(f"- {COLUMNS[column]}: {why}" for column, why in record.absent.items()),
        *(f"- {n}" for n in record.notes),
    ]
    return f"""# Figures

Written by `make bench` on {record.date}: {machine["cores"]} cores, {machine["system"]}, Python {machine["python"]}, \
load {machine["load"]:.1f} when it began; {len(record.rounds)} rounds, an event of {EVENT_SIZE} bytes.
Medians, in brackets the smallest and the largest; [how it is measured](performance.md).

![modvisor's figures beside those of others](speed.svg)

{chr(10).join(["", *rows, "", *said]).strip()}
"""
