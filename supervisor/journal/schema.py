"""The journal's file: its tables, migrations from earlier versions, and which files are set
aside.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from ...ipc.errors import RemoteProtocolError

logger = logging.getLogger("modvisor.journal")

T = TypeVar("T")

BUSY_TIMEOUT = 5.0  # seconds to wait for another program that has the file open
WAL_LIMIT = 8 * 1024 * 1024  # bytes; twice what SQLite writes into the -wal before it empties it

# Script N migrates a file from version N to version N + 1. Never change a published script: add
# one.
MIGRATIONS = (
    """
    CREATE TABLE agent (
        agent_id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, agent_group TEXT, metadata BLOB NOT NULL,
        registered_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE member (
        channel TEXT NOT NULL, agent_id TEXT NOT NULL, joined INTEGER PRIMARY KEY AUTOINCREMENT, UNIQUE (channel, agent_id)
    ) STRICT;
    """,
    # AUTOINCREMENT: numbers of durable events and dead letters are never reused, so that a late
    # answer
    # cannot meet another event. Sizes stand before the blobs, so that adding them up reads no blob.
    """
    CREATE TABLE owner (
        one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER NOT NULL, opened_at REAL NOT NULL, closed_at REAL
    ) STRICT;
    CREATE TABLE mod (
        mod_id TEXT PRIMARY KEY, path TEXT NOT NULL, spec BLOB NOT NULL, position INTEGER NOT NULL, loaded_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE quarantine (
        mod_id TEXT PRIMARY KEY, path TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL, fingerprint TEXT NOT NULL
    ) STRICT;
    CREATE TABLE checkpoint (
        mod_id TEXT PRIMARY KEY, version TEXT NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL, state BLOB NOT NULL
    ) STRICT;
    CREATE TABLE durable (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, mod_id TEXT NOT NULL, source_id TEXT NOT NULL, event_id TEXT NOT NULL,
        attempt INTEGER NOT NULL, accepted_at REAL NOT NULL, size INTEGER NOT NULL, event BLOB NOT NULL,
        UNIQUE (mod_id, source_id, event_id)
    ) STRICT;
    CREATE INDEX durable_of_mod ON durable (mod_id, seq);
    CREATE TABLE dead_letter (
        letter_id INTEGER PRIMARY KEY AUTOINCREMENT, mod_id TEXT NOT NULL, at REAL NOT NULL, attempts INTEGER NOT NULL,
        code TEXT NOT NULL, reason TEXT NOT NULL, size INTEGER NOT NULL, event BLOB NOT NULL, report BLOB
    ) STRICT;
    CREATE INDEX dead_letter_of_mod ON dead_letter (mod_id);
    CREATE INDEX dead_letter_by_age ON dead_letter (at);
    """,
    """
    CREATE TABLE family (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
    """,
    # See `Agent`. Earlier versions did not note which agents gave a password: those without a group
    # did not.
    """
    ALTER TABLE agent ADD COLUMN guest INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE agent ADD COLUMN address TEXT;
    ALTER TABLE agent ADD COLUMN returned INTEGER NOT NULL DEFAULT 1;
    UPDATE agent SET guest = 1 WHERE agent_group IS NULL;
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)

_INCREMENTAL = 2  # of PRAGMA auto_vacuum: free pages are given back on demand
_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


class _Foreign(sqlite3.DatabaseError):
    """A sound database of another program, or of an unknown version."""


def primary_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code; None if the error is not SQLite's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def connect(file: Path, *, full_sync: bool, read: Callable[[sqlite3.Connection], T]) -> tuple[sqlite3.Connection, T]:
    """Open the database in this version. Return it, and what ``read`` returns for it.

    A damaged file, a file of another program and a file of a later version are set aside with a
    warning, and a new file is begun: a network must start even without its past. ``read`` may raise
    `RemoteProtocolError` for damaged content.

    Raises:
        sqlite3.Error, OSError: the disk is full, the file is locked, no descriptors are left, and
            so on. The file is sound and stays where it is.
    """
    try:
        return _connect(file, full_sync, read)
    except (sqlite3.DatabaseError, RemoteProtocolError) as error:
        if not _is_damage(error):
            raise
        return _connect(file, full_sync, read)  # a new file: the damaged one was set aside


def _connect(file: Path, full_sync: bool, read: Callable[[sqlite3.Connection], T]) -> tuple[sqlite3.Connection, T]:
    """Make the one connection of the journal: here a failure can be raised.

    Later the writer alone uses it.
    """
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, file, full_sync)
        return connection, read(connection)
    except BaseException as error:
        try:
            if _is_damage(error):
                _set_aside(file, error)  # before closing, because SQLite then deletes a -wal that it cannot read
        finally:
            connection.close()
        raise


def _prepare(connection: sqlite3.Connection, file: Path, full_sync: bool) -> None:
    version = _check_schema(connection)  # before anything is written: the file may belong to another program
    if version == 0:
        connection.execute(
            f"PRAGMA auto_vacuum = {_INCREMENTAL}"
        )  # only has an effect before the first page is written
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    file.chmod(0o600)  # SQLite gives the -wal the mode of the file
    if version < SCHEMA_VERSION:
        migrate(connection, version)
    _give_back_by_steps(connection)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Migrate a file of an earlier version to this one, in one transaction."""
    steps = "".join(MIGRATIONS[version:])
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _give_back_by_steps(connection: sqlite3.Connection) -> None:
    """Rewrite a file that was begun without auto_vacuum, once.

    It only saves space, so it may fail.
    """
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,):
        return
    with suppress(sqlite3.OperationalError):
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("VACUUM")


def _is_damage(error: BaseException) -> bool:
    """Return whether the file's content is at fault.

    A full disk and a lock are `sqlite3.DatabaseError` too, and pass.
    """
    return isinstance(error, (_Foreign, RemoteProtocolError)) or primary_code(error) in _DAMAGED


def _set_aside(file: Path, why: BaseException) -> None:
    aside = _free_name(file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"))
    # The -wal may hold the last commits. It goes first: a new database must not pick it up.
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    logger.warning(
        "%s cannot be used (%s); it was set aside as %s, and agents must register again", file, why, aside.name
    )


def _free_name(file: Path) -> Path:
    """Return the name, with a number behind it if it is taken: overwrite nothing set aside
    before.
    """
    names = itertools.chain([file], (file.with_name(f"{file.name}-{number}") for number in itertools.count(2)))
    return next(name for name in names if not name.exists())


def _check_schema(connection: sqlite3.Connection) -> int:
    """Return the version of the database, 0 if it is empty. Raises `_Foreign` if it is unknown."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    found = _columns(connection)
    if version == 0 and not found:
        return 0
    if not 1 <= version <= SCHEMA_VERSION:
        raise _Foreign(f"schema {version}, this modvisor writes {SCHEMA_VERSION}")
    for table, columns in _expected(version).items():
        if found.get(table) != columns:
            raise _Foreign(f"the database of another program: it has no table {table!r} such as modvisor writes")
    return version


@cache
def _expected(version: int) -> dict[str, list[str]]:
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript("".join(MIGRATIONS[:version]))
        return _columns(model)


def _columns(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the column names of each table, without SQLite's own tables."""
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
        "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ):
        found.setdefault(table, []).append(column)
    return found
