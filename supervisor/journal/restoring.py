"""Put a copy of the journal in its place. Call this under the owner's lock."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from ...ipc.errors import Code
from ..on_disk import sync
from .backup import write_copy
from .records import JournalError
from .schema import check_schema

_BESIDE = ("-wal", "-shm")


def restore_database(copy: Path, file: Path) -> Path | None:
    """Put ``copy`` in the place of the journal ``file``. The copy stays.

    A copy that an earlier modvisor made is migrated when a network opens it, as its own file would be.

    Returns:
        Where the former journal is now; None: there was none.

    Raises:
        JournalError: bad_input: ``copy`` is no journal, is damaged, or a later modvisor made it.
            Nothing has changed then.
        OSError: there is no room, say. The former journal is where it was.
    """
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)) as source:
            _check(source)
            write_copy(source, part, lambda *_: None)
    except sqlite3.Error as error:
        part.unlink(missing_ok=True)
        raise JournalError(f"{copy} cannot be put back: {error}", code=Code.BAD_INPUT) from None
    try:
        former = _set_aside(file)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(file.parent)
    return former


def _check(source: sqlite3.Connection) -> None:
    if check_schema(source) == 0:
        raise sqlite3.DatabaseError("it is empty, and no journal")
    (found,) = source.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"it is damaged ({found}); 'modvisor run' mends a journal in its place")


def _set_aside(file: Path) -> Path | None:
    """Give the former journal another name, and leave it under its own until the copy replaces it."""
    if not file.exists():
        return None
    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as former:  # a damaged one stays as it is
        former.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    aside = file.with_name(f"{file.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    os.link(file, aside)
    for suffix in _BESIDE:
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
