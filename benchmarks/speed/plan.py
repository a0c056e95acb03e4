"""How much is measured: all of it, or as little as shows that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts of a run. Times are in seconds.

    Attributes:
        seconds: duration of each loop that measures; `warm_up`: events before it.
        cycles: loads and unloads, and kills, in a round; `saves`: of a mod's file.
        workers: alive at once when memory is measured; `busy`: events that each of them gets.
        news: broadcasts to all `receivers` before the inboxes are emptied; `issues`: how often.
        many: mods in one network; they idle for `idle` after `settling`.
        slow_rounds: rounds in which the slow peers are asked.
        agents_online: over HTTP.
        mods, agents, served: how far growth is measured.
        batch: events by which the cost of one is measured, where two networks take turns.
        pairs: of such batches, in each round of growth.
        serving: time to serve that many; None: as long as it takes.
    """

    rounds: int = 5
    seconds: float = 0.4
    warm_up: int = 1000
    cycles: int = 10
    saves: int = 2
    workers: int = 4
    busy: int = 2000
    receivers: int = 1000
    news: int = 100
    issues: int = 2
    many: int = 200
    slow_rounds: int = 2
    idle: float = 3.0
    settling: float = 1.5
    agents_online: int = 64
    mods: int = 200
    agents: int = 10_000
    served: int = 1_000_000
    batch: int = 1000
    pairs: int = 12
    serving: float | None = 30.0


SMOKE = Plan(
    rounds=1, seconds=0.05, warm_up=20, cycles=1, saves=1, workers=1, busy=50, receivers=50, news=10, issues=1,
    many=8, idle=0.2, settling=0.1, agents_online=4, mods=3, agents=50, served=500, batch=100, pairs=1,
)  # fmt: skip
