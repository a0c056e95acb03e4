"""Show the figures of a run: a table in the terminal, and the page docs/figures.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from .record import Record
from .rows import COLUMNS, FLOOR, OURS, ROWS, short
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


def cell(found: Spread | None) -> tuple[str, str]:
    """Return the median, and from where to where; a figure that was measured once has no span."""
    if found is None:
        return "–", ""
    span = "" if found.low == found.high else f"{number(found.low)} to {number(found.high)}"
    return number(found.median), span


def comparison(line: Line) -> tuple[str, str, str]:
    """Return the ratio, the goal, and whether the goal is met."""
    ratio = "–" if line.ratio is None else f"{number(line.ratio.median)} × {short(line.row.reference or '')}"
    if line.row.goal is None:
        return ratio, "", ""
    return ratio, str(line.row.goal), MISSED.upper() if line.verdict == MISSED else str(line.verdict)


def table(lines: Sequence[Line], columns: Sequence[str], goals: bool = True) -> Table:
    """Make the table of the terminal. Without goals, nothing is judged."""
    made = Table(title=f"event of {EVENT_SIZE} bytes; median of the rounds, smallest to largest")
    for head in ("", "unit"):
        made.add_column(head)
    for head in (*(COLUMNS[column] for column in columns), "ratio"):
        made.add_column(head, justify="right")
    for head in ("goal", "") if goals else ():
        made.add_column(head)
    for each in lines:
        cells = [(column, *cell(each.cells.get(column))) for column in columns]
        shown = [f"{mid}\n[dim]{span}[/]" if span and who in (OURS, FLOOR) else mid for who, mid, span in cells]
        ratio, goal, verdict = comparison(each)
        color = "bold red" if each.verdict == MISSED else "green"
        last = [goal, f"[{color}]{verdict}[/]" if verdict else ""] if goals else []
        made.add_row(each.row.label, each.row.unit, *shown, ratio, *last)
    return made


def page(record: Record) -> str:
    """Write docs/figures.md, so that no figure of it is written by hand."""
    machine, columns = record.machine, columns_of(record)
    rows = [["", "unit", *(COLUMNS[column] for column in columns), "ratio", "goal", ""]]
    rows.append(["---"] * len(rows[0]))
    for each in (line(row, record.rounds) for row in ROWS):
        cells = [cell(each.cells.get(column)) for column in columns]
        shown = [f"{middle} ({span})" if span else middle for middle, span in cells]
        rows.append([each.row.label, each.row.unit, *shown, *comparison(each)])
    said = [*(f"{COLUMNS[column]}: {why}" for column, why in record.absent.items()), *record.notes]
    return (
        f"""# Figures

Written by `make bench` on {record.date}: {machine["cores"]} cores, {machine["system"]}, Python {machine["python"]}, \
load {machine["load"]:.1f} when it began; {len(record.rounds)} rounds, an event of {EVENT_SIZE} bytes.
Medians, in brackets the smallest and the largest; [how it is measured](performance.md).

![modvisor's figures beside those of others](speed.svg)

{chr(10).join(f"| {' | '.join(cells)} |" for cells in rows)}

{chr(10).join(f"- {text}" for text in said)}
""".rstrip()
        + "\n"
    )
