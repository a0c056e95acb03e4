"""Makes a process of root one of another user, who has no rights of root's.

Python and this repository may lie below a folder that only root may enter, such as root's home. So that folder is covered, in
a mount namespace of the process, by one that holds nothing but them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2]

_NEWNS, _BIND, _MOVE, _REC, _PRIVATE = 0x20000, 4096, 8192, 16384, 1 << 18
_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int) -> None:
    """Be this user from now on, as if the user had started this program."""
    needed = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, ROOM)}
    needed = {path for path in needed if not any(path != other and path.is_relative_to(other) for other in needed)}
    closed = {
        folder: [path for path in needed if path.is_relative_to(folder)] for folder in map(_closed, needed) if folder
    }
    if closed:
        _checked(_libc.unshare(_NEWNS))
        _mount("none", "/", "", _REC | _PRIVATE)
    for folder, paths in closed.items():
        _cover(folder, sorted(paths))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _checked(_libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0))


def _closed(path: Path) -> Path | None:
    """Return the first folder on the way to a path that only its owner may enter."""
    return next((folder for folder in reversed((path / "x").parents) if not folder.stat().st_mode & 0o001), None)


def _cover(folder: Path, paths: list[Path]) -> None:
    """Mount a folder over another one which holds these paths of it, and nothing else."""
    aside = Path("/mnt")
    _mount("none", str(aside), "tmpfs")
    aside.chmod(0o755)
    for path in paths:
        place = aside / path.relative_to(folder)
        place.mkdir(parents=True, exist_ok=True)
        _mount(str(path), str(place), "", _BIND | _REC)
    _mount(str(aside), str(folder), "", _MOVE)


def _mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    _checked(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None))


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
