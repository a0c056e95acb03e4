"""A copy of the journal's file while it is used: SQLite's online backup, whole under its name or not there at all."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ...ipc.errors import Code
from .records import JournalError

_STEP_PAGES = 1000  # 4 MB: some milliseconds, which is how long events wait for the copy

_HEADER = b"SQLite format 3\0"
# What is wrong with the name of the target, not with the disk.
_BAD_NAME = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP,
})  # fmt: skip


def copy_database(
    source: sqlite3.Connection, file: Path, target: Path, between: Callable[[int, int, int], None]
) -> int:
    """Write a copy of ``source`` to ``target``, mode 0600, in place of a former copy; returns its size in bytes.

    Args:
        file: of ``source``.
        between: called after each step; may write to the source, which the copy then contains. What it raises ends the copy.

    Raises:
        JournalError: bad_input: ``target`` is ``file`` or what SQLite keeps beside it, something else than a database, or
            where nothing can be written.
        sqlite3.Error, OSError: the disk is full …; nothing is left, and ``target`` is as it was.
    """
    target = target.resolve()
    try:
        _refuse_itself(file, target)
        _refuse_another(target)
        return _write(source, target, between)
    except OSError as error:
        if error.errno not in _BAD_NAME:
            raise
        raise JournalError(f"{target} cannot be written: {error.strerror}", code=Code.BAD_INPUT) from None


def _write(source: sqlite3.Connection, target: Path, between: Callable[[int, int, int], None]) -> int:
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _copy(source, part, between)
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        part.with_name(f"{part.name}-journal").unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    _sync_folder(target.parent)
    return size


def _refuse_itself(file: Path, target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        own = file.with_name(file.name + suffix).resolve()
        if target == own or (target.exists() and own.exists() and target.samefile(own)):
            raise JournalError(f"{target} is the journal itself; name another file", code=Code.BAD_INPUT)


def _refuse_another(target: Path) -> None:
    """Whoever names the network file here, a device or a database in use does not want it to be gone."""
    if not target.exists():
        return
    if target.is_file() and not target.with_name(f"{target.name}-wal").exists():
        with target.open("rb") as there:
            if there.read(len(_HEADER)) in (b"", _HEADER):
                return
    text = f"{target} is there and is no copy of a journal; name another file, or remove it"
    raise JournalError(text, code=Code.BAD_INPUT)


def _copy(source: sqlite3.Connection, part: Path, between: Callable[[int, int, int], None]) -> None:
    with closing(sqlite3.connect(part, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # the whole file is synced once, at the end
        source.backup(copy, pages=_STEP_PAGES, progress=between)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it


def _sync_folder(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
