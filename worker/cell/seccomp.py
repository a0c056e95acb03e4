"""Have the kernel refuse the system calls that a cell forbids (seccomp(2)).

A filter cannot be taken off, and holds for all that the process starts. Since Linux 5.11 the kernel
remembers which calls a filter always allows, and asks it only about the others.
"""

from __future__ import annotations

import ctypes
import errno
import os

from ...ipc.cell import DEFAULT, OFF, STRICT, Cell
from . import syscalls
from .bpf import MACHINES
from .libc import libc
from .refusal import NotEnforced, refused

_NUMBER = {"x86_64": 317, "aarch64": 277}  # of seccomp(2)
_SET_MODE_FILTER = 1
_SPEC_ALLOW = 4
"""Leave the mitigations of the processor as they are. Kernels before 5.16 would turn on some that
slow down the whole process, which is not worth it for the few calls that `GUARDED` refuses."""


class _Program(ctypes.Structure):
    """``struct sock_fprog``"""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def restrict(cell: Cell, program: int = -1) -> str:
    """Refuse the calls that the cell forbids, from now on. Return the means; "" if it forbids none.

    The process has one thread, and no_new_privs is set.

    Args:
        program: if the mod may not start programs, but this process is yet to become one: the
            descriptor from which that can be done, see `worker.cell.last_exec`.

    Raises:
        NotEnforced: the kernel has no seccomp, or a machine is not known here.
    """
    machine = os.uname().machine
    if machine not in MACHINES:
        raise NotEnforced(f"no list of system calls for {machine}, only for {', '.join(MACHINES)}")
    code, means = _filter(cell, program, machine)
    return _install(code, 0 if cell.syscalls else _SPEC_ALLOW, machine, means) if code else ""


def prepare() -> None:
    """Make the usual filters, for all workers that are forked from this process."""
    machine = os.uname().machine
    if machine in MACHINES:
        for cell in (Cell(DEFAULT, processes=True), Cell(STRICT, processes=True, exec=False, syscalls=True)):
            _filter(cell, -1, machine)


def _filter(cell: Cell, program: int, machine: str) -> tuple[bytes, str]:
    """Return the filter and what it is called; b"" if the cell needs none."""
    if cell.syscalls:
        code = syscalls.listed(machine, may_exec=cell.exec, only=program, may_share=cell.processes)
        return code, "seccomp: only the usual calls"
    if cell.profile != OFF:
        return syscalls.guarded(machine, may_exec=cell.exec, only=program), "seccomp: none of the dangerous calls"
    if not cell.exec:
        return syscalls.without_exec(machine, only=program), "seccomp: no exec"
    return b"", ""


def _install(code: bytes, flags: int, machine: str, means: str) -> str:
    program = _Program(len(code) // 8, code)
    call = _NUMBER[machine], _SET_MODE_FILTER
    if libc.syscall(*call, ctypes.c_uint(flags), ctypes.byref(program)) == 0:
        return means
    if flags and ctypes.get_errno() == errno.EINVAL:  # before Linux 4.17 there is no such flag
        return _install(code, 0, machine, means)
    raise refused("seccomp", ctypes.get_errno())


def is_possible() -> bool:
    """Return whether this kernel filters system calls, and the calls of this machine are known."""
    machine = os.uname().machine
    if machine not in MACHINES:
        return False
    libc.syscall(_NUMBER[machine], _SET_MODE_FILTER, ctypes.c_uint(0), None)
    return ctypes.get_errno() == errno.EFAULT  # it would take a filter, if there were one
