"""How much is measured: all of it, or as little as shows that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of a run. Times in seconds, sizes in bytes.

    Attributes:
        seconds: of each loop that measures.
        warm_up: events before one begins.
        cycles: loads and unloads, and kills, of which a round's figure is the median.
        saves: of a mod's file; ``workers``: alive at once when memory is measured; ``busy``: events that one of them has had.
        news: events that go to all of ``receivers`` agents, before these are emptied; ``issues``: how often.
        many: mods in one network; ``idle``: how long their idling is measured, after ``settling``.
        many_rounds: of the rounds, in how many that is done; ``slow_rounds``: in how many those are asked that take long.
        mods, agents, served, sizes, widths: the points of the curves.
        batch: events by which the cost of one is measured at a point; ``batches``: of them, where it is scaled by a fixed job.
        serving: at most so long on the way to the last of ``served``; None: as long as it takes.
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
    many_rounds: int = 2
    slow_rounds: int = 2
    idle: float = 5.0
    settling: float = 1.5
    mods: tuple[int, ...] = (1, 10, 50, 200)
    agents: tuple[int, ...] = (1, 100, 1_000, 10_000)
    served: tuple[int, ...] = (1, 10_000, 100_000, 1_000_000)
    sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000, 1_000_000, 16 * 1024 * 1024)
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    batch: int = 5000
    batches: int = 3
    serving: float | None = 25.0


SMOKE = Plan(
    rounds=1, seconds=0.05, warm_up=20, cycles=1, saves=1, workers=1, busy=50, receivers=50, news=10, issues=1,
    many=8, many_rounds=1, idle=0.2, settling=0.1, mods=(1, 3), agents=(1, 50), served=(1, 500),
    sizes=(100, 1_000_000), widths=(1, 64), batch=100, batches=1,
)  # fmt: skip
