"""Have the kernel refuse files beyond those that a cell lists, and what reaches other processes (Landlock).

A *domain* holds for this process and all that it starts, and cannot be left. Every domain, also one
that lists no files, keeps its processes from tracing others outside of it, and from their memory in
``/proc``; where the kernel can, it also refuses signals to them and their abstract sockets.

Landlock does not cover all that a path can be used for: connecting to a socket, chmod, stat. So a
strict cell has a view of the file system of its own besides (`view`). What Landlock adds is a second
wall, and the only one where a container forbids mounts.

Of ABI 1 (Linux 5.13) to 7, each kernel enforces what it knows. Why own code: see docs/security.md.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from ...ipc.cell import LISTED, Cell
from .libc import libc
from .listed import DEVICES, PROC, SHARED, SYSTEM, WRITTEN
from .refusal import NotEnforced, refused

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # on every architecture but alpha
_VERSION, _PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_SCOPES = 0b11  # abstract sockets, signals

_ALL_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""The rights to files that each ABI knows."""

READ = READ_FILE | READ_DIR
WRITE = ((1 << 16) - 1) & ~(EXECUTE | _MAKE_CHAR | _MAKE_BLOCK | IOCTL_DEV)
"""All that a mod may do below its storage: not make devices, and run only what is in `READ | EXECUTE`."""

_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that a rule for a file, not a folder, may name."""

SCOPED_SINCE = 6


def abi() -> int:
    """Return the version of Landlock in this kernel; 0 if there is none, or it is switched off."""
    return max(0, libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)))


def restrict(cell: Cell, *, in_view: bool = False, execs: bool = False) -> str:
    """Confine this process to the files that the cell lists. Return the means; "" if it lists none.

    The process has one thread, and no_new_privs is set.

    Args:
        in_view: whether it has a file system in which nothing else is (`view`). Then it may look
            into the folders on the way.
        execs: whether it is to become another program. Then which ones is for seccomp to say.

    Raises:
        NotEnforced: the kernel has no Landlock.
    """
    if cell.files != LISTED:
        return ""
    version = _needed()
    rights = _ALL_FILES[min(version, 5)] & ~(EXECUTE if execs and not cell.exec else 0)
    with _ruleset(rights, _scopes(version)) as ruleset:
        for path, wanted in _rules(cell, in_view):
            _allow(ruleset, path, wanted & rights)
        _enter(ruleset)
    return f"Landlock ABI {version}"


def scope() -> str:
    """Keep this process from others, but not from files. Return the means.

    Raises:
        NotEnforced: the kernel has no Landlock.
    """
    version = _needed()
    # A domain must handle something: below ABI 6 that is to make block devices, which no mod may anyway.
    scopes = _scopes(version)
    with _ruleset(0 if scopes else _MAKE_BLOCK, scopes) as ruleset:
        _enter(ruleset)
    what = "memory, signals and abstract sockets" if scopes else "memory, not the signals,"
    return f"Landlock ABI {version}: {what} of others"


def _needed() -> int:
    version = abi()
    if not version:
        raise NotEnforced("this kernel has no Landlock (Linux 5.13, `landlock` among its security modules)")
    return version


def _scopes(version: int) -> int:
    return _SCOPES if version >= SCOPED_SINCE else 0


def _rules(cell: Cell, in_view: bool) -> Iterator[tuple[bytes, int]]:
    run = EXECUTE if cell.exec else 0
    if in_view:
        yield b"/", READ_DIR
    for path in (*SYSTEM, *cell.read):
        yield path, READ | run
    own = WRITTEN if in_view else [SHARED] if cell.processes else []  # elsewhere they are those of everybody
    for path in (*own, cell.storage, *cell.write):
        yield path, WRITE | READ | run
    for path in DEVICES:
        yield path, READ_FILE | WRITE_FILE | IOCTL_DEV | TRUNCATE
    yield b"/proc/self", READ | WRITE_FILE
    for path in (b"/proc",) if cell.processes else PROC:  # with a PID namespace it shows the mod's processes alone
        yield path, READ


@contextmanager
def _ruleset(files: int, scopes: int) -> Iterator[int]:
    attributes = struct.pack("=QQQ", files, 0, scopes)  # the middle one: TCP ports
    if not scopes:
        attributes = attributes[:8]  # an older kernel knows a shorter structure
    ruleset = libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    if ruleset < 0:
        raise refused("landlock_create_ruleset", ctypes.get_errno())
    try:
        yield ruleset
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: bytes, rights: int) -> None:
    """Allow these rights at and below a path, if it exists."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # a system without it, or a folder that the user may not enter
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, fd)
        if rights and libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint(0)) != 0:
            raise refused(f"landlock_add_rule {os.fsdecode(path)}", ctypes.get_errno())
    finally:
        os.close(fd)


def _enter(ruleset: int) -> None:
    if libc.syscall(_RESTRICT, ruleset, ctypes.c_uint(0)) != 0:
        raise refused("landlock_restrict_self", ctypes.get_errno())
