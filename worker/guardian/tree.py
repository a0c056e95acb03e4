"""Find and kill the processes below one, even if they fork faster than they die.

Linux only: reads ``/proc``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count

_CALM = 3
"""Passes over a tree after which it is treated as a fork bomb. Quiet trees need two."""

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def below(pid: int, *, thorough: bool = False) -> list[int]:
    """Return all descendants of ``pid``, parents first.

    Args:
        thorough: read the whole process table. The kernel's lists of children cost only some 20 µs
            for each process, but may miss a child while a sibling ends. Not every kernel has them.
    """
    table = _table() if thorough or not _HAS_LISTS else None
    found, seen = [pid], {pid}
    for each in found:
        for child in children(each) if table is None else table.get(each, ()):
            if child not in seen:
                seen.add(child)
                found.append(child)
    return found[1:]


def kill(find: Callable[[], Collection[int]]) -> None:
    """Stop the processes that ``find`` finds until it finds no new ones, then kill them all.

    A stopped process does not fork, so each pass finds fewer. It does not reap either, so pids are
    not reused before they are killed. Signals go to whole process groups, because no fork slips
    between the members of a group. In a fork bomb, every process may have a group of its own. Then
    we run with priority over all others; if that is not allowed, they run when no other wants to.
    """
    stopped: set[int] = set()
    groups: set[int] = set()
    with _urgency() as hurry:
        for attempt in count():
            new = set(find()) - stopped
            if not new:
                break
            if attempt >= _CALM and not hurry():
                _make_idle(new)
            stopped |= new
            groups |= _signal(new, signal.SIGSTOP)
        _signal(stopped, signal.SIGKILL, groups)


def _signal(pids: Collection[int], signum: int, groups: Collection[int] = ()) -> set[int]:
    """Signal processes and their groups, but never our own group. Return those groups."""
    ours, found = os.getpgrp(), set(groups)
    for pid in pids:
        with suppress(*_GONE):
            group = os.getpgid(pid)
            if group == ours:
                os.kill(pid, signum)
            else:
                found.add(group)
    for group in found:
        with suppress(*_GONE):
            os.killpg(group, signum)
    return found


@contextmanager
def _urgency() -> Iterator[Callable[[], bool]]:
    """Yield a function that gives us priority over all others until the end of the block.

    It returns whether that is allowed.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    raised = False

    def hurry() -> bool:
        nonlocal raised
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
            raised = True
        return raised

    try:
        yield hurry
    finally:
        if raised:
            os.sched_setscheduler(0, *before)


def _make_idle(pids: Collection[int]) -> None:
    """Let processes and their forks run only when no other wants to. They also die slower then."""
    for pid in pids:
        with suppress(*_GONE):
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def children(pid: int) -> list[int]:
    """Return its direct children, zombies included. One may be missing while a sibling ends."""
    if not _HAS_LISTS:
        return _table().get(pid, [])
    found: list[int] = []
    with suppress(*_GONE):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def _table() -> dict[int, list[int]]:
    """Return all processes by their parent."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := _read(f"/proc/{name}/stat")):
            children.setdefault(int(_fields(stat)[1]), []).append(int(name))
    return children


def start_time(pid: int) -> int:
    """Return when a process began, in clock ticks as in proc_pid_stat(5); 0 if there is none."""
    stat = _read(f"/proc/{pid}/stat")
    return int(_fields(stat)[19]) if stat else 0


def _fields(stat: bytes) -> list[bytes]:
    """Return the fields after the process name, which may hold anything. The state is the first."""
    return stat[stat.rindex(b")") + 2 :].split()


def _read(path: str) -> bytes:
    with suppress(*_GONE), open(path, "rb", buffering=0) as file:
        return file.read()
    return b""


_HAS_LISTS = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
