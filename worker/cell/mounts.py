"""What a mod sees of the file system: its mount namespace, changed before its code runs.

A folder that a mod must not see gets an empty, read-only one in its place. What the mod may see
below it, such as its own storage, is mounted there again. A file that it must not see is hidden by
its name (`overlays`), or gets a file in its place that nobody may open. The mounts cannot be undone:
the mod has no capability, and in a further namespace of its own the kernel locks them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from ...ipc.cell import Cell
from . import overlays
from .libc import (
    INERT,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_MOVE,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    move_mount,
    open_tree,
    set_attributes,
)
from .refusal import NotEnforced

_NOTHING = b".hidden"  # in an empty folder: the file that stands for hidden ones
_EMPTY = b"mode=0755,size=256k,nr_inodes=512"

_TERMINALS = b"newinstance,ptmxmode=0666,mode=0620"


def own_machine() -> None:
    """Give the mod a /dev/shm and terminals of its own, and /sys with its cgroups read-only. Raise `NotEnforced`."""
    set_attributes(b"/sys", MOUNT_ATTR_RDONLY)
    if os.path.isdir("/dev/shm"):
        mount(b"tmpfs", b"/dev/shm", b"tmpfs", INERT, b"mode=1777")
    if os.path.ismount("/dev/mqueue"):
        mount(b"mqueue", b"/dev/mqueue", b"mqueue", INERT)
    if os.path.isdir("/dev/pts"):
        mount(b"devpts", b"/dev/pts", b"devpts", MS_NOSUID | MS_NOEXEC, _TERMINALS)


def hide(cell: Cell) -> str:
    """Hide what the cell says, except what it may see below that. Return the means.

    Raises:
        NotEnforced: the system refuses a mount.
    """
    folders = [path for path in cell.hidden if os.path.isdir(path)]
    kept = (cell.storage, *cell.read, *cell.write)
    files = [path for path in cell.hidden if path not in kept and not _is_below(path, folders)]
    wanted = overlays.by_folder(files) if folders else {}
    shown = _trees(
        path for path in kept if _is_inside(path, folders) or (path not in cell.read and _is_inside(path, wanted))
    )
    try:
        covered = _cover(wanted, folders)
        for folder in folders:
            _empty(folder, {path: is_folder for path, (_, is_folder) in shown.items()})
        for path, (tree, _) in shown.items():
            move_mount(tree, path)
    finally:
        for tree, _ in shown.values():
            os.close(tree)
    for folder in folders:
        set_attributes(folder, MOUNT_ATTR_RDONLY, recursive=False)
    left = [file for file in files if os.path.dirname(file) not in covered]
    _hide_files(left, folders)
    return "mount namespace" if not left else f"mount namespace ({_listed(left)} would be seen when replaced)"


def _cover(wanted: dict[bytes, list[bytes]], folders: list[bytes]) -> list[bytes]:
    """Cover folders by overlays. Return which. The first of the hidden folders holds what they need."""
    if not wanted:
        return []
    mount(b"tmpfs", folders[0], b"tmpfs", INERT, _EMPTY)
    return overlays.cover(wanted, folders[0])


def _listed(files: list[bytes]) -> str:
    return ", ".join(file.decode("utf-8", "replace") for file in files)


def _trees(paths: Iterable[bytes]) -> dict[bytes, tuple[int, bool]]:
    """Return, for each path that exists, a copy of its mount, and whether it is a folder."""
    trees: dict[bytes, tuple[int, bool]] = {}
    for path in paths:
        if path not in trees and os.path.exists(path):
            trees[path] = open_tree(path), os.path.isdir(path)
    return trees


def _empty(folder: bytes, shown: dict[bytes, bool]) -> None:
    """Mount an empty folder in the place of this one, with places for what is shown below it."""
    mount(b"tmpfs", folder, b"tmpfs", INERT, _EMPTY)
    os.close(os.open(os.path.join(folder, _NOTHING), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0))
    for path, is_folder in shown.items():
        if _is_inside(path, [folder]):
            _make_place(path, is_folder)


def _make_place(path: bytes, is_folder: bool) -> None:
    """Make what something can be mounted on."""
    os.makedirs(path if is_folder else os.path.dirname(path), exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _hide_files(files: Iterable[bytes], folders: list[bytes]) -> None:
    """Cover files one by one, where their folder could not be covered."""
    for file in files:
        if folders and os.path.exists(file):
            mount(os.path.join(folders[0], _NOTHING), file, None, MS_BIND)
            mount(b"", file, None, MS_BIND | MS_REMOUNT | MS_RDONLY | INERT)


def hide_later(paths: Iterable[bytes], hidden: Iterable[bytes]) -> None:
    """Cover more files and folders where `hide` has hidden these; what cannot be covered stays as it is."""
    stand_in = next((file for folder in hidden if os.path.exists(file := os.path.join(folder, _NOTHING))), None)
    if stand_in is None:
        return
    for path in paths:
        with suppress(NotEnforced, OSError):  # it is not there, or not for us to cover
            _hide_later(path, stand_in)


def _hide_later(path: bytes, stand_in: bytes) -> None:
    if not os.path.isdir(path):
        if not os.path.samefile(path, stand_in):
            _hide_files([path], [os.path.dirname(stand_in)])
    elif not os.path.lexists(os.path.join(path, _NOTHING)):
        _empty(path, {})
        set_attributes(path, MOUNT_ATTR_RDONLY, recursive=False)


def _is_inside(path: bytes, folders: Iterable[bytes]) -> bool:
    return path not in (folders := list(folders)) and _is_below(path, folders)


def _is_below(path: bytes, folders: Iterable[bytes]) -> bool:
    """Return whether a path is one of the folders, or lies in one."""
    return any(path == folder or path.startswith(folder.rstrip(b"/") + b"/") for folder in folders)


# -- root

_EVERYBODY = stat.S_IROTH | stat.S_IWOTH
_DEVICES = b"mode=0755,size=64k,nr_inodes=1k"
_ASIDE = b"/tmp"  # where the devices are put together; a folder that each machine has


def protect_machine(*, has_own: bool) -> None:
    """Keep a worker of root from what is root's own: /sys is read-only, disks are not there.

    Without capabilities root is a user like any other, who owns the switches of the machine. No
    capability is asked of who writes to /proc/sys or opens a disk, only the rights of files. So of
    the devices it sees those alone that every user may open. See `seal_settings` for /proc.

    Args:
        has_own: whether `own_machine` was called before.

    Raises:
        NotEnforced: the system refuses a mount.
    """
    if not has_own:
        set_attributes(b"/sys", MOUNT_ATTR_RDONLY)
    kept, links = devices()
    mount(b"tmpfs", _ASIDE, b"tmpfs", MS_NOSUID | MS_NOEXEC, _DEVICES)
    for name, target in links.items():
        os.symlink(target, _ASIDE + name)
    for name, is_folder in kept.items():
        (os.mkdir if is_folder else os.mknod)(_ASIDE + name)
        mount(b"/dev" + name, _ASIDE + name, None, MS_BIND | MS_REC if is_folder else MS_BIND)
    set_attributes(_ASIDE, MOUNT_ATTR_RDONLY, recursive=False)
    mount(_ASIDE, b"/dev", None, MS_MOVE)  # at once: the worker opens devices meanwhile


def seal_settings() -> None:
    """Make /proc read-only for a worker of root, who owns the switches of the machine. Raise `NotEnforced`."""
    mount(b"", b"/proc", None, MS_REMOUNT | MS_BIND | MS_RDONLY | INERT)


def devices() -> tuple[dict[bytes, bool], dict[bytes, bytes]]:
    """Return what every user may open in /dev, and whether it is a folder, and the links there with where they lead.

    They are looked up once, by the guardian, and again when something came into /dev or left it.
    """
    return _devices(os.stat(b"/dev").st_mtime_ns)


@lru_cache(maxsize=1)
def _devices(_changed: int) -> tuple[dict[bytes, bool], dict[bytes, bytes]]:
    with os.scandir(b"/dev") as entries:
        kept = [entry for entry in entries if _is_for_everybody(entry)]
    links = {b"/" + entry.name: os.readlink(entry.path) for entry in kept if entry.is_symlink()}
    opened = {b"/" + entry.name: entry.is_dir() for entry in kept if not entry.is_symlink()}
    return opened, {**links, b"/ptmx": b"pts/ptmx"}


def _is_for_everybody(entry: os.DirEntry[bytes]) -> bool:
    if entry.name == b"ptmx":  # it leads to the terminals beside it, also where it is mounted again
        return False
    if entry.is_symlink() or entry.name in (b"shm", b"pts", b"mqueue"):
        return True
    return stat.S_ISCHR(mode := entry.stat(follow_symlinks=False).st_mode) and mode & _EVERYBODY == _EVERYBODY
