"""Fork into a cgroup: the child begins there, instead of being moved there.

To move a process the kernel waits until every processor has passed a quiet state: some 10 ms, longer than all the rest of a
start. A process that begins in its cgroup needs no such wait (``CLONE_INTO_CGROUP`` of clone3(2), Linux 5.7), and there is no
moment in which it is outside.

The C library has no function for it, so this does what glibc's fork(3) does: the kernel writes the child's thread id where the
library keeps it, the list of robust mutexes is registered anew, and Python's own hooks run around it. To be called in a process
that has one thread: nobody else can hold a lock of the library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

_CLONE3 = 435  # on every architecture but alpha
_CLONE_INTO_CGROUP = 0x2_0000_0000
_CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x0020_0000, 0x0100_0000
_PR_GET_TID_ADDRESS = 40
_ROBUST_LIST = {"x86_64": (273, 274), "aarch64": (99, 100)}  # set_robust_list, get_robust_list

# Keeps the interpreter's lock: the child is to come back into Python as os.fork's does.
_libc = ctypes.PyDLL(None)
_libc.syscall.restype = ctypes.c_long
_python = ctypes.pythonapi


class _Arguments(ctypes.Structure):
    """``struct clone_args``"""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def fork_into(folder: bytes) -> int | None:
    """As `os.fork`, but the child begins in the cgroup of this folder; None where that is refused: nothing has happened."""
    place = _tid_address()
    machine = _ROBUST_LIST.get(os.uname().machine)
    if place is None or machine is None:
        return None
    try:
        group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _clone(group, place, machine)
    finally:
        os.close(group)


def _clone(group: int, place: int, robust: tuple[int, int]) -> int | None:
    set_list, get_list = robust
    head, size = ctypes.c_void_p(), ctypes.c_size_t()
    _libc.syscall(get_list, 0, ctypes.byref(head), ctypes.byref(size))
    arguments = _Arguments(
        flags=_CLONE_INTO_CGROUP | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID,
        child_tid=place,
        exit_signal=signal.SIGCHLD,
        cgroup=group,
    )
    reference, length = ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments))
    _python.PyOS_BeforeFork()
    pid = _libc.syscall(_CLONE3, reference, length)
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        if head:
            _libc.syscall(set_list, head, size)
        return 0
    _python.PyOS_AfterFork_Parent()
    return pid if pid > 0 else None


def _tid_address() -> int | None:
    """Where the C library keeps the id of this, the only thread; None if that cannot be told for sure."""
    if sys.platform != "linux" or not _is_glibc():
        return None
    found = ctypes.c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(found), 0, 0, 0) != 0 or not found.value:
        return None
    return found.value if ctypes.c_int.from_address(found.value).value == os.getpid() else None


def _is_glibc() -> bool:
    with suppress(ValueError, OSError):
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    return False
