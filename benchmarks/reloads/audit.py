"""Return broken promises in words; a run with an empty list has passed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def events(sent: Counter[str], answered: Counter[str], failed: Counter[str], unanswered: int) -> Iterator[str]:
    """Check that no event was lost and none failed."""
    if unanswered:
        yield f"{unanswered} events were lost: their senders were told nothing"
    for code, count in failed.items():
        yield f"{count} events failed: {code}"
    short = sent.total() - answered.total() - failed.total() - unanswered
    if short:
        yield f"{short} events were neither answered nor failed nor are they missing"


def counts(sent: Counter[str], told: Mapping[str, Any]) -> Iterator[str]:
    """Check that each event was handled once and in order, and that the counts are exact."""
    for what in ("begun", "done"):
        for source in {*sent, *told[what]}:
            if told[what].get(source, 0) != sent[source]:
                yield f"{source}: {sent[source]} events sent, {told[what].get(source, 0)} {what}"
    yield from told["wrong"]
    if (more := told["wrong_count"] - len(told["wrong"])) > 0:
        yield f"and {more} more of the kind"


def together(told: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge what the workers of one mod say, each about its own sources."""
    total: dict[str, Any] = {"begun": {}, "done": {}, "wrong": [], "wrong_count": 0}
    for one in told:
        total["begun"] |= one["begun"]
        total["done"] |= one["done"]
        total["wrong"] += one["wrong"]
        total["wrong_count"] += one["wrong_count"]
    return total


def handovers(asked: int, told: Mapping[str, Any], stats: Mapping[str, Any]) -> Iterator[str]:
    """Check that each reload handed the counts over once, and nothing else replaced a process."""
    if told["handovers"] != asked:
        yield f"{asked} reloads, but the counts were handed over {told['handovers']} times"
    for what in ("crashes", "restarts", "rollbacks", "recycled"):
        if stats[what]:
            yield f"{stats[what]} {what}"
    traffic = stats["traffic"]
    for what in ("redelivered", "dead_lettered", "durable_under_way", "in_flight", "queue_depth"):
        if traffic[what]:
            yield f"{traffic[what]} events {what.replace('_', ' ')}"
