"""Sample what worker processes use: CPU, memory, threads, files, for a whole fleet in one cheap
pass.

A worker's *tree* is the worker, all its descendants, and every process of its session with theirs.
Each worker leads a session of its own, so a process that was forked twice still counts when init
has become its parent. A process that calls ``setsid`` and then loses its parent leaves the session.
It is found where workers are subreapers, because it becomes a child of the worker again, and where
the worker has a cgroup. Elsewhere it is beyond reach.
"""

from __future__ import annotations

import heapq
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import psutil

from .process_table import UNSEEN, Link, Process, figure_of, read_proc, read_process_table, session_of, trees_of

_USS_SHARE = 0.25
"""The largest share of the workers whose USS one pass may measure, however rare the passes are."""

_IDLE_INTERVALS = 10
"""After so many intervals the USS of a worker that has done nothing is measured again: only others
can change it, by giving up pages that they shared with it."""

_SHORTEST = 1.0
"""The shortest time in seconds over which to measure CPU: the system counts in hundredths of a
second.
"""


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What one worker uses at one moment.

    A figure is None if the system hides it or does not have it.

    Attributes:
        pid: the worker's.
        cpu_percent: of one core, by the tree since the sample before; None at the first.
        rss: resident bytes, summed over the tree; shared pages count once for each process.
        uss: bytes that would be free if the worker alone ended; up to `uss_interval` old.
        threads: of the tree.
        open_files: file descriptors of the worker alone.
        read_bytes: bytes that the worker alone has read from disk since it began.
        write_bytes: bytes that it has written.
        children: the processes of the tree besides the worker.
        sampled_at: Unix seconds, for people.
        zombies: how many of the children have ended and are not reaped.
        tree: the pids of all processes that were counted.
    """

    pid: int
    cpu_percent: float | None
    rss: int
    uss: int | None
    threads: int
    open_files: int | None
    read_bytes: int | None
    write_bytes: int | None
    children: int
    sampled_at: float
    zombies: int = 0
    tree: tuple[int, ...] = ()


Doing = tuple[tuple[Any, ...], ...]
"""What each process of a tree is and has used, without the core that it ran on last."""


def _doing(tree: list[Process]) -> Doing:
    return tuple(process[:-1] for process in tree)


@dataclass(slots=True)
class _Past:
    """What the sampler remembers of a worker from one pass to the next."""

    started: float
    cpu: float
    at: float  # on the sampler's clock
    percent: float | None = None  # the newest figure
    uss: int | None = None
    uss_at: float = -math.inf
    uss_doing: Doing = ()  # when it was measured
    doing: Doing = ()  # when the figures below were read
    figures_at: float = -math.inf
    open_files: int | None = None
    disk_bytes: tuple[int | None, int | None] = (None, None)


class Sampler(ABC):
    """Samples worker processes and remembers the last sample of each. Subclasses ask the system.

    Call `sample` from one thread at a time, `forget` from any thread.

    USS is expensive: the kernel walks all pages of a process. So one pass measures the USS of a few
    workers only, those that have waited longest, and no worker more than once in `uss_interval`.
    A worker that has done nothing since is left out, unless the caller wants fresh figures.
    The number is such that a round over all workers takes the interval: of 200 workers sampled
    every 5 s with an interval of 30 s, each pass measures 34. The other samples carry the last
    figure.

    Args:
        uss_interval: seconds for which a USS figure is good.
        clock: monotonic seconds.
    """

    def __init__(self, *, uss_interval: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._uss_interval = uss_interval
        self._clock = clock
        self._pasts: dict[int, _Past] = {}
        self._last_pass = -math.inf
        self._to_forget: deque[int] = deque()  # for the sampling thread, which alone touches the pasts
        self._most_cpu = 100.0 * (os.cpu_count() or 1)

    def sample(
        self,
        pids: Iterable[int],
        members: Mapping[int, Iterable[int]] = MappingProxyType({}),
        *,
        alone: int | None = None,
        thorough: bool = True,
    ) -> dict[int, ProcessSample]:
        """Return a sample of each of ``pids`` that is alive. Blocks: call it in a thread.

        Args:
            members: processes known to belong to a worker, by its pid: those of its cgroup.
            alone: a process whose tree is not counted: the supervisor, of which all workers descend.
            thorough: read the files and disk bytes of all workers. Otherwise, of a worker whose
                tree has used no processor time since, they are those of the last `uss_interval`,
                and its USS is older.

        Raises:
            OSError: the process table cannot be read (we are out of file descriptors, say).
        """
        self._drop_forgotten()
        wanted = set(pids)
        now, wall = self._clock(), time.time()
        found = {tree[0].pid: tree for tree in self._trees(wanted, members) if not tree[0].ended}
        trees = {pid: tree[:1] if pid == alone else tree for pid, tree in found.items()}
        for pid in wanted - trees.keys():
            self._pasts.pop(pid, None)
        cpu = {pid: self._cpu_percent(tree, now) for pid, tree in trees.items()}
        for pid, tree in trees.items():
            self._read_figures(self._pasts[pid], tree, now, thorough)
        self._measure_some_uss(trees, now, thorough)
        return {pid: self._sample_of(tree, cpu[pid], wall) for pid, tree in trees.items()}

    def forget(self, pid: int) -> None:
        """Drop what is remembered of a worker that ended, at the next pass."""
        self._to_forget.append(pid)

    # -- the system

    @abstractmethod
    def _trees(self, pids: set[int], members: Mapping[int, Iterable[int]]) -> Iterator[list[Process]]:
        """Yield the tree of each worker that exists, the worker first, with its known
        ``members``.
        """

    @abstractmethod
    def _uss(self, pid: int) -> int | None: ...

    @abstractmethod
    def _open_files(self, pid: int) -> int | None: ...

    @abstractmethod
    def _disk_bytes(self, pid: int) -> tuple[int | None, int | None]:
        """Return the bytes read and written."""

    # -- figures

    def _sample_of(self, tree: list[Process], cpu: float | None, wall: float) -> ProcessSample:
        pid = tree[0].pid
        past = self._pasts[pid]
        read_bytes, write_bytes = past.disk_bytes
        return ProcessSample(
            pid=pid,
            cpu_percent=cpu,
            rss=sum(process.rss for process in tree),
            uss=past.uss,
            threads=sum(process.threads for process in tree),
            open_files=past.open_files,
            read_bytes=read_bytes,
            write_bytes=write_bytes,
            children=len(tree) - 1,
            sampled_at=wall,
            zombies=sum(process.ended for process in tree),
            tree=tuple(process.pid for process in tree),
        )

    def _read_figures(self, past: _Past, tree: list[Process], now: float, thorough: bool) -> None:
        """Read the figures that cost a look into further files, unless they are known to be the same."""
        doing = _doing(tree)
        if thorough or doing != past.doing or now - past.figures_at >= self._uss_interval:
            pid = tree[0].pid
            past.doing, past.figures_at = doing, now
            past.open_files, past.disk_bytes = self._open_files(pid), self._disk_bytes(pid)

    def _cpu_percent(self, tree: list[Process], now: float) -> float | None:
        """Return the CPU time since a pass at least `_SHORTEST` ago, in percent of a core.

        The figure is kept between none and all cores, because the sum can jump. A child's time
        leaves it when nobody reaps the child. A child that ends during the pass may be missed, or
        counted twice: as itself and by its parent.
        """
        worker, cpu = tree[0], sum(process.cpu for process in tree)
        past = self._pasts.get(worker.pid)
        if past is None or past.started != worker.started:
            self._pasts[worker.pid] = _Past(started=worker.started, cpu=cpu, at=now)
            return None
        used, elapsed = cpu - past.cpu, now - past.at
        if elapsed <= 0 or (elapsed < _SHORTEST and past.percent is not None):
            return past.percent
        past.percent = min(max(0.0, 100.0 * used / elapsed), self._most_cpu)
        if elapsed >= _SHORTEST:
            past.cpu, past.at = cpu, now
        return past.percent

    def _measure_some_uss(self, trees: Mapping[int, list[Process]], now: float, thorough: bool) -> None:
        workers = [(self._pasts[pid], pid) for pid in trees]
        due = [
            (past, pid)
            for past, pid in workers
            if (age := now - past.uss_at) >= self._uss_interval
            and (thorough or _doing(trees[pid]) != past.uss_doing or age >= _IDLE_INTERVALS * self._uss_interval)
        ]
        for past, pid in heapq.nsmallest(self._uss_budget(len(workers), now), due, key=lambda each: each[0].uss_at):
            past.uss, past.uss_at, past.uss_doing = self._uss(pid), now, _doing(trees[pid])

    def _uss_budget(self, workers: int, now: float) -> int:
        """Return how many to measure now: of all workers, the share of the interval since the last
        pass.
        """
        elapsed, self._last_pass = now - self._last_pass, now
        share = elapsed / self._uss_interval if self._uss_interval > 0 else _USS_SHARE
        return math.ceil(workers * min(share, _USS_SHARE))

    def _drop_forgotten(self) -> None:
        while self._to_forget:
            self._pasts.pop(self._to_forget.popleft(), None)


class LinuxSampler(Sampler):
    """Reads ``/proc`` itself: once for each process of the machine, and two or three times more per
    worker.
    """

    _table: Mapping[int, Process] = MappingProxyType({})

    def _trees(self, pids: set[int], members: Mapping[int, Iterable[int]]) -> Iterator[list[Process]]:
        self._table = table = read_process_table(self._table)
        for pid, tree in trees_of(table.values(), pids, members).items():
            yield [table[pid], *(table[member] for member in tree if member != pid and member in table)]

    def _uss(self, pid: int) -> int | None:
        rollup = read_proc(f"/proc/{pid}/smaps_rollup")
        clean, dirty = figure_of(rollup, b"Private_Clean:"), figure_of(rollup, b"Private_Dirty:")
        return None if clean is None or dirty is None else 1024 * (clean + dirty)

    def _open_files(self, pid: int) -> int | None:
        try:
            return len(os.listdir(f"/proc/{pid}/fd"))
        except UNSEEN:
            return None

    def _disk_bytes(self, pid: int) -> tuple[int | None, int | None]:
        io = read_proc(f"/proc/{pid}/io")
        return figure_of(io, b"read_bytes:"), figure_of(io, b"write_bytes:")


class PsutilSampler(Sampler):
    """Asks psutil, where there is no ``/proc``: slower, and blind to what the system hides."""

    def _trees(self, pids: set[int], members: Mapping[int, Iterable[int]]) -> Iterator[list[Process]]:
        handles = {handle.pid: handle for handle in psutil.process_iter(["ppid"])}
        links = [Link(pid, handle.info["ppid"] or 0, session_of(pid)) for pid, handle in handles.items()]
        for pid, tree in trees_of(links, pids, members).items():
            worker = _details(handles[pid])
            if worker is not None:
                others = (_details(handles[member]) for member in tree if member != pid and member in handles)
                yield [worker, *(process for process in others if process is not None)]

    def _uss(self, pid: int) -> int | None:
        try:
            return psutil.Process(pid).memory_full_info().uss
        except (psutil.Error, AttributeError):
            return None

    def _open_files(self, pid: int) -> int | None:
        try:
            return psutil.Process(pid).num_fds()
        except psutil.Error:
            return None

    def _disk_bytes(self, pid: int) -> tuple[int | None, int | None]:
        try:
            io = psutil.Process(pid).io_counters()
        except (psutil.Error, AttributeError):  # macOS has no such method
            return None, None
        return io.read_bytes, io.write_bytes


def memory_held(pids: Iterable[int]) -> int | None:
    """Return the bytes that processes together keep from everybody else; None if the system hides
    it.

    This counts pages that they have written or share, each page once. It leaves out mapped pages of
    files, which the kernel takes back when it needs them. Kernels before 5.9 do not tell these
    apart and count them too. Expensive: the kernel walks all pages.
    """
    found: list[int] = []
    for pid in pids:
        rollup = read_proc(f"/proc/{pid}/smaps_rollup")
        parts = [figure_of(rollup, key) for key in (b"Pss_Anon:", b"Pss_Shmem:")]
        whole = figure_of(rollup, b"Pss:")
        if known := [part for part in parts if part is not None] or ([whole] if whole is not None else []):
            found.append(1024 * sum(known))
    return sum(found) if found else None


def seconds_waited(pids: Iterable[int]) -> float | None:
    """Return how long all threads of ``pids`` were ready to run while others ran; None if
    unknown.
    """
    total, told = 0, False
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except UNSEEN:
            continue
        for task in tasks:
            figures = read_proc(f"/proc/{pid}/task/{task}/schedstat").split()
            if len(figures) == 3:
                total, told = total + int(figures[1]), True
    return total / 1e9 if told else None


def make_sampler() -> Sampler:
    """Return the sampler for this system."""
    return LinuxSampler() if sys.platform == "linux" else PsutilSampler()


def _details(handle: psutil.Process) -> Process | None:
    """Return None if the process is gone or hidden from us."""
    try:
        with handle.oneshot():
            times = handle.cpu_times()
            return Process(
                pid=handle.pid,
                parent=handle.ppid(),
                session=session_of(handle.pid),
                started=handle.create_time(),
                ended=handle.status() == psutil.STATUS_ZOMBIE,
                # Only Linux counts the children; macOS leaves them at zero.
                cpu=times.user + times.system + times.children_user + times.children_system,
                rss=handle.memory_info().rss,
                threads=handle.num_threads(),
            )
    except psutil.Error:
        return None
