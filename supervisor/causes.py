"""Why the system refused a file or folder, in words that name what stands in the way.

The kernel says "No such file or directory" of a missing file and of a missing folder above it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .nearest import nearest


def cause(error: OSError | ValueError, path: str | Path) -> str:
    """Return why ``path`` could not be read or written: the kernel's words, and what they are about."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    about = _ABOUT.get(error.errno or 0)
    more = about(Path(os.path.abspath(path))) if about else ""
    return f"{error.strerror}{more}"


def _missing(path: Path) -> str:
    if not path.parent.exists():
        above = next(each for each in reversed(path.parents) if not each.exists())
        return f": the folder {above} does not exist"
    if path.is_symlink() and not path.exists():
        return f": {path} is a link to {os.readlink(path)}, which does not exist"
    meant = similar_file(path)
    return f"; did you mean {meant!r}?" if meant else ""


def similar_file(path: Path) -> str | None:
    """Return the name of a file beside a missing one that was probably meant."""
    try:
        return nearest(path.name, sorted(each.name for each in path.parent.iterdir()))
    except OSError:
        return None


def _not_a_folder(path: Path) -> str:
    file = next((each for each in (*reversed(path.parents), path) if each.exists() and not each.is_dir()), path)
    return f": {file} is a file"


def _there_already(path: Path) -> str:
    kind = "a folder" if path.is_dir() else "a file"
    return f": {path} is {kind}" if path.exists() else ""


def _not_allowed(path: Path) -> str:
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    try:
        owner = there.stat().st_uid
    except OSError:
        return ""
    return f": {there} belongs to user {owner}, this is user {os.geteuid()}"


_ABOUT = {
    errno.ENOENT: _missing,
    errno.ENOTDIR: _not_a_folder,
    errno.EEXIST: _there_already,
    errno.EACCES: _not_allowed,
    errno.EPERM: _not_allowed,
}
