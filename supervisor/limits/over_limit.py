"""What is over a limit, decided from numbers and times alone.

`Watch` compares the readings of one worker's process tree with the limits of its mod. It asks no
system and ends nobody: readings go in, `Exceeded` comes out, and `Watch.idle` says whether the tree
must run behind all others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..config import LimitsConfig

NEAR = 0.8
"""The share of a limit above which a tree counts as near it."""

REPEAT = 10.0
"""Seconds until the same resource is reported again while it stays over its limit."""

ZOMBIES = 10
"""How many ended processes a mod may leave unreaped, as a multiple of ``processes``.

A zombie takes no memory, but pids are few.
"""

IDLE_AFTER = 1.0
"""Seconds over its share of the CPU until a tree runs behind all others."""

SHARE_AFTER = 3.0
"""Seconds well below its share until the tree runs as usual again."""

WELL_BELOW = 0.8
"""The share of the CPU limit below which a tree counts as well below it."""

_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Exceeded:
    """One limit that is exceeded.

    Attributes:
        resource: the config's name of the limit: memory, memory_soft, processes, threads, disk.
        hard: True if the mod must be ended; False if it should be replaced when that suits.
        text: the sentence for reports: ``memory: used 612.4 MB of 500.0 MB``.
    """

    resource: str
    used: float
    limit: float
    hard: bool
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process tree uses at one moment.

    Attributes:
        at: monotonic seconds.
        memory: bytes. An inexact figure is the resident memory of all processes; it counts shared
            pages once for each process.
        processes: how many run.
        zombies: how many have ended and are not reaped.
        cores: seconds of CPU per second. For a tree that runs behind all others this includes the
            time for which it waited.
        memory_exact: whether ``memory`` counts each page once.
    """

    at: float
    memory: int
    processes: int
    threads: int
    zombies: int = 0
    cores: float | None = None
    memory_exact: bool = False


class Watch:
    """Compares what one incarnation uses with its limits.

    Attributes:
        idle: whether the tree must run only when nobody else wants the CPU.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._reported: dict[str, float] = {}  # resource -> when it was reported last
        self.idle = False
        self._crossed: float | None = None  # since when `cores` asks for the other value of `idle`

    def take(self, reading: Reading) -> list[Exceeded]:
        """Return the limits that are exceeded now, each at most once in `REPEAT` seconds."""
        self._decide_idle(reading)
        return [each for each in self._over(reading) if self._is_news(each, reading.at)]

    def take_disk(self, used: int, at: float) -> list[Exceeded]:
        """Do the same for the ``used`` bytes of the storage folder."""
        limit = self._limits.disk
        if limit is None or used <= limit:
            return []
        found = Exceeded("disk", used, limit, True, f"disk: used {_size(used)} of {_size(limit)}")
        return [found] if self._is_news(found, at) else []

    def doubts(self, reading: Reading) -> bool:
        """Return whether to measure memory exactly before anybody is ended for it.

        An exact figure is expensive, so only a tree that seems to be over its limit pays for it.
        """
        least = min(filter(None, (self._limits.memory, self._limits.memory_soft)), default=None)
        return least is not None and reading.memory > least and not reading.memory_exact

    def is_near(self, reading: Reading) -> bool:
        """Return whether the tree could exceed a limit before the next pass at the usual
        interval.
        """
        limits = self._limits
        pairs = (
            (reading.memory, limits.memory_soft or limits.memory),
            (reading.processes + reading.zombies // ZOMBIES, limits.processes),
            (reading.threads, limits.threads),
            (reading.cores or 0.0, limits.cpu),
        )
        return any(limit is not None and used > NEAR * limit for used, limit in pairs)

    def _over(self, reading: Reading) -> Iterable[Exceeded]:
        limits = self._limits
        if limits.memory is not None and reading.memory > limits.memory:
            yield _memory("memory", reading.memory, limits.memory, hard=True)
        elif limits.memory_soft is not None and reading.memory > limits.memory_soft:
            yield _memory("memory_soft", reading.memory, limits.memory_soft, hard=False)
        if limits.processes is not None:
            if reading.processes > limits.processes:
                yield _count("processes", reading.processes, limits.processes)
            elif reading.zombies > ZOMBIES * limits.processes:
                text = f"processes: {reading.zombies} that ended and were not waited for, {limits.processes} allowed"
                yield Exceeded("processes", reading.zombies, limits.processes, True, text)
        if limits.threads is not None and reading.threads > limits.threads:
            yield _count("threads", reading.threads, limits.threads)

    def _is_news(self, exceeded: Exceeded, at: float) -> bool:
        reported = self._reported.get(exceeded.resource)
        if reported is not None and at - reported < REPEAT:
            return False
        self._reported[exceeded.resource] = at
        return True

    def _decide_idle(self, reading: Reading) -> None:
        """Set `idle`.

        A dead band and a delay on both sides keep a mod that uses just its share from switching to
        and fro.
        """
        share = self._limits.cpu
        if share is None or reading.cores is None:
            return
        crosses = reading.cores < WELL_BELOW * share if self.idle else reading.cores > share
        if not crosses:
            self._crossed = None
        elif self._crossed is None:
            self._crossed = reading.at
        elif reading.at - self._crossed >= (SHARE_AFTER if self.idle else IDLE_AFTER):
            self.idle, self._crossed = not self.idle, None


def _memory(resource: str, used: int, limit: int, *, hard: bool) -> Exceeded:
    return Exceeded(resource, used, limit, hard, f"{resource}: used {_size(used)} of {_size(limit)}")


def _count(resource: str, used: int, limit: int) -> Exceeded:
    return Exceeded(resource, used, limit, True, f"{resource}: {used} of {limit}")


def _size(value: int) -> str:
    return f"{value / _MEGABYTE:.1f} MB"
