"""One process tree under watch: turns samples into readings and obeys what its `Watch` decides.

Called from the watchdog's threads. Each tree is touched by one thread for its processes and by
another one for its storage folder; the two share nothing but ``written``.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config import LimitsConfig
from .background import set_idle, set_small_share
from .cgroups import Cgroup
from .disk_usage import disk_usage
from .greed import Greed
from .over_limit import Exceeded, Reading, Watch
from .process_table import parse_stat, read_proc
from .samples import ProcessSample, memory_held, seconds_waited

logger = logging.getLogger("modvisor.watchdog")

DISK_INTERVAL = 10.0
"""Seconds between two looks into a storage folder."""

DISK_SHARE = 0.01
"""The largest share of the time that looking into one folder may take."""

_YIELDS = {
    True: "computes while others wait for the processor: it has a third of the usual share until it uses less",
    False: "has its usual share of the processor again",
}

_SWITCHED = {
    True: "uses more than its share of the CPU: it now runs only when nobody else wants to",
    False: "uses less than its share of the CPU again: it runs as usual",
}


@dataclass(eq=False, slots=True)
class WatchedTree:
    """The tree of one incarnation.

    Attributes:
        pid: the worker's.
        storage: the mod's folder, whose size counts against ``disk``.
        on_exceeded: called with the mod's id, the incarnation's number and the exceeded limit.
        is_idle: whether the kernel was told to run the tree behind all others.
        stays_idle: whether the kernel refuses to take that back.
        waited: when the waiting time of the threads was read last, and what it was.
        greed: whether the tree must have a smaller share of the processor; ``pids``: who has it then.
        disk_due: monotonic seconds of the next look into the folder.
        written: bytes that the worker has written to disk; ``written_at_look``: at the last look.
    """

    mod_id: str
    number: int
    pid: int
    limits: LimitsConfig
    watch: Watch
    cgroup: Cgroup | None
    storage: Path | None
    on_exceeded: Callable[[str, int, Exceeded], None]
    newest: Reading | None = None
    is_idle: bool = False
    stays_idle: bool = False
    waited: tuple[float, float] | None = None
    greed: Greed = field(init=False)
    pids: tuple[int, ...] = ()
    disk_due: float = 0.0
    disk_used: int | None = None
    written: int = 0
    written_at_look: int | None = None

    def __post_init__(self) -> None:
        self.greed = Greed(self.limits.cpu_yield)

    # -- processes

    def take(self, sample: ProcessSample) -> list[Exceeded]:
        """Take a new sample. Return the limits that the tree exceeds."""
        reading = self._reading(sample)
        if self.watch.doubts(reading):
            reading = _exact(reading, sample)
        self.newest, self.pids = reading, sample.tree
        if sample.write_bytes is not None:
            self.written = sample.write_bytes
        return self.watch.take(reading)

    @property
    def is_near(self) -> bool:
        """Whether the newest reading is near a limit."""
        return self.newest is not None and self.watch.is_near(self.newest)

    def _reading(self, sample: ProcessSample) -> Reading:
        now = time.monotonic()
        cores = None if sample.cpu_percent is None else sample.cpu_percent / 100
        if self.is_idle and cores is not None:
            cores += self._waiting(sample, now)
        processes = len(sample.tree) - sample.zombies
        return Reading(now, sample.rss, processes, sample.threads - sample.zombies, sample.zombies, cores)

    def _waiting(self, sample: ProcessSample, now: float) -> float:
        """Return the cores that a tree behind all others would have used if it had got them.

        Without them a tree that starves would look modest, and would come back.
        """
        waiting = seconds_waited(sample.tree)
        if waiting is None:
            return 0.0
        before, self.waited = self.waited, (now, waiting)
        if before is None or now <= before[0]:
            return self.limits.cpu or 0.0  # unknown yet: enough to leave things as they are
        return max(0.0, waiting - before[1]) / (now - before[0])

    def apply_idle(self, sample: ProcessSample) -> None:
        """Run the tree behind all others, or as usual again, as `Watch.idle` says."""
        wanted = self.watch.idle
        if self.stays_idle or (not wanted and not self.is_idle):
            return
        if wanted and self.greed.yields:  # it is behind all others now
            self._set_small_share(False)
            self.greed = Greed(self.limits.cpu_yield)
        if self.cgroup is not None and self.cgroup.idle(wanted):
            done = True
        else:
            done = sys.platform == "linux" and set_idle(sample.tree, wanted)
        if wanted != self.is_idle:
            logger.info("mod %s %s", self.mod_id, _SWITCHED[wanted])
            self.waited = None
        if not done and not wanted:
            self.stays_idle = True
            logger.warning(
                "mod %s runs behind all others until its next process: the kernel lets only processes with "
                "CAP_SYS_NICE take that back; see `modvisor doctor`",
                self.mod_id,
            )
            return
        self.is_idle = wanted and done

    def judge_greed(self, now: float) -> None:
        """Make the tree's share of the processor smaller, or usual again, as `Greed` says."""
        if self.is_idle or self.greed.limit is None:
            return
        before = self.greed.yields
        waited = seconds_waited(self.pids) if before else None
        self.greed.take(now, self._seconds_used() + (waited or 0.0))
        if self.greed.yields != before and not self._set_small_share(self.greed.yields):
            self.greed = Greed(None)  # the kernel has no means for it

    def _seconds_used(self) -> float:
        if self.cgroup is not None and (used := self.cgroup.cpu_seconds()) is not None:
            return used
        stats = {pid: read_proc(f"/proc/{pid}/stat") for pid in self.pids or (self.pid,)}
        return sum(parse_stat(pid, stat).cpu for pid, stat in stats.items() if stat)

    def _set_small_share(self, on: bool) -> bool:
        logger.info("mod %s %s", self.mod_id, _YIELDS[on])
        if self.cgroup is not None and self.cgroup.weigh(on):
            return True
        return sys.platform == "linux" and set_small_share(self.pids or (self.pid,), on)

    # -- its storage folder

    def is_disk_due(self, now: float) -> bool:
        """Return whether to look into the folder now.

        That is at a regular interval, and earlier if the worker has written so much since the last
        look that it may be over its limit.
        """
        if self.storage is None or self.limits.disk is None:
            return False
        if self.written_at_look is None or now >= self.disk_due:
            return True
        left = self.limits.disk - (self.disk_used or 0)
        was_quick = (self.disk_due - now) <= DISK_INTERVAL  # slow looks keep their distance
        return was_quick and self.written - self.written_at_look > left

    def measure_disk(self, given_up: Callable[[], bool]) -> list[Exceeded]:
        """Measure the folder. Return its limit if the folder is over it."""
        assert self.storage is not None
        began, written = time.monotonic(), self.written
        used = disk_usage(self.storage, given_up)
        now = time.monotonic()
        self.written_at_look, self.disk_used = written, used
        self.disk_due = now + max(DISK_INTERVAL, (now - began) / DISK_SHARE)
        return self.watch.take_disk(used, now)


def _exact(reading: Reading, sample: ProcessSample) -> Reading:
    held = memory_held(sample.tree)
    return reading if held is None else replace(reading, memory=held, memory_exact=True)
