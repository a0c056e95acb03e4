"""One row for each mod, as a page or `modvisor top` shows it, brought up to date for all who watch.

A look at all mods costs little where little happens: what a row shows is first read as a plain tuple,
and only a mod whose tuple has changed gets a new row. The uptime does not count as a change: a row
says since when its process runs. Quantiles of latencies are read for some mods in each look, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...calls import ModCounters
from ...config import ModConfig, Split, family_of
from ...lifecycle import Keeper, State
from ..mods.workers import Mod
from ..read_models import latencies
from ..registry.families import Families
from .history import History
from .monitor import ResourceMonitor

LATENCIES_PER_LOOK = 200
"""Mods whose quantiles are read in one look: each takes about 10 µs."""

AT_ONCE = 100
"""Mods that are looked at before the event loop gets a turn."""

Figures = tuple[Any, ...]


class Row:
    """What is known of one mod: the row, and from what it was made.

    Attributes:
        seq: the number of the look in which it changed last.
        figures, events, rate: from which the row was made.
        answers: events whose latencies are in the quantiles.
        data: what is shown, without the histories.
    """

    __slots__ = ("answers", "data", "events", "figures", "quantiles", "rate", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.figures: Figures = ()
        self.events = 0
        self.rate = 0.0
        self.answers = -1
        self.quantiles: tuple[float | None, float | None] = (None, None)
        self.data: dict[str, Any] = {}

    def rate_of(self, events: int, seconds: float) -> float:
        """Return the events per second since this was last asked. A mod that was loaded anew counts from 0."""
        passed, self.events = events - self.events, events
        if not passed or not seconds or not self.data:
            return 0.0
        return round((passed if passed > 0 else events) / seconds, 2)


class ModRows:
    """The rows of all mods, by id, in load order.

    Args:
        mods: returns the loaded mods.
    """

    def __init__(
        self, mods: Callable[[], Iterable[Mod]], families: Families, monitor: ResourceMonitor, history: History
    ) -> None:
        self._mods = mods
        self._families = families
        self._monitor = monitor
        self._history = history
        self.rows: dict[str, Row] = {}
        self._splits: Mapping[str, Split] = {}  # as of the look
        self._first = 0  # the place of the mod whose quantiles are read first in the next look

    def used(self) -> Iterator[tuple[str, float | None, int | None]]:
        """Return what each mod uses now: its id, processor time in per cent, memory in bytes."""
        for mod in self._mods():
            cpu, rss = self._used(mod)
            yield mod.mod_id, cpu, rss

    def look(self, seq: int, seconds: float | None) -> Iterator[None]:
        """Bring all rows up to date. Each step looks at `AT_ONCE` mods; the caller gives the loop a turn between them.

        Args:
            seq: the number of this look.
            seconds: over which rates are taken. None: they stay as they are; 0: they are not known.
        """
        left, first, seen = LATENCIES_PER_LOOK, self._first, {}
        self._first = 0
        self._splits = self._families.splits
        for place, mod in enumerate(list(self._mods())):
            row = self.rows.get(mod.mod_id) or Row()
            left -= self._bring_up_to_date(row, mod, seq, seconds, is_turn=left > 0 and place >= first)
            seen[mod.mod_id] = row
            if left == 0 and not self._first:
                self._first = place + 1
            if place % AT_ONCE == AT_ONCE - 1:
                yield
        self.rows = seen

    def _bring_up_to_date(self, row: Row, mod: Mod, seq: int, seconds: float | None, *, is_turn: bool) -> bool:
        """Return whether the quantiles were read."""
        counters = mod.counters
        events, figures = counters.events_in, self._figures(mod, counters)
        rate = row.rate if seconds is None else row.rate_of(events, seconds)
        reads = is_turn and row.answers != events
        if rate == row.rate and not reads and figures == row.figures:
            return False
        if reads:
            row.answers, row.quantiles = events, latencies(counters.latency)
        data = row.data if row.figures and row.figures[0] == figures[0] else self._lasting(mod)
        row.data = {**data, **_passing(figures, rate, row.quantiles)}
        row.figures, row.rate, row.seq = figures, rate, seq
        return reads

    def _figures(self, mod: Mod, counters: ModCounters) -> Figures:
        """Return what a row shows that may change by itself."""
        if isinstance(mod, Keeper):  # nearly all mods have one worker
            incarnation, caller = mod.incarnation, mod.caller
            sample = None if incarnation is None else self._monitor.of(incarnation.pid)
            cpu, rss = (None, None) if sample is None else (sample.cpu_percent, sample.rss)
            in_flight, queue, quarantined = caller.in_flight_count, caller.depth, mod.quarantined
        else:
            incarnation, (cpu, rss), keepers = mod.incarnation, self._used(mod), mod.keepers
            in_flight = sum(keeper.caller.in_flight_count for keeper in keepers)
            queue = sum(keeper.caller.depth for keeper in keepers)
            quarantined = next((keeper.quarantined for keeper in keepers if keeper.quarantined is not None), None)
        number = None if incarnation is None else incarnation.number
        split = self._splits.get(family_of(mod.mod_id)) if self._splits else None
        return (
            (number, mod.audience, split, mod.config, mod.manifest),
            mod.state, cpu, rss, in_flight, queue, counters.failed, counters.dead_lettered, counters.restarts,
            quarantined, mod.last_error,
        )  # fmt: skip

    def _used(self, mod: Mod) -> tuple[float | None, int | None]:
        """Return what all workers of a mod use together."""
        pids = [keeper.incarnation.pid for keeper in mod.keepers if keeper.incarnation is not None]
        samples = [sample for pid in pids if (sample := self._monitor.of(pid)) is not None]
        cpus = [sample.cpu_percent for sample in samples if sample.cpu_percent is not None]
        return sum(cpus) if cpus else None, sum(sample.rss or 0 for sample in samples) if samples else None

    def _lasting(self, mod: Mod) -> dict[str, Any]:
        """Return the part of a row that stays while a mod has the same config, process and audience."""
        incarnation, manifest, workers = mod.incarnation, mod.manifest, len(mod.keepers)
        cpu_limit, memory_limit = _limits(mod.config, workers)
        return {
            "id": mod.mod_id,
            "path": mod.config.path,
            "version": None if manifest is None else manifest.version,
            "since": None if incarnation is None else round(time.time() - incarnation.uptime, 1),
            "pid": None if incarnation is None or workers > 1 else incarnation.pid,
            "workers": workers,
            "cpu_limit": cpu_limit,
            "memory_limit": memory_limit,
            "family": family_of(mod.mod_id),
            "audience": self._audience(mod),
        }

    def _audience(self, mod: Mod) -> str:
        if mod.audience is None and self._families.split_of(mod.mod_id) is None:
            return "all"
        return self._families.stats_of(mod).reaches


def _passing(figures: Figures, rate: float, quantiles: tuple[float | None, float | None]) -> dict[str, Any]:
    """Return the part of a row that changes with each event."""
    _, state, cpu, rss, in_flight, queue, failed, letters, restarts, quarantined, error = figures
    return {
        "state": str(state),
        "restarts": restarts,
        "cpu": None if cpu is None else round(cpu, 1),
        "rss": rss,
        "rate": rate,
        "p50": quantiles[0],
        "p99": quantiles[1],
        "in_flight": in_flight,
        "queue": queue,
        "failed": failed,
        "dead_letters": letters,
        "problem": quarantined or (None if state is State.READY else error),
    }


def _limits(config: ModConfig, workers: int) -> tuple[float | None, int | None]:
    """Return per cent of a core and bytes that all workers of a mod may use together."""
    cpu, memory = config.limits.cpu, config.limits.memory
    return None if cpu is None else round(cpu * 100 * workers, 1), None if memory is None else memory * workers
