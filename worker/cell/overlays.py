"""Hides files by their names, so that they stay hidden when they are replaced.

A mount that covers a file goes when another file is renamed over it outside, as editors do it. So
an overlay covers the folder of the file: it shows the folder as it is, now and later, without that
name. The overlay is read-only, so the mod can put no other file there, either: whoever writes the
network file decides what runs.

An overlay remembers names that it did not find, until it is told to forget them (`refresh`), and
shows no mounts. So the folders in it, and all that is mounted below, are mounted on it again: the
mod sees each file in them as soon as it is there, and may write to them. The folder of the mods
alone becomes read-only.

A folder in which many things lie, such as the user's home, is not covered: a mod may have to write
there. The files in it are covered one by one (`mounts`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice

from .libc import (
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    mount,
    move_mount,
    open_tree,
    set_attributes,
)
from .refusal import NotEnforced

_COMMON = frozenset(
    b"/ /dev /dev/shm /etc /home /mnt /opt /proc /run /srv /sys /tmp /usr /usr/local /var /var/lib /var/run /var/tmp".split()
)

_SOURCE, _FLAGS = b"modvisor", MS_RDONLY | MS_NOSUID | MS_NODEV

_OCTAL = re.compile(rb"\\(\d{3})")  # how mountinfo writes blanks

MOST = 200
"""Entries of a folder that are looked at for folders in it. Each that is mounted again takes 10 µs."""


def by_folder(files: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Return the folders that can be covered, each with the names to hide; outer folders first."""
    home = os.environb.get(b"HOME", b"")
    folders: dict[bytes, list[bytes]] = {}
    for file in files:
        folder, name = os.path.split(file)
        if folder not in _COMMON and not (home + b"/").startswith(folder + b"/"):
            folders.setdefault(folder, []).append(name)
    return dict(sorted(folders.items()))


def cover(folders: Mapping[bytes, list[bytes]], spare: bytes) -> list[bytes]:
    """Mount an overlay on each of these folders. Return those that the system lets us cover.

    Args:
        spare: an empty folder in memory, for what stands for the hidden names.
    """
    table = _table()
    # Usually no mount lies in them, and then there is nothing to read in the table.
    points = [point for point, _, _ in _mounts(table)] if any(_has(table, folder) for folder in folders) else []
    trees = {folder: {path: open_tree(path) for path in _inside(folder, points)} for folder in folders}
    opened = {folder: os.open(folder, os.O_PATH | os.O_CLOEXEC) for folder in folders}
    try:
        return [
            folder
            for folder, names in folders.items()
            if _is_covered(folder, opened[folder], names, spare) and _is_filled(trees[folder])
        ]
    finally:
        for fd in (*opened.values(), *(tree for inside in trees.values() for tree in inside.values())):
            os.close(fd)


def refresh() -> None:
    """Have the overlays of this mount namespace forget the names that they did not find."""
    for point, kind, source in _mounts(_table()):
        if (kind, source) == (b"overlay", _SOURCE):
            with suppress(NotEnforced):
                mount(_SOURCE, point, b"overlay", MS_REMOUNT | _FLAGS)


def _table() -> bytes:
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        return file.readall()


def _has(table: bytes, folder: bytes) -> bool:
    return folder + b"/" in table or b"\\" in table  # as written, or with blanks, see `_OCTAL`


def _mounts(table: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return the mount points, the kind of file system of each, and its source."""
    found: list[tuple[bytes, bytes, bytes]] = []
    for fields in (line.split(b" ") for line in table.splitlines()):
        at = fields.index(b"-")
        found.append((_unescaped(fields[4]), fields[at + 1], fields[at + 2]))
    return found


def _unescaped(point: bytes) -> bytes:
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), point) if b"\\" in point else point


def _inside(folder: bytes, points: Iterable[bytes]) -> list[bytes]:
    """Return what is to be mounted again on the overlay of a folder, without what lies in another of these."""
    with os.scandir(folder) as entries:
        found = {entry.path for entry in islice(entries, MOST) if entry.is_dir(follow_symlinks=False)}
    found |= {point for point in points if point.startswith(folder + b"/")}
    return [path for path in sorted(found) if not path.startswith(tuple(other + b"/" for other in found))]


def _is_covered(folder: bytes, opened: int, names: list[bytes], spare: bytes) -> bool:
    place = os.path.join(spare, b"%d" % opened)
    with suppress(NotEnforced, OSError):  # no overlays here, or too many on one another
        os.mkdir(place)
        for name in names:
            os.mknod(os.path.join(place, name), stat.S_IFCHR)  # a whiteout: device 0/0
        hidden = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            layers = b"lowerdir=/proc/self/fd/%d:/proc/self/fd/%d" % (hidden, opened)
            mount(_SOURCE, folder, b"overlay", _FLAGS, layers)
        finally:
            os.close(hidden)
        return True
    return False


def _is_filled(trees: Mapping[bytes, int]) -> bool:
    for path, tree in trees.items():
        move_mount(tree, path)
        if os.path.basename(path) == b"mods":
            set_attributes(path, MOUNT_ATTR_RDONLY)
    return True
