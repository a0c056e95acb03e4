"""The processes below one: found, stopped, killed; also those that fork faster than they die.

Linux only: reads ``/proc``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count

_CALM = 3
"""Passes over a tree after which something in it is taken for a fork bomb. Quiet trees need two."""

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def below(pid: int, *, thorough: bool = False) -> list[int]:
    """All descendants of ``pid``, parents first.

    Reading the kernel's own lists of children costs some 20 µs for each process, but can miss one while its sister ends (and
    not every kernel has them); ``thorough`` reads the whole process table instead.
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
    """Kill all that ``find`` finds, stopping them first, until it finds nothing new.

    A process that is stopped does not fork, so each pass has fewer to look for than the one before; and it does not reap, so
    what was found keeps its number until it is killed. Signals go to whole process groups: the kernel lets no fork slip
    between the members of one. Against a bomb whose every process has a group of its own, we run before all others if we
    may, and they after all others if we may not.
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
    """Signal processes and their groups (never our own); returns those groups."""
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
    """Gives a function that has us run before all others until the end of the block, if that is allowed."""
    former = os.sched_getscheduler(0), os.sched_getparam(0)
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
            os.sched_setscheduler(0, *former)


def _make_idle(pids: Collection[int]) -> None:
    """Let them run only when nobody else wants to; what they fork inherits it. Not done needlessly: they die slower, too."""
    for pid in pids:
        with suppress(*_GONE):
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def children(pid: int) -> list[int]:
    """Its direct children, zombies included; one may be missed while its sister ends."""
    if not _HAS_LISTS:
        return _table().get(pid, [])
    found: list[int] = []
    with suppress(*_GONE):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def _table() -> dict[int, list[int]]:
    """All processes by their parent."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := _read(f"/proc/{name}/stat")):
            children.setdefault(int(_fields(stat)[1]), []).append(int(name))
    return children


def start_time(pid: int) -> int:
    """When it began, in the clock ticks of proc_pid_stat(5); 0 if there is no such process."""
    stat = _read(f"/proc/{pid}/stat")
    return int(_fields(stat)[19]) if stat else 0


def _fields(stat: bytes) -> list[bytes]:
    """The fields behind the name, which may hold anything: the state first."""
    return stat[stat.rindex(b")") + 2 :].split()


def _read(path: str) -> bytes:
    with suppress(*_GONE), open(path, "rb", buffering=0) as file:
        return file.read()
    return b""


_HAS_LISTS = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
