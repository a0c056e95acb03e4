"""Sample what worker processes use: CPU, memory, threads, files, for a whole fleet in one cheap pass.

A worker's *tree* is the worker, all its descendants, and every process of its session with theirs.
Each worker leads a session of its own, so a process that was forked twice still counts when init has
become its parent. A process that calls ``setsid`` and then loses its parent leaves the session. It
is found where workers are subreapers, because it becomes a child of the worker again, and where the
worker has a cgroup. Elsewhere it is beyond reach.
"""

from __future__ import annotations

import heapq
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import psutil

_USS_SHARE = 0.25
"""The largest share of the workers whose USS one pass may measure, however rare the passes are."""

# The process is gone or hidden from us. Other errors are raised: without descriptors we know nothing.
_UNSEEN = (FileNotFoundError, ProcessLookupError, PermissionError)

_SHORTEST = 1.0
"""The shortest time in seconds over which to measure CPU: the system counts in hundredths of a second."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What one worker uses at one moment. A figure is None if the system hides it or does not have it.

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


class Process(NamedTuple):
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    started: float  # in any unit; tells a process from a later one with the same pid
    ended: bool  # a zombie, which its parent has not reaped
    cpu: float  # seconds, including children that ended and were reaped
    rss: int
    threads: int


@dataclass(slots=True)
class _Past:
    """What the sampler remembers of a worker from one pass to the next."""

    started: float
    cpu: float
    at: float  # on the sampler's clock
    percent: float | None = None  # the newest figure
    uss: int | None = None
    uss_at: float = -math.inf


class Sampler(ABC):
    """Samples worker processes and remembers the last sample of each. Subclasses ask the system.

    Call `sample` from one thread at a time, `forget` from any thread.

    USS is expensive: the kernel walks all pages of a process. So one pass measures the USS of a few
    workers only, those that have waited longest, and no worker more than once in `uss_interval`.
    The number is such that a round over all workers takes the interval: of 200 workers sampled
    every 5 s with an interval of 30 s, each pass measures 34. The other samples carry the last figure.

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
        self, pids: Iterable[int], members: Mapping[int, Iterable[int]] = MappingProxyType({})
    ) -> dict[int, ProcessSample]:
        """Return a sample of each of ``pids`` that is alive. Blocks: call it in a thread.

        Args:
            members: processes known to belong to a worker, by its pid: those of its cgroup.

        Raises:
            OSError: the process table cannot be read (we are out of file descriptors, say).
        """
        self._drop_forgotten()
        wanted = set(pids)
        now, wall = self._clock(), time.time()
        trees = {tree[0].pid: tree for tree in self._trees(wanted, members) if not tree[0].ended}
        for pid in wanted - trees.keys():
            self._pasts.pop(pid, None)
        cpu = {pid: self._cpu_percent(tree, now) for pid, tree in trees.items()}
        self._measure_some_uss(trees, now)
        return {pid: self._sample_of(tree, cpu[pid], wall) for pid, tree in trees.items()}

    def forget(self, pid: int) -> None:
        """Drop what is remembered of a worker that ended, at the next pass."""
        self._to_forget.append(pid)

    # -- the system

    @abstractmethod
    def _trees(self, pids: set[int], members: Mapping[int, Iterable[int]]) -> Iterator[list[Process]]:
        """Yield the tree of each worker that exists, the worker first, with its known ``members``."""

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
        read_bytes, write_bytes = self._disk_bytes(pid)
        return ProcessSample(
            pid=pid,
            cpu_percent=cpu,
            rss=sum(process.rss for process in tree),
            uss=self._pasts[pid].uss,
            threads=sum(process.threads for process in tree),
            open_files=self._open_files(pid),
            read_bytes=read_bytes,
            write_bytes=write_bytes,
            children=len(tree) - 1,
            sampled_at=wall,
            zombies=sum(process.ended for process in tree),
            tree=tuple(process.pid for process in tree),
        )

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

    def _measure_some_uss(self, pids: Iterable[int], now: float) -> None:
        workers = [(self._pasts[pid], pid) for pid in pids]
        due = [(past, pid) for past, pid in workers if now - past.uss_at >= self._uss_interval]
        for past, pid in heapq.nsmallest(self._uss_budget(len(workers), now), due, key=lambda each: each[0].uss_at):
            past.uss, past.uss_at = self._uss(pid), now

    def _uss_budget(self, workers: int, now: float) -> int:
        """Return how many to measure now: of all workers, the share of the interval since the last pass."""
        elapsed, self._last_pass = now - self._last_pass, now
        share = elapsed / self._uss_interval if self._uss_interval > 0 else _USS_SHARE
        return math.ceil(workers * min(share, _USS_SHARE))

    def _drop_forgotten(self) -> None:
        while self._to_forget:
            self._pasts.pop(self._to_forget.popleft(), None)


class LinuxSampler(Sampler):
    """Reads ``/proc`` itself: once for each process of the machine, and two or three times more per worker."""

    def _trees(self, pids: set[int], members: Mapping[int, Iterable[int]]) -> Iterator[list[Process]]:
        table = _process_table()
        for pid, tree in _members(table.values(), pids, members).items():
            yield [table[pid], *(table[member] for member in tree if member != pid and member in table)]

    def _uss(self, pid: int) -> int | None:
        rollup = _read(f"/proc/{pid}/smaps_rollup")
        clean, dirty = _figure(rollup, b"Private_Clean:"), _figure(rollup, b"Private_Dirty:")
        return None if clean is None or dirty is None else 1024 * (clean + dirty)

    def _open_files(self, pid: int) -> int | None:
        try:
            return len(os.listdir(f"/proc/{pid}/fd"))
        except _UNSEEN:
            return None

    def _disk_bytes(self, pid: int) -> tuple[int | None, int | None]:
        io = _read(f"/proc/{pid}/io")
        return _figure(io, b"read_bytes:"), _figure(io, b"write_bytes:")


class PsutilSampler(Sampler):
    """Asks psutil, where there is no ``/proc``: slower, and blind to what the system hides."""

    def _trees(self, pids: set[int], members: Mapping[int, Iterable[int]]) -> Iterator[list[Process]]:
        handles = {handle.pid: handle for handle in psutil.process_iter(["ppid"])}
        links = [_Link(pid, handle.info["ppid"] or 0, _session(pid)) for pid, handle in handles.items()]
        for pid, tree in _members(links, pids, members).items():
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
    """Return the bytes that processes together keep from everybody else; None if the system hides it.

    This counts pages that they have written or share, each page once. It leaves out mapped pages of
    files, which the kernel takes back when it needs them. Kernels before 5.9 do not tell these apart
    and count them too. Expensive: the kernel walks all pages.
    """
    found: list[int] = []
    for pid in pids:
        rollup = _read(f"/proc/{pid}/smaps_rollup")
        parts = [_figure(rollup, key) for key in (b"Pss_Anon:", b"Pss_Shmem:")]
        whole = _figure(rollup, b"Pss:")
        if known := [part for part in parts if part is not None] or ([whole] if whole is not None else []):
            found.append(1024 * sum(known))
    return sum(found) if found else None


def seconds_waited(pids: Iterable[int]) -> float | None:
    """Return how long all threads of ``pids`` were ready to run while others ran; None if unknown."""
    total, told = 0, False
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except _UNSEEN:
            continue
        for task in tasks:
            figures = _read(f"/proc/{pid}/task/{task}/schedstat").split()
            if len(figures) == 3:
                total, told = total + int(figures[1]), True
    return total / 1e9 if told else None


def make_sampler() -> Sampler:
    """Return the sampler for this system."""
    return LinuxSampler() if sys.platform == "linux" else PsutilSampler()


def parse_stat(pid: int, stat: bytes) -> Process:
    """Parse one ``/proc/PID/stat``; see proc_pid_stat(5) for the fields."""
    # The second field is the name in parentheses. It may hold spaces and parentheses; the last ")" ends it.
    fields = stat[stat.rindex(b")") + 2 :].split(None, 22)
    state, parent, _, session = fields[:4]
    return Process(
        pid=pid,
        parent=int(parent),
        session=int(session),
        started=int(fields[19]),
        ended=state in b"ZXx",
        cpu=_TICK * (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])),
        rss=_PAGE * int(fields[21]),
        threads=int(fields[17]),
    )


class _Link(NamedTuple):
    """What decides to which tree a process belongs."""

    pid: int
    parent: int
    session: int


def _members(
    links: Iterable[Process | _Link], roots: set[int], known: Mapping[int, Iterable[int]] = MappingProxyType({})
) -> dict[int, set[int]]:
    """Return the pids of each root's tree, with the root. A root that does not exist is left out."""
    by_parent: defaultdict[int, list[int]] = defaultdict(list)
    by_session: defaultdict[int, list[int]] = defaultdict(list)
    for link in links:
        by_parent[link.parent].append(link.pid)
        by_session[link.session].append(link.pid)
    existing = roots.intersection(pid for pids in by_parent.values() for pid in pids)
    return {root: _reach([root, *by_session.get(root, ()), *known.get(root, ())], by_parent) for root in existing}


def _reach(start: list[int], by_parent: dict[int, list[int]]) -> set[int]:
    """Return ``start`` and all descendants."""
    found: set[int] = set()
    while start:
        pid = start.pop()
        if pid not in found:
            found.add(pid)
            start.extend(by_parent.get(pid, ()))
    return found


def _process_table() -> dict[int, Process]:
    table: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := _read(f"/proc/{name}/stat")):
            table[int(name)] = parse_stat(int(name), stat)
    return table


def _read(path: str) -> bytes:
    """Read a short file of ``/proc`` at once; b"" if the process is gone or hidden from us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)
    except _UNSEEN:
        return b""


def _figure(text: bytes, key: bytes) -> int | None:
    """Return the number behind ``key`` at the beginning of a line, the first line excepted."""
    _, found, rest = text.partition(b"\n" + key)
    return int(rest.split(None, 1)[0]) if found else None


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _details(handle: psutil.Process) -> Process | None:
    """Return None if the process is gone or hidden from us."""
    try:
        with handle.oneshot():
            times = handle.cpu_times()
            return Process(
                pid=handle.pid,
                parent=handle.ppid(),
                session=_session(handle.pid),
                started=handle.create_time(),
                ended=handle.status() == psutil.STATUS_ZOMBIE,
                # Only Linux counts the children; macOS leaves them at zero.
                cpu=times.user + times.system + times.children_user + times.children_system,
                rss=handle.memory_info().rss,
                threads=handle.num_threads(),
            )
    except psutil.Error:
        return None
