"""One process tree under watch: turns samples into readings and obeys what its `Watch` decides.

Called from the watchdog's threads. Each tree is touched by one thread for its processes and by
another one for its storage folder; the two share nothing but ``written``.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import LimitsConfig
from .background import set_idle
from .cgroups import Cgroup
from .disk_usage import disk_usage
from .over_limit import Exceeded, Reading, Watch
from .samples import ProcessSample, memory_held, seconds_waited

logger = logging.getLogger("modvisor.watchdog")

DISK_INTERVAL = 10.0
"""Seconds between two looks into a storage folder."""

DISK_SHARE = 0.01
"""The largest share of the time that looking into one folder may take."""

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
    disk_due: float = 0.0
    disk_used: int | None = None
    written: int = 0
    written_at_look: int | None = None

    # -- processes

    def take(self, sample: ProcessSample) -> list[Exceeded]:
        """Take a new sample. Return the limits that the tree exceeds."""
        reading = self._reading(sample)
        if self.watch.doubts(reading):
            reading = _exact(reading, sample)
        self.newest = reading
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
