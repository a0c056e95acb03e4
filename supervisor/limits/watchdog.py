"""Watches what every mod's process tree uses and tells what is over a limit; who is told ends it.

What is over is decided by `Watch`, which knows numbers and times only. `Watchdog` gets the numbers: in one thread it samples
all trees every few seconds, more often when a tree is near a limit, and at once when a tripwire says that something
jumped. The tripwires are two small reads of ``/proc`` for all mods together, so they can be often: a fork bomb, a leak of
threads and one of memory are seen in about a tenth of a second while nothing is spent on those who behave.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from ..config import LimitsConfig
from .cgroups import Cgroup
from .samples import ProcessSample, memory_held, waited

logger = logging.getLogger("modvisor.watchdog")

SAMPLE_INTERVAL = 2.0  # seconds between passes over all trees
NEAR_INTERVAL = 0.25  # the same while a tree is near one of its limits
TRIPWIRE_INTERVAL = 0.05
SAMPLE_SHARE = 1 / 400  # of the time at most for passes nobody is in a hurry for: with 200 mods they are 4 s apart
NEAR_SHARE = 1 / 20
TRIPPED_SHARE = 1 / 2
TASK_JUMP = 30  # processes and threads of the whole machine since the last pass
MEMORY_JUMP = 64 * 1024 * 1024  # bytes of the machine's available memory, the same
NEAR = 0.8  # of a limit
REPEAT = 10.0  # seconds until the same resource is told again, if it is still over

DISK_INTERVAL = 10.0  # seconds between looks into a storage folder
DISK_SHARE = 0.01  # of the time at most for looking

IDLE_AFTER = 1.0  # seconds over its share until a mod gets what others leave
SHARE_AFTER = 3.0  # seconds well below it until it has its share again
WELL_BELOW = 0.8

_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Exceeded:
    """One limit that is exceeded.

    Attributes:
        resource: as the config calls the limit: memory, memory_soft, processes, threads, disk.
        hard: the mod is to be ended; else it is to be replaced when that suits.
        text: ``memory: used 612.4 MB of 500.0 MB``.
    """

    resource: str
    used: float
    limit: float
    hard: bool
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a tree uses at one moment.

    Attributes:
        at: monotonic seconds.
        memory: bytes; unless ``memory_exact`` all that is resident, the pages that its processes share once for each of them.
        processes: running ones; ``zombies``: those that ended and were not waited for.
        cores: processor time per second; of one that was put back, with the time it would have run.
    """

    at: float
    memory: int
    processes: int
    threads: int
    zombies: int = 0
    cores: float | None = None
    memory_exact: bool = False


ZOMBIES = 10
"""Ended processes, as a multiple of ``processes``, that a mod may leave: they take no memory, but pids are few."""


class Watch:
    """The limits of one incarnation against what it uses. Pure: readings in, what is exceeded out.

    Attributes:
        idle: whether the tree is to run only when nobody else wants to.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._told: dict[str, float] = {}
        self.idle = False
        self._crossed: float | None = None  # since when `cores` speaks for the other state

    def take(self, reading: Reading) -> list[Exceeded]:
        """What is over its limit now; each resource once in `REPEAT` seconds."""
        self._decide_idle(reading)
        return [each for each in self._over(reading) if self._is_news(each, reading.at)]

    def take_disk(self, used: int, at: float) -> list[Exceeded]:
        limit = self._limits.disk
        if limit is None or used <= limit:
            return []
        found = Exceeded("disk", used, limit, True, f"disk: used {_size(used)} of {_size(limit)}")
        return [found] if self._is_news(found, at) else []

    def doubts(self, reading: Reading) -> bool:
        """Whether memory should be measured exactly, which is dear, before anybody is ended for it."""
        least = min(filter(None, (self._limits.memory, self._limits.memory_soft)), default=None)
        return least is not None and reading.memory > least and not reading.memory_exact

    def is_near(self, reading: Reading) -> bool:
        """Whether a limit could be exceeded before the next pass if that were as late as usual."""
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
        told = self._told.get(exceeded.resource)
        if told is not None and at - told < REPEAT:
            return False
        self._told[exceeded.resource] = at
        return True

    def _decide_idle(self, reading: Reading) -> None:
        """With a dead band and a delay on both sides, so that a mod at its share does not go to and fro."""
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


# -- putting a tree back behind all others


def set_idle(pids: Iterable[int], on: bool) -> bool:
    """Let every thread of these processes run only when nobody else wants to (SCHED_IDLE), or as usual again.

    What they start later is as they are. Linux only. Where sessions are scheduled as groups (autogroup), the policy counts
    only within the session: so the session's own weight is set, too.

    Returns:
        False if that was not allowed: to come back takes CAP_SYS_NICE (or a RLIMIT_NICE that few have).
    """
    policy, allowed = (os.SCHED_IDLE if on else os.SCHED_OTHER), True
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
            for task in map(int, tasks):
                if (os.sched_getscheduler(task) == os.SCHED_IDLE) != on:
                    os.sched_setscheduler(task, policy, os.sched_param(0))
            _weigh_session(pid, "19" if on else "0")
        except PermissionError:
            allowed = False
        except (FileNotFoundError, ProcessLookupError):
            continue
    return allowed


def _weigh_session(pid: int, nice: str) -> None:
    with suppress(OSError):  # there are no such groups
        fd = os.open(f"/proc/{pid}/autogroup", os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.read(fd, 64).split()[-1:] != [nice.encode()]:
                _write_patiently(fd, nice.encode())
        finally:
            os.close(fd)


def _write_patiently(fd: int, data: bytes) -> None:
    """Unprivileged users may change one session in a tenth of a second, all of them together."""
    for _ in range(3):
        try:
            os.write(fd, data)
            return
        except BlockingIOError:
            time.sleep(0.11)


# -- the runner


@dataclass(eq=False, slots=True)
class Watched:
    """One incarnation under watch."""

    mod_id: str
    number: int
    pid: int
    limits: LimitsConfig
    watch: Watch
    cgroup: Cgroup | None
    storage: Path | None
    on_exceeded: Callable[[str, int, Exceeded], None]
    newest: Reading | None = None
    is_idle: bool = False  # as the kernel was told
    stays_idle: bool = False  # the kernel does not let us take it back
    waited: tuple[float, float] | None = None  # when, and how long its threads had waited by then
    disk_due: float = 0.0
    disk_used: int | None = None
    written: int = 0  # bytes by the worker since the last look into its folder
    written_at_look: int | None = None


Take = Callable[[Iterable[int], Mapping[int, Iterable[int]]], Mapping[int, ProcessSample]]


class Watchdog:
    """Runs the watches of a network.

    Args:
        take: samples the trees of workers, called in a thread (`ResourceMonitor.take` of the fleet);
            raises OSError when the process table cannot be read this time.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._lock = threading.Lock()  # of the two below
        self._watched: dict[int, Watched] = {}
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.passes = 0
        self.looks = 0  # at tripwires

    def watch(
        self,
        mod_id: str,
        number: int,
        pid: int,
        limits: LimitsConfig,
        on_exceeded: Callable[[str, int, Exceeded], None],
        *,
        cgroup: Cgroup | None = None,
        storage: Path | None = None,
    ) -> None:
        """Watch the tree of worker ``pid`` from now on; what is exceeded is told in the loop's thread."""
        watched = Watched(mod_id, number, pid, limits, Watch(limits), cgroup, storage, on_exceeded)
        with self._lock:
            self._watched[pid] = watched

    def unwatch(self, pid: int) -> None:
        """It has ended, or is none of ours any more. Nothing is told of it afterwards."""
        with self._lock:
            self._watched.pop(pid, None)

    def is_idle(self, pid: int) -> bool:
        """Whether the tree was put back behind all others."""
        watched = self._watched.get(pid)
        return watched is not None and watched.is_idle

    async def run(self) -> None:
        """Until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._stopping.clear()
        threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._watch_trees, "watchdog"), (self._watch_folders, "watchdog-disk"))
        ]
        for thread in threads:
            thread.start()
        try:
            await anyio.sleep_forever()
        finally:
            self._stopping.set()
            with anyio.CancelScope(shield=True):
                for thread in threads:
                    await anyio.to_thread.run_sync(thread.join)

    # -- trees, in a thread

    def _watch_trees(self) -> None:
        tripwires = Tripwires()
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                near = self.pass_over()
                tripwires.rearm()
                self._pause(tripwires, near, took=time.monotonic() - began)
        finally:
            tripwires.close()

    def _pause(self, tripwires: Tripwires, near: bool, took: float) -> None:
        """Until the next pass is due, or a tripwire was touched."""
        interval = max(NEAR_INTERVAL, took / NEAR_SHARE) if near else max(SAMPLE_INTERVAL, took / SAMPLE_SHARE)
        now = time.monotonic()
        due, earliest = now + interval, now + took / TRIPPED_SHARE
        while now < due:
            if self._stopping.wait(min(TRIPWIRE_INTERVAL, due - now)):
                return
            now = time.monotonic()
            self.looks += 1
            if now >= earliest and self._watched and tripwires.touched():
                return

    def pass_over(self) -> bool:
        """Sample every tree once and act on it; whether one of them is near a limit. Blocks: call it in a thread."""
        self.passes += 1
        with self._lock:
            watched = list(self._watched.values())
        groups = {each.pid: each.cgroup.pids() for each in watched if each.cgroup is not None}
        try:
            samples = self._take([each.pid for each in watched], groups)
        except OSError as error:  # out of descriptors, say
            logger.warning("the mods' processes could not be looked at this time: %s", error)
            return False
        near = False
        for each in watched:
            sample = samples.get(each.pid)
            if sample is not None:
                near |= self._look_at(each, sample)
        return near

    def _look_at(self, watched: Watched, sample: ProcessSample) -> bool:
        reading = self._reading(watched, sample)
        if watched.watch.doubts(reading):
            reading = _exact(reading, sample)
        watched.newest = reading
        self._tell(watched, watched.watch.take(reading))
        self._apply_idle(watched, sample)
        if sample.write_bytes is not None:
            watched.written = sample.write_bytes
        return watched.watch.is_near(reading)

    def _reading(self, watched: Watched, sample: ProcessSample) -> Reading:
        now = time.monotonic()
        cores = None if sample.cpu_percent is None else sample.cpu_percent / 100
        if watched.is_idle and cores is not None:
            cores += self._waiting(watched, sample, now)
        processes = len(sample.tree) - sample.zombies
        return Reading(now, sample.rss, processes, sample.threads - sample.zombies, sample.zombies, cores)

    def _waiting(self, watched: Watched, sample: ProcessSample, now: float) -> float:
        """Cores that a tree behind all others would have used besides: it must not come back because others let it starve."""
        waiting = waited(sample.tree)
        if waiting is None:
            return 0.0
        former, watched.waited = watched.waited, (now, waiting)
        if former is None or now <= former[0]:
            return watched.limits.cpu or 0.0  # not known yet: as it is
        return max(0.0, waiting - former[1]) / (now - former[0])

    def _apply_idle(self, watched: Watched, sample: ProcessSample) -> None:
        wanted = watched.watch.idle
        if watched.stays_idle or (not wanted and not watched.is_idle):
            return
        if watched.cgroup is not None and watched.cgroup.idle(wanted):
            done = True
        else:
            done = sys.platform == "linux" and set_idle(sample.tree, wanted)
        if wanted != watched.is_idle:
            logger.info("mod %s %s", watched.mod_id, _SAYING[wanted])
            watched.waited = None
        if not done and not wanted:
            watched.stays_idle = True
            logger.warning("mod %s stays behind the others until its next process: no CAP_SYS_NICE", watched.mod_id)
            return
        watched.is_idle = wanted and done

    # -- folders, in a thread of their own: a look into a large one takes long

    def _watch_folders(self) -> None:
        while not self._stopping.wait(1.0):
            with self._lock:
                due = [each for each in self._watched.values() if self._is_due(each, time.monotonic())]
            for each in due:
                self.look_into_folder(each)

    def _is_due(self, watched: Watched, now: float) -> bool:
        """In its turn; earlier if the worker has written enough meanwhile to be over."""
        if watched.storage is None or watched.limits.disk is None:
            return False
        if watched.written_at_look is None or now >= watched.disk_due:
            return True
        left = watched.limits.disk - (watched.disk_used or 0)
        took = (watched.disk_due - now) <= DISK_INTERVAL  # looks that take long keep their distance
        return took and watched.written - watched.written_at_look > left

    def look_into_folder(self, watched: Watched) -> None:
        """Measure one storage folder and tell if it is over."""
        assert watched.storage is not None
        began, written = time.monotonic(), watched.written
        used = disk_usage(watched.storage, self._stopping.is_set)
        now = time.monotonic()
        watched.written_at_look, watched.disk_used = written, used
        watched.disk_due = now + max(DISK_INTERVAL, (now - began) / DISK_SHARE)
        self._tell(watched, watched.watch.take_disk(used, now))

    # -- telling

    def _tell(self, watched: Watched, found: list[Exceeded]) -> None:
        for exceeded in found:
            if self._loop is not None:
                with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                    self._loop.call_soon_threadsafe(self._told, watched, exceeded)

    def _told(self, watched: Watched, exceeded: Exceeded) -> None:
        if self._watched.get(watched.pid) is watched:
            watched.on_exceeded(watched.mod_id, watched.number, exceeded)


_SAYING = {
    True: "uses more than its share of the processor: it gets what others leave over",
    False: "uses less than its share of the processor again: it runs as usual",
}


def _exact(reading: Reading, sample: ProcessSample) -> Reading:
    held = memory_held(sample.tree)
    if held is None:
        return reading
    return Reading(
        reading.at, held, reading.processes, reading.threads, reading.zombies, reading.cores, memory_exact=True
    )


def disk_usage(folder: Path, given_up: Callable[[], bool] = lambda: False) -> int:
    """Bytes on disk of all files below ``folder``, as ``du`` counts: blocks, each file once, links not followed.

    A file that is deleted while it is open is not seen.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    waiting = [str(folder)]
    while waiting and not given_up():
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
                    elif status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    total += 512 * status.st_blocks
    return total


@dataclass(slots=True)
class Tripwires:
    """Two figures of the machine that are cheap to read, and how far they may go until a pass is due."""

    _loads: int | None = field(default_factory=lambda: _open("/proc/loadavg"))
    _memory: int | None = field(default_factory=lambda: _open("/proc/meminfo"))
    _tasks_then: int | None = None
    _available_then: int | None = None

    def rearm(self) -> None:
        """Count from here."""
        self._tasks_then, self._available_then = self._tasks(), self._available()

    def touched(self) -> bool:
        tasks, available = self._tasks(), self._available()
        if tasks is not None and self._tasks_then is not None and tasks > self._tasks_then + TASK_JUMP:
            return True
        return (
            available is not None
            and self._available_then is not None
            and available < self._available_then - MEMORY_JUMP
        )

    def close(self) -> None:
        for fd in (self._loads, self._memory):
            if fd is not None:
                os.close(fd)
        self._loads = self._memory = None

    def _tasks(self) -> int | None:
        """Processes and threads of the machine: ``0.20 0.18 0.12 1/80 11206``, the 80."""
        try:
            return None if self._loads is None else int(os.pread(self._loads, 64, 0).split()[3].split(b"/")[1])
        except (OSError, IndexError, ValueError):
            return None

    def _available(self) -> int | None:
        try:
            text = b"" if self._memory is None else os.pread(self._memory, 256, 0)
            return 1024 * int(text.split(b"MemAvailable:")[1].split()[0])
        except (OSError, IndexError, ValueError):
            return None


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
