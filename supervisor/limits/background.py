"""Run a process tree behind all others, or with a smaller share, and as usual again."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from .host import CAP_SYS_NICE, has_capability

SMALL_NICE = 5
"""The niceness of a third of the usual share."""

USUAL_AS_LIMIT = 20
"""RLIMIT_NICE counts from 1 (niceness 19) to 40 (niceness -20); this is niceness 0."""


def set_idle(pids: Iterable[int], on: bool) -> bool:
    """Let every thread of these processes run only when nobody else wants to, or as usual again.

    This is the policy SCHED_IDLE of Linux. Processes that they start later inherit it. Where the
    kernel schedules sessions as groups (autogroup), the policy counts only within the session, so
    the session's own weight is set too.

    Returns:
        False if the kernel refused. Going back to the usual policy takes CAP_SYS_NICE, or an
        RLIMIT_NICE that few users have.
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


def set_small_share(pids: Iterable[int], on: bool) -> bool:
    """Give these processes a third of the usual share of the processor, or the usual share again.

    Where the kernel schedules sessions as groups (autogroup), the session has the share. Elsewhere
    each thread has one, which is made smaller only if it can be made usual again.

    Returns:
        False if nothing could be done.
    """
    nice, done = (SMALL_NICE if on else 0), False
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if _can_return():
                for task in map(int, os.listdir(f"/proc/{pid}/task")):
                    os.setpriority(os.PRIO_PROCESS, task, nice)
                done = True
            done |= _weigh_session(pid, str(nice))
    return done


@cache
def _can_return() -> bool:
    """Return whether this process may make a share usual again that it made smaller."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return soft >= USUAL_AS_LIMIT or soft == resource.RLIM_INFINITY or has_capability(CAP_SYS_NICE)


def _weigh_session(pid: int, nice: str) -> bool:
    """Return False where the kernel has no autogroups."""
    with suppress(OSError):
        fd = os.open(f"/proc/{pid}/autogroup", os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.read(fd, 64).split()[-1:] != [nice.encode()]:
                _write_patiently(fd, nice.encode())
            return True
        finally:
            os.close(fd)
    return False


def _write_patiently(fd: int, data: bytes) -> None:
    """Write, and wait where the kernel says so: it grants all users one change in 0.1 s."""
    for _ in range(3):
        try:
            os.write(fd, data)
            return
        except BlockingIOError:
            time.sleep(0.11)
