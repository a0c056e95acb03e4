"""Judge the rounds: medians with their spread, ratios within a round, goals met or missed. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .rows import OURS, Goal, Row

Round = Mapping[str, Mapping[str, float]]
"""Column to key to figure."""

MET, MISSED, UNMEASURED = "met", "missed", "not measured"


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        found = list(values)
        return cls(statistics.median(found), min(found), max(found)) if found else None


@dataclass(frozen=True, slots=True)
class Line:
    """A row with its figures. `verdict` is None for a row without a goal."""

    row: Row
    cells: dict[str, Spread]
    ratio: Spread | None
    verdict: str | None


def line(row: Row, rounds: Sequence[Round]) -> Line:
    columns = dict.fromkeys(column for each in rounds for column in each)
    cells = {}
    for column in columns:
        key = _key(row, column)
        spread = Spread.of(each[column][key] for each in rounds if key in each.get(column, {}))
        if spread is not None:
            cells[column] = spread
    ratio = Spread.of(ratios(row, rounds))
    return Line(row, cells, ratio, None if row.goal is None else judged(row.goal, cells.get(OURS), ratio))


def ratios(row: Row, rounds: Sequence[Round]) -> list[float]:
    """Return ours over the reference's, of each round that has both."""
    if row.reference is None:
        return []
    key = _key(row, row.reference)
    return [
        each[OURS][row.key] / each[row.reference][key]
        for each in rounds
        if row.key in each.get(OURS, {}) and key in each.get(row.reference, {})
    ]


def judged(goal: Goal, ours: Spread | None, ratio: Spread | None) -> str:
    spread = ours if goal.of is None else ratio
    if spread is None:
        return UNMEASURED
    reached = spread.median >= goal.limit if goal.at_least else spread.median <= goal.limit
    return MET if reached else MISSED


def _key(row: Row, column: str) -> str:
    return row.key if column == OURS or row.theirs is None else row.theirs
