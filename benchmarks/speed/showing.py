"""Show the figures of a run: a table in the terminal, and the page docs/figures.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from .record import Record
from .rows import COLUMNS, FLOOR, OURS, ROWS, Row, short
from .verdict import MISSED, Cell, Line, Mark, line, wakeups
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


def lines(record: Record, rows: Sequence[Row]) -> list[Line]:
    return [line(row, record.rounds) for row in rows]


def cells(record: Record, found: Sequence[Line]) -> list[list[str]]:
    """Return the heads of the columns, then the cells of each row. Goals are the last two."""
    columns = columns_of(record)
    shown = [["", "unit", *(COLUMNS[column] for column in columns), "ratio", "goal", ""]]
    for each in found:
        figures = [_cell(each.cells.get(column)) for column in columns]
        shown.append([each.row.label, each.row.unit, *figures, *_comparison(each)])
    return shown


def _cell(found: Cell | None) -> str:
    """Write the figure, and below it the processor time of an event, the step of the job and the wait for a core."""
    if found is None:
        return "–"
    figure = found.figure
    span = "" if figure.low == figure.high else f" ({number(figure.low)} to {number(figure.high)})"
    used = [number(spread.median) for spread in (found.cpu, found.workers) if spread is not None]
    job = f", job {number(found.job.median)}" if found.job is not None else ""
    queued = f", queued {found.queued.median:.0%}" if found.queued is not None else ""
    beside = f"\nCPU {' + '.join(used)} µs{job}{queued}" if used else ""
    return f"{number(figure.median)}{span}{beside}"


def _comparison(line: Line) -> tuple[str, str, str]:
    """Return the ratios, the goals, and whether they are met: in each, one line for each mark."""
    marks = line.marks
    verdicts = (MISSED.upper() if mark.verdict == MISSED else mark.verdict or "" for mark in marks)
    goals = (str(mark.goal or "") for mark in marks)
    return "\n".join(map(_ratio, marks)) or "–", "\n".join(goals), "\n".join(verdicts)


def _ratio(mark: Mark) -> str:
    if mark.ratio is None or mark.reference is None:
        return "–"
    cpu = "" if mark.cpu is None else f" (CPU {number(mark.cpu.median)} ×)"
    return f"{number(mark.ratio.median)} × {short(mark.reference)}{cpu}"


def table(record: Record, rows: Sequence[Row], goals: bool = True) -> Table:
    """Make the table of the terminal. Without goals, nothing is judged."""
    found = lines(record, rows)
    head, *shown = (row if goals else row[:-2] for row in cells(record, found))
    made = Table(title=f"event of {EVENT_SIZE} bytes; median of the rounds (smallest to largest); {_host(record)}")
    for text in head:
        made.add_column(text)
    for row, each in zip(shown, found, strict=True):
        end = 2 + len(columns_of(record))
        figures = (text.replace(" (", "\n(") for text in row[2:end])
        made.add_row(*row[:2], *figures, *row[end:], style="bold" if goals and each.missed else None)
    return made


def _host(record: Record) -> str:
    return f"{wakeups(record.rounds)} wakeups"


def page(record: Record) -> str:
    """Write docs/figures.md, so that no figure of it is written by hand."""
    machine = record.machine
    head, *found = cells(record, lines(record, ROWS))
    rows = [f"| {' | '.join(row)} |".replace("\n", "<br>") for row in (head, ["---"] * len(head), *found)]
    said = [
        *(f"- {COLUMNS[column]}: {why}" for column, why in record.absent.items()),
        *(f"- {n}" for n in record.notes),
    ]
    return f"""# Figures

Written by `make bench` on {record.date}: {machine["cores"]} cores, {machine["system"]}, Python {machine["python"]}, \
load {machine["load"]:.1f} when it began; {len(record.rounds)} rounds, an event of {EVENT_SIZE} bytes, {_host(record)}.
Medians, in brackets the smallest and the largest. CPU is the scaled processor time of an event: of the process that \
asks + of those that answer. Job is a step of the fixed job that scales it. Queued is the share of the wall clock in \
which the process that asks could have run but had no core. [How it is measured](performance.md).

![modvisor's figures beside those of others](speed.svg)

{chr(10).join(["", *rows, "", *said]).strip()}
"""
