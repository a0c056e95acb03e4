"""Calls of Linux that Python lacks: fork into a cgroup or into namespaces, and prctl(2).

Why fork into a cgroup: to move a process into one, the kernel waits until every processor has
passed a quiescent state. That takes some 10 ms, longer than the rest of a start. A process that
begins in its cgroup needs no such wait (``CLONE_INTO_CGROUP`` of clone3(2), Linux 5.7), and is
never outside of it.

The C library has no function for that, so `fork_into` does what glibc's fork(3) does. The kernel
writes the child's thread id where the library keeps it, the list of robust mutexes is registered
anew, and Python's own hooks run before and after. The calling process must have a single thread, so
that no other thread holds a lock of the library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from contextlib import suppress

_CLONE3 = 435  # on every architecture but alpha
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE_INTO_CGROUP = 0x2_0000_0000
_CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x0020_0000, 0x0100_0000
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER, _PR_GET_TID_ADDRESS = 1, 15, 36, 40
_ROBUST_LIST = {"x86_64": (273, 274), "aarch64": (99, 100)}  # set_robust_list, get_robust_list

# PyDLL keeps the interpreter's lock: the child must return into Python holding it, as with os.fork.
libc = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
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
    """Fork as `os.fork` does; the child begins in the cgroup of this folder.

    Returns:
        as `os.fork`; None if the system refuses: then there is no child.
    """
    tid_address = _tid_address()
    machine = _ROBUST_LIST.get(os.uname().machine)
    if tid_address is None or machine is None:
        return None
    try:
        group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _clone(group, tid_address, machine)
    finally:
        os.close(group)


def fork_without_hooks() -> int:
    """Fork; what Python and its libraries registered for forks does not run. Raise OSError.

    The hooks make new locks for `threading`, seed `random`, and the like. A warden needs none of
    that, and each page that they write to would be memory of its own. A process that it forks in
    turn, by `os.fork` or `fork_into`, is as complete as any other: the hooks run there.
    """
    tid_address = _tid_address()
    if tid_address is None:
        return os.fork()
    pid = _fork(_arguments(0, tid_address))
    if pid >= 0:
        return pid
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EPERM):  # an old kernel; a container that forbids the call
        return os.fork()
    raise OSError(number, os.strerror(number))


def fork_apart(flags: int, *, hooks: bool) -> int:
    """Fork into new namespaces. Raise OSError if the system refuses: then there is no child.

    Args:
        flags: of clone(2), such as ``CLONE_NEWPID``.
        hooks: whether the hooks for forks run, see `fork_without_hooks`.
    """
    tid_address = _tid_address()
    machine = _ROBUST_LIST.get(os.uname().machine)
    if tid_address is None or machine is None:
        raise OSError(errno.ENOSYS, "not with this C library")
    pid = _clone(0, tid_address, machine, flags) if hooks else _fork(_arguments(flags, tid_address))
    if pid is None or pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def _arguments(flags: int, tid_address: int, group: int = 0) -> _Arguments:
    more = _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    return _Arguments(flags=flags | more, child_tid=tid_address, exit_signal=signal.SIGCHLD, cgroup=group)


def _fork(arguments: _Arguments) -> int:
    """Call clone3(2), or clone(2) where that is refused. Return as they do: below 0 after an error.

    A filter of system calls cannot look at the flags of clone3. So containers, and services with
    ``RestrictNamespaces``, have no clone3 at all, and the flags that fit clone(2) are allowed.
    """
    pid = libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments)))
    number = _CLONE.get(os.uname().machine)
    if pid >= 0 or ctypes.get_errno() != errno.ENOSYS or arguments.cgroup or number is None:
        return pid
    tid, none = ctypes.c_void_p(arguments.child_tid), ctypes.c_void_p()
    last = (tid, none) if number == _CLONE["x86_64"] else (none, tid)
    return libc.syscall(number, ctypes.c_ulong(arguments.flags | arguments.exit_signal), none, none, *last)


def _clone(group: int, tid_address: int, robust: tuple[int, int], flags: int = _CLONE_INTO_CGROUP) -> int | None:
    set_list, get_list = robust
    head, size = ctypes.c_void_p(), ctypes.c_size_t()
    libc.syscall(get_list, 0, ctypes.byref(head), ctypes.byref(size))
    arguments = _arguments(flags, tid_address, group)
    _python.PyOS_BeforeFork()
    pid = _fork(arguments)
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        if head:
            libc.syscall(set_list, head, size)
        return 0
    _python.PyOS_AfterFork_Parent()
    return pid if pid > 0 else None


def _tid_address() -> int | None:
    """Return where the C library keeps the id of the only thread; None if that is uncertain."""
    if sys.platform != "linux" or not _is_glibc():
        return None
    found = ctypes.c_void_p()
    if libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(found), 0, 0, 0) != 0 or not found.value:
        return None
    return found.value if ctypes.c_int.from_address(found.value).value == os.getpid() else None


def _is_glibc() -> bool:
    with suppress(ValueError, OSError):
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    return False


# -- prctl


def set_name(name: bytes) -> None:
    """Set the name that the list of processes shows: at most 15 bytes."""
    libc.prctl(_PR_SET_NAME, name, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the new parent of every descendant that loses its own (a subreaper)."""
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def continue_with_parent() -> None:
    """Have the kernel send SIGCONT when the parent dies, in case this process is stopped then."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
