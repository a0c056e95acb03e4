"""Was every event that reached an inbox handled, and once? Read from the diaries. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .diary import Diary


@dataclass
class Audit:
    """What the diaries of all agents say together.

    Attributes:
        sent: events whose answer said that they have reached an inbox.
        unanswered: events that nobody knows to have arrived.
        lost: answered events that nobody has handled; `repeated`: those that were handled twice.
        told: how many events agents were told to have lost.
    """

    sent: int
    handled: int
    unanswered: int
    lost: int
    repeated: int
    told: int
    p50_ms: float
    p99_ms: float

    @property
    def is_settled(self) -> bool:
        return not (self.unanswered or self.lost)


def audit(diaries: Iterable[Diary]) -> Audit:
    diaries = list(diaries)
    handled = Counter(event for diary in diaries for event in diary.got)
    done = {event for diary in diaries for event in diary.done}
    waited = sorted(each for diary in diaries for each in diary.waited)
    return Audit(
        sent=len(done),
        handled=handled.total(),
        unanswered=sum(len(diary.unanswered) for diary in diaries),
        lost=len(done - handled.keys()),
        repeated=sum(count - 1 for count in handled.values()),
        told=sum(diary.told for diary in diaries),
        p50_ms=_quantile(waited, 0.5),
        p99_ms=_quantile(waited, 0.99),
    )


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("inf")
