"""Open the journal's file: migrate an earlier version, salvage a damaged file, refuse a later one."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from .damage import Damage, free_name
from .rows import text_of
from .salvage import put_beside, salvage
from .schema import INCREMENTAL, SCHEMA_VERSION, DamagedFile, Foreign, check_schema, is_damage, migrate
from .store import Store

logger = logging.getLogger("modvisor.journal")

T = TypeVar("T")

BUSY_TIMEOUT = 5.0  # seconds to wait for another program that has the file open
WAL_LIMIT = 8 * 1024 * 1024  # bytes; twice what SQLite writes into the -wal before it empties it
CHECKED_WHOLE = 64 * 1024 * 1024
"""Files up to so many bytes are checked at the start, which takes up to 0.2 s. In larger files,
damage is found when it is read."""

OnDamage = Callable[[BaseException], None]


def connect(file: Path, *, full_sync: bool, read: Callable[[sqlite3.Connection], T]) -> tuple[sqlite3.Connection, T]:
    """Open the database in this version. Return it, and what ``read`` returns for it.

    Of a damaged file, all readable rows are kept, in a new file; the damaged one stays beside it. A
    file of another program is set aside, and a new file is begun. Both with a warning: a network
    must start even without its past.

    Raises:
        sqlite3.Error, OSError: the disk is full, the file is locked, no descriptors are left, a
            later modvisor wrote it, and so on. The file is sound and stays where it is.
    """
    damage = Damage(file)

    def keep_damaged(error: BaseException) -> None:
        if isinstance(error, Foreign):
            _set_aside(file, error)
        else:
            put_beside(file, damage.aside)

    try:
        return _connect(file, full_sync, read, keep_damaged)
    except Foreign:
        pass
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        mend(file, damage, error)
    try:
        return _connect(file, full_sync, read, lambda error: _set_aside(file, error))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        return _connect(file, full_sync, read, lambda error: None)  # a new file


def mend(file: Path, damage: Damage, why: BaseException) -> None:
    """Put the readable rows of a damaged file in its place, and tell what is lost.

    The file was `put_beside` before, and nobody has it open.
    """
    salvage(file, damage)
    lost = damage.told()
    logger.warning(
        "%s was damaged (%s). All that can be read was kept; lost: %s. The damaged file is now %s%s; lost agents "
        "must register again. To go back to a copy instead: modvisor restore FILE",
        file, why, lost or "nothing that is known", damage.aside.name,
        f", its unreadable rows are in {damage.rows_file.name}" if damage.rows_file.exists() else "",
    )  # fmt: skip


def reopen(store: Store, file: Path, full_sync: bool, why: BaseException) -> None:
    """Give the store a salvaged file, after damage was found in the file that it uses."""
    damage = Damage(file)
    put_beside(file, damage.aside)
    store.connection.close()
    try:
        mend(file, damage, why)
    finally:
        connection, _ = _connect(file, full_sync, lambda connection: None, lambda error: None)
        store.use(connection)
    store.recount()


def _connect(
    file: Path, full_sync: bool, read: Callable[[sqlite3.Connection], T], on_damage: OnDamage
) -> tuple[sqlite3.Connection, T]:
    """Make the one connection of the journal: here a failure can be raised.

    Later the writer alone uses it.
    """
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        connection.text_factory = text_of
        _prepare(connection, file, full_sync)
        return connection, read(connection)
    except BaseException as error:
        try:
            if is_damage(error) or isinstance(error, Foreign):
                on_damage(error)  # before closing, because SQLite then deletes a -wal that it cannot read
        finally:
            connection.close()
        raise


def _prepare(connection: sqlite3.Connection, file: Path, full_sync: bool) -> None:
    version = check_schema(connection)  # before anything is written: the file may belong to another program
    if version == 0:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # only has an effect before the first page is written
    elif file.stat().st_size <= CHECKED_WHOLE:
        _check_pages(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    file.chmod(0o600)  # SQLite gives the -wal the mode of the file
    if version < SCHEMA_VERSION:
        migrate(connection, version)
    _give_back_by_steps(connection)


def _check_pages(connection: sqlite3.Connection) -> None:
    """Raise `DamagedFile` if pages, rows and indexes do not fit together."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise DamagedFile(" ".join(str(found).split()))


def _give_back_by_steps(connection: sqlite3.Connection) -> None:
    """Rewrite a file that was begun without auto_vacuum, once.

    It only saves space, so it may fail.
    """
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (INCREMENTAL,):
        return
    with suppress(sqlite3.OperationalError):
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("VACUUM")


def _set_aside(file: Path, why: BaseException) -> None:
    aside = free_name(file)
    # The -wal may hold the last commits. It goes first: a new database must not pick it up.
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    logger.warning(
        "%s cannot be used (%s); it was set aside as %s, and agents must register again", file, why, aside.name
    )
