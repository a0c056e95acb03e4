"""Run a process tree behind all others, and as usual again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress


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


def _weigh_session(pid: int, nice: str) -> None:
    with suppress(OSError):  # this kernel has no autogroups
        fd = os.open(f"/proc/{pid}/autogroup", os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.read(fd, 64).split()[-1:] != [nice.encode()]:
                _write_patiently(fd, nice.encode())
        finally:
            os.close(fd)


def _write_patiently(fd: int, data: bytes) -> None:
    """Write, and wait where the kernel says so: it grants all users one change in 0.1 s."""
    for _ in range(3):
        try:
            os.write(fd, data)
            return
        except BlockingIOError:
            time.sleep(0.11)
