"""Count what a process holds, before and after: descriptors, threads, tasks, processes, memory."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from modvisor.worker.guardian import tree

POOLS = "AnyIO worker thread", "files"
"""Threads of these names come when needed. Their number is bounded: by anyio, and by `sources.reading.AT_ONCE`."""


@dataclass(frozen=True, slots=True)
class Census:
    """What this process holds, counted by kind: numbers of sockets and names of tasks differ."""

    descriptors: Counter[str]
    threads: Counter[str]
    tasks: Counter[str]

    @classmethod
    def take(cls) -> Census:
        gc.collect()
        threads = Counter(thread.name for thread in threading.enumerate() if thread.name not in POOLS)
        return cls(Counter(_descriptors()), threads, Counter(_kind(task) for task in asyncio.all_tasks()))

    def more_than(self, before: Census) -> dict[str, dict[str, int]]:
        """Return what is here now and was not before, by kind."""
        return {
            "descriptors": dict(self.descriptors - before.descriptors),
            "threads": dict(self.threads - before.threads),
            "tasks": dict(self.tasks - before.tasks),
        }


def _descriptors() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith("/proc"):  # files that the watchdog has open for a moment
                found.append(re.sub(r"\[\d+\]", "", target))
    return found


def _kind(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", None) or str(coroutine)


def memory() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Marked:
    """The processes started since this object was made.

    They are found by a variable that workers inherit, or by their parent.

    Args:
        mark: ``NAME=value`` of the variable.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._before = set(_descendants())

    def alive(self) -> dict[int, str]:
        """Return pid to name of live processes that have the variable or are below this process."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and self._mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                    found[process.pid] = process.name()
        return found | {pid: name for pid, name in _descendants().items() if pid not in self._before}


def _descendants() -> dict[int, str]:
    """Return pid to name of all processes below this process."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found[child.pid] = child.name()
    return found


def is_alive(pid: int, start_time: int) -> bool:
    """Tell whether `pid` is alive and began at `start_time` (clock ticks): pids are reused."""
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and tree.start_time(pid) == start_time
    return False
