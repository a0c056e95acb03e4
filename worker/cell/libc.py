"""System calls that Python lacks: mounts, capabilities, prctl(2), keyrings. Each raises `NotEnforced`."""

from __future__ import annotations

import ctypes

from .refusal import NotEnforced, refused

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_MOVE = 1, 2, 4, 8, 32, 4096, 8192
MS_REC, MS_SLAVE = 0x4000, 0x80000
INERT = MS_NOSUID | MS_NODEV | MS_NOEXEC

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV = 0x1, 0x4

# The same numbers on every architecture since Linux 5.1.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, 0o2000000, 4

# PyDLL keeps the interpreter's lock: these calls do not wait for anything.
libc = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def checked(result: int, what: str) -> int:
    """Return the result of a call; raise `NotEnforced` for -1."""
    if result == -1:
        raise refused(what, ctypes.get_errno())
    return result


def _failed(what: str, path: bytes) -> NotEnforced:
    return refused(f"{what} {path.decode('utf-8', 'replace')}", ctypes.get_errno())


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), options):
        raise _failed("mount", target)


def open_tree(path: bytes) -> int:
    """Return a descriptor of a copy of the mounts at and below ``path``, which are mounted nowhere yet."""
    flags = _OPEN_TREE_CLONE | _CLOEXEC | _AT_RECURSIVE
    tree = libc.syscall(_OPEN_TREE, _AT_FDCWD, path, flags)
    if tree < 0:
        raise _failed("open_tree", path)
    return tree


def move_mount(tree: int, target: bytes) -> None:
    """Mount what `open_tree` returned."""
    if libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH):
        raise _failed("move_mount", target)


class _Attributes(ctypes.Structure):
    """``struct mount_attr``"""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def set_attributes(path: bytes, attributes: int, *, tree: int = _AT_FDCWD, recursive: bool = True) -> None:
    """Give the mount at ``path``, and those below it, further attributes."""
    asked = _Attributes(attr_set=attributes)
    flags = (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    size = ctypes.c_size_t(ctypes.sizeof(asked))
    if libc.syscall(_MOUNT_SETATTR, tree, path, flags, ctypes.byref(asked), size):
        raise _failed("mount_setattr", path)


def prctl(option: int, value: int = 0, more: int = 0) -> None:
    unsigned = ctypes.c_ulong
    checked(libc.prctl(option, unsigned(value), unsigned(more), unsigned(0), unsigned(0)), f"prctl {option}")
