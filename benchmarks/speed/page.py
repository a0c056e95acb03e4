"""The same table as a page, docs/figures.md, so that no figure in the documentation is written by hand."""

from __future__ import annotations

from collections.abc import Sequence

from . import wording
from .record import Record
from .rows import COLUMNS
from .verdict import Line
from .work import EVENT_SIZE


def page(record: Record, lines: Sequence[Line], columns: Sequence[str]) -> str:
    machine = record.machine
    head = ["", "unit", *(COLUMNS[column] for column in columns), "ratio", "goal", ""]
    return "\n".join(
        [
            "# Figures",
            "",
            f"Written by `make bench` on {record.date}: {machine['cores']} cores, {machine['system']} {machine['release']} "
            f"{machine['machine']}, Python {record.versions['python']}, load {machine['load'][0]:.1f} when it began; "
            f"{len(record.rounds)} rounds, an event of {EVENT_SIZE} bytes.",
            "Medians, in brackets the smallest and the largest; [how it is measured](performance.md). Every round is in "
            "[figures.json](figures.json).",
            "",
            _row(head),
            _row(["---"] * len(head)),
            *(_row(_cells(line, columns)) for line in lines),
            "",
            *(f"- {COLUMNS[column]}: {why}" for column, why in record.absent.items()),
            *(f"- {note}" for note in record.notes),
            "",
            "![our figures beside those of others](speed.svg)",
            "",
            "![how the cost of an event grows](scaling.svg)",
            "",
        ]
    )


def _cells(line: Line, columns: Sequence[str]) -> list[str]:
    cells = []
    for column in columns:
        median, rest = wording.spread(line.cells.get(column))
        cells.append(f"{median} ({rest})" if rest else median)
    goal, verdict = wording.goal(line)
    return [line.row.label, line.row.unit, *cells, wording.ratio(line), goal, verdict]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
