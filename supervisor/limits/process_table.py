"""The processes of this machine, and to which worker's tree each of them belongs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

# The process is gone or hidden from us. Other errors are raised: without descriptors we know
# nothing.
UNSEEN = (FileNotFoundError, ProcessLookupError, PermissionError)

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


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
    stat: bytes = b""  # what all of this was read from; the same bytes say that nothing has changed


def parse_stat(pid: int, stat: bytes) -> Process:
    """Parse one ``/proc/PID/stat``; see proc_pid_stat(5) for the fields."""
    # The second field is the name in parentheses. It may hold spaces and parentheses; the last ")"
    # ends it.
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


class Link(NamedTuple):
    """What decides to which tree a process belongs."""

    pid: int
    parent: int
    session: int


def trees_of(
    links: Iterable[Process | Link], roots: set[int], known: Mapping[int, Iterable[int]] = MappingProxyType({})
) -> dict[int, set[int]]:
    """Return the pids of each root's tree, with the root.

    A root that does not exist is left out.
    """
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


def read_process_table(before: Mapping[int, Process] = MappingProxyType({})) -> dict[int, Process]:
    """Read ``/proc``.

    Args:
        before: the last table. What a process was in it is not parsed again if it has not changed.
    """
    table: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := read_proc(f"/proc/{name}/stat")):
            pid = int(name)
            known = before.get(pid)
            if known is None or known.stat != stat:
                known = parse_stat(pid, stat)._replace(stat=stat)
            table[pid] = known
    return table


def read_proc(path: str) -> bytes:
    """Read a short file of ``/proc`` at once; b"" if the process is gone or hidden from us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)
    except UNSEEN:
        return b""


def figure_of(text: bytes, key: bytes) -> int | None:
    """Return the number behind ``key`` at the beginning of a line, the first line excepted."""
    _, found, rest = text.partition(b"\n" + key)
    return int(rest.split(None, 1)[0]) if found else None


def session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1
