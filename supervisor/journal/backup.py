"""Copy the journal's file while it is in use.

This is SQLite's online backup. The copy appears under its name only when it is complete.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ...ipc.errors import Code
from ..causes import cause
from ..on_disk import sync
from .records import JournalError

_STEP_PAGES = 1000  # 4 MB: events wait a few milliseconds for each step

_HEADER = b"SQLite format 3\0"
# Errors in the name of the target; all others are errors of the disk.
_BAD_NAME = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EROFS, errno.EINVAL,
})  # fmt: skip


def copy_database(
    source: sqlite3.Connection, file: Path, target: Path, between: Callable[[int, int, int], None]
) -> int:
    """Copy ``source`` to ``target`` with mode 0600, in place of an earlier copy.

    Args:
        file: the file of ``source``.
        between: called after each step. It may write to the source, and the copy then contains
            that. An exception ends the copy.

    Returns:
        The bytes of the copy.

    Raises:
        JournalError: bad_input: ``target`` is the journal itself, is no database, or cannot be
            written.
        sqlite3.Error, OSError: the disk is full, say. Nothing is left, and ``target`` is unchanged.
    """
    try:
        target = target.resolve()
        _refuse_itself(file, target)
        _refuse_another(target)
        return _write(source, target, between)
    except ValueError as error:  # a NUL in the path
        raise JournalError(f"{str(target)!r} cannot be written: {error}", code=Code.BAD_INPUT) from None
    except OSError as error:
        if error.errno not in _BAD_NAME:
            raise
        raise JournalError(f"{target} cannot be written: {cause(error, target)}", code=Code.BAD_INPUT) from None


def _write(source: sqlite3.Connection, target: Path, between: Callable[[int, int, int], None]) -> int:
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    size = write_copy(source, part, between)
    try:
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(target.parent)
    return size


def write_copy(source: sqlite3.Connection, part: Path, between: Callable[[int, int, int], None]) -> int:
    """Copy ``source`` to the new file ``part``, on disk when this returns. Return its bytes."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _copy(source, part, between)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    except BaseException:
        part.unlink(missing_ok=True)
        part.with_name(f"{part.name}-journal").unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _refuse_itself(file: Path, target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        own = file.with_name(file.name + suffix).resolve()
        if target == own or (target.exists() and own.exists() and target.samefile(own)):
            raise JournalError(f"{target} is the journal itself; name another file", code=Code.BAD_INPUT)


def _refuse_another(target: Path) -> None:
    """Refuse to overwrite a file that is no copy: the network file, a device, a database in use."""
    if not target.exists():
        return
    if target.is_file() and not target.with_name(f"{target.name}-wal").exists() and _may_be_replaced(target):
        return
    text = f"{target} is there and is no copy of a journal; name another file, or remove it"
    raise JournalError(text, code=Code.BAD_INPUT)


def _may_be_replaced(target: Path) -> bool:
    """Tell whether a file is empty, or a database. Some files of the kernel give an error, or wait, when read."""
    if target.stat().st_size == 0:
        return True
    try:
        with target.open("rb") as there:
            return there.read(len(_HEADER)) == _HEADER
    except PermissionError:
        raise
    except OSError:
        return False


def _copy(source: sqlite3.Connection, part: Path, between: Callable[[int, int, int], None]) -> None:
    with closing(sqlite3.connect(part, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # the whole file is synced once, at the end
        source.backup(copy, pages=_STEP_PAGES, progress=between)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
