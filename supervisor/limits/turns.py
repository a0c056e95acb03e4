"""Short turns on the processor, and a larger share of it for the supervisor.

An event needs some microseconds of two processes, and waits for both. While all cores are busy, the
kernel lets whatever runs go on for a turn of some ms before it looks at a process that has just been
woken. A process that asks for short turns comes first when it is woken; its share of the processor
stays what it was. So the answers of a network do not wait for a mod, or another program, that
computes. Linux has this since 6.12 (`sched_setattr(2)`: ``sched_runtime``). It takes no
rights, and children inherit it, so the supervisor asks once for itself, its guardian and all mods.

The share is another matter. The supervisor works for all mods; one of many that compute must not
take from it what the others need. Where it may, it takes three times the usual share.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress

from ...ipc.launching import SUPERVISOR_NICE

TURN = 100_000
"""Nanoseconds of a turn: the shortest that Linux grants."""

# The numbers of the system calls: of x86_64, and of all machines that Linux supports since 2012.
_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275)}

# size, policy, flags, nice, priority, runtime, deadline, period
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def favour_events() -> None:
    """Ask the kernel for short turns, and for a larger share of the processor, as far as it grants them.

    Call it in the main thread, before the network starts: what is started later inherits the turns.
    """
    take_short_turns()
    take_larger_share()


def take_short_turns() -> bool:
    """Ask for short turns for this thread, and all threads and processes that it starts later.

    Returns:
        False if this system knows no turns of its own for a process.
    """
    return _set_turn(TURN) and turn_of() == TURN


def turn_of(pid: int = 0) -> int | None:
    """Return the nanoseconds of a turn of a process, 0 for this one; None where the kernel does not say."""
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if _call(1, pid, attributes, _ATTRIBUTES.size, 0) != 0:
        return None
    return _ATTRIBUTES.unpack(attributes.raw)[5] or None


def take_larger_share() -> bool:
    """Take three times the usual share of the processor. Return whether the kernel allowed it.

    That takes root or CAP_SYS_NICE. A supervisor with another niceness than 0 keeps it: somebody
    chose it.
    """
    if sys.platform != "linux" or os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return False
    try:
        os.setpriority(os.PRIO_PROCESS, 0, SUPERVISOR_NICE)
    except PermissionError:
        return False
    if os.getsid(0) == os.getpid():  # otherwise the session has other programs, such as a shell
        with suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write(str(SUPERVISOR_NICE))
    return True


def _set_turn(nanoseconds: int) -> bool:
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return _call(0, 0, _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0), 0) == 0


def _call(which: int, *arguments: object) -> int:
    numbers = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    return -1 if numbers is None else ctypes.CDLL(None).syscall(numbers[which], *arguments)
