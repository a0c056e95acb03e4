"""A file system that holds only what a cell lists: the root of a strict mod.

An empty root gets the listed folders and files, each at its usual path, most of them read-only, then
takes the place of the real one. What is not listed has no path: there is nothing to read, and also
nothing to connect to, to look at or to change. Folders on the way to a listed path belong to nobody,
so a mod under a user of its own gets to its code wherever that lies.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from contextlib import suppress

from ...ipc.cell import Cell
from .libc import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOSUID,
    checked,
    libc,
    mount,
    move_mount,
    open_tree,
    set_attributes,
)
from .listed import DEVICES, LINKS, SHARED, SYSTEM, TMP
from .refusal import NotEnforced

_MOUNT_ATTR_NOSUID = 0x2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MNT_DETACH = 2
_ROOT = b"/tmp"
"""Where the new root is put together; a folder that each machine has."""

_OF_THE_ROOT = b"mode=0755,size=1m,nr_inodes=4096"
_FOREIGN = _MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
_BYTES_A_FILE = 1024  # of /tmp, so that a flood of empty files ends, too

USUAL_TMP = 64 * 1024 * 1024
"""Bytes of a /tmp. It is memory, counted to the mod where it has a cgroup."""


def enter(cell: Cell) -> str:
    """Make what the cell lists the whole file system of this process. Return the means.

    What `mounts.hide` has hidden below a listed folder stays hidden.

    Raises:
        NotEnforced: the system refuses mounts. The process must not go on in what was begun.
    """
    links: dict[bytes, bytes] = {}
    places = _places(cell, links)
    trees: dict[bytes, int] = {}
    try:
        for path, attributes in places.items():
            trees[path] = open_tree(path)
            set_attributes(b"", attributes, tree=trees[path])
        _begin(cell.tmp or USUAL_TMP)
        for path in sorted(trees, key=lambda path: path.count(b"/")):  # a folder before what is below it
            _place(path, trees[path])
    finally:
        for tree in trees.values():
            os.close(tree)
    for link, target in (LINKS | links).items():
        _link(link, target)
    _become_root()
    return "a root of its own"


def _places(cell: Cell, links: dict[bytes, bytes]) -> dict[bytes, int]:
    """Return what to mount where, each with its attributes. Add the links that lead there.

    A folder within another one that is shown alike needs no mount of its own.
    """
    plain: set[bytes] = set()
    read = dict.fromkeys(path for each in (*SYSTEM, *cell.read) if (path := _found(each, links, plain)))
    write = dict.fromkeys(path for each in (cell.storage, *cell.write) if (path := _found(each, links, plain)))
    own = [path for path in (b"/proc", SHARED, *DEVICES) if os.path.exists(path)]
    kept = [path for path in read if path not in write and not _is_below(path, read)]
    return {
        **dict.fromkeys(kept, _FOREIGN | MOUNT_ATTR_RDONLY),
        **dict.fromkeys(write, _FOREIGN),
        **dict.fromkeys(own, _MOUNT_ATTR_NOSUID),
    }


def _is_below(path: bytes, folders: Container[bytes]) -> bool:
    while len(path) > 1:
        path = path.rpartition(b"/")[0] or b"/"
        if path in folders:
            return True
    return False


def _found(path: bytes, links: dict[bytes, bytes], plain: set[bytes]) -> bytes:
    """Return where a path leads without links; b"" if it leads nowhere.

    Args:
        links: gets the links on the way.
        plain: what is known to be no link; it gets more. Most paths begin alike.
    """
    if not path or not os.path.exists(path):
        return b""
    left, at = path.split(b"/")[::-1], b""
    while left:
        part = left.pop()
        if part == b"..":
            at = os.path.dirname(at).rstrip(b"/")
        elif part not in (b"", b"."):
            here = at + b"/" + part
            if here not in plain and os.path.islink(here):
                links[here] = target = os.readlink(here)
                left += target.split(b"/")[::-1]
                at = b"" if target.startswith(b"/") else at
            else:
                plain.add(here)
                at = here
    return at


def _begin(size: int) -> None:
    """Mount the new root where it is put together, with a /tmp of this size."""
    mount(b"tmpfs", _ROOT, b"tmpfs", MS_NOSUID | MS_NODEV, _OF_THE_ROOT)
    os.mkdir(_ROOT + TMP)
    options = b"mode=1777,size=%d,nr_inodes=%d" % (size, max(1000, size // _BYTES_A_FILE))
    mount(b"tmpfs", _ROOT + TMP, b"tmpfs", MS_NOSUID | MS_NODEV, options)


def _place(path: bytes, tree: int) -> None:
    target, is_folder = _ROOT + path, stat.S_ISDIR(os.fstat(tree).st_mode)
    if not os.path.exists(target):
        os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
        if not is_folder:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    move_mount(tree, target)


def _link(path: bytes, target: bytes) -> None:
    """Make a link in the new root. In a folder that is shown it is there already."""
    place = _ROOT + path
    if not os.path.lexists(place):
        with suppress(OSError):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.symlink(target, place)


def _become_root() -> None:
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise NotEnforced(f"the number of pivot_root is not known for {os.uname().machine}")
    set_attributes(_ROOT, MOUNT_ATTR_RDONLY, recursive=False)
    os.chdir(_ROOT)
    checked(libc.syscall(number, b".", b"."), "pivot_root")
    checked(libc.umount2(b".", _MNT_DETACH), "umount /")  # the old root, which lies upon the new one
    os.chdir(b"/")
