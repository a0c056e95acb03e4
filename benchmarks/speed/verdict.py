"""Judge the rounds: medians with their spread, ratios within a round, goals met or missed. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .calibration import CPU, JOB, QUEUED, WORKERS
from .rows import FAST, FLOOR, OURS, SLOW, SLOW_FROM, TWO_CORES, Goal, Row

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
class Cell:
    """A figure, and the processor time of an event beside it, if that was measured.

    Attributes:
        cpu: of the process that asks; `workers`: of those that answer; `job`: a step of the job.
        queued: the share of the wall clock in which the process that asks had no core to run on.
    """

    figure: Spread
    cpu: Spread | None = None
    workers: Spread | None = None
    job: Spread | None = None
    queued: Spread | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A comparison, a goal, or both.

    Attributes:
        ratio: ours over the reference's. Above 1 in a row where more is better, we are ahead.
        cpu: the same ratio of the processor time of the processes that ask.
        verdict: None without a goal.
    """

    reference: str | None
    goal: Goal | None
    ratio: Spread | None
    cpu: Spread | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """A row with its figures."""

    row: Row
    cells: dict[str, Cell]
    marks: list[Mark]

    @property
    def missed(self) -> bool:
        return any(mark.verdict == MISSED for mark in self.marks)


def line(row: Row, rounds: Sequence[Round]) -> Line:
    columns = dict.fromkeys(column for each in rounds for column in each)
    cells = {column: _cell(_key(row, column), column, rounds) for column in columns}
    found = {column: cell for column, cell in cells.items() if cell is not None}
    goals = [(goal, goal.of or row.compared) for goal in row.goals if goal.wakeups in (None, wakeups(rounds))]
    more = [(None, row.compared)] if row.compared is not None and row.compared not in dict(goals).values() else []
    marks = [_mark(row, goal, of, found.get(OURS), rounds) for goal, of in [*goals, *more]]
    return Line(row, found, marks)


def wakeups(rounds: Sequence[Round]) -> str:
    """Say whether this host wakes a sleeping process on another core fast or slowly."""
    floor = _spread(TWO_CORES, FLOOR, rounds)
    return FAST if floor is not None and floor.median < SLOW_FROM else SLOW


def _cell(key: str, column: str, rounds: Sequence[Round]) -> Cell | None:
    figure = _spread(key, column, rounds)
    beside = [_spread(key + what, column, rounds) for what in (CPU, WORKERS, JOB, QUEUED)]
    return None if figure is None else Cell(figure, *beside)


def _spread(key: str, column: str, rounds: Sequence[Round]) -> Spread | None:
    return Spread.of(each[column][key] for each in rounds if key in each.get(column, {}))


def _mark(row: Row, goal: Goal | None, of: str | None, ours: Cell | None, rounds: Sequence[Round]) -> Mark:
    ratio = cpu = None
    if of is not None:
        ratio, used = Spread.of(ratios(row, of, rounds)), ratios(row, of, rounds, CPU)
        cpu = Spread.of(1 / each if row.more_is_better else each for each in used)
    verdict = None if goal is None else judged(goal, ours.figure if ours else None, ratio)
    return Mark(of, goal, ratio, cpu, verdict)


def ratios(row: Row, of: str, rounds: Sequence[Round], beside: str = "") -> list[float]:
    """Return ours over the figure of column `of`, in each round that has both."""
    ours, theirs = row.key + beside, _key(row, of) + beside
    return [
        each[OURS][ours] / each[of][theirs]
        for each in rounds
        if ours in each.get(OURS, {}) and theirs in each.get(of, {})
    ]


def judged(goal: Goal, ours: Spread | None, ratio: Spread | None) -> str:
    spread = ours if goal.of is None else ratio
    if spread is None:
        return UNMEASURED
    reached = spread.median >= goal.limit if goal.at_least else spread.median <= goal.limit
    return MET if reached else MISSED


def _key(row: Row, column: str) -> str:
    return row.key if column == OURS or row.theirs is None else row.theirs
