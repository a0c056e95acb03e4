"""The journal's file: its tables, how a file of a former version becomes one of this, and which files are set aside."""

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

BUSY_TIMEOUT = 5.0  # seconds to wait for somebody who looks into the file
WAL_LIMIT = 8 * 1024 * 1024  # bytes the -wal is cut back to; twice what SQLite writes before it empties it

# Each script brings a file from the version of its place in the list to the next. What was published is never changed: add one.
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
    # The numbers of durable events and dead letters are never given twice (AUTOINCREMENT): a late answer must not meet another
    # event. Sizes stand before the blobs, so that adding them up reads none of these.
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
)
SCHEMA_VERSION = len(MIGRATIONS)

_INCREMENTAL = 2  # of PRAGMA auto_vacuum: free pages are given back when we say so
_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


class _Foreign(sqlite3.DatabaseError):
    """A sound database that is not one of ours, or of a version we do not know."""


def primary_code(error: BaseException | None) -> int | None:
    """SQLite's result code without the details in its upper bits; None if the error is not SQLite's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def connect(file: Path, *, full_sync: bool, read: Callable[[sqlite3.Connection], T]) -> tuple[sqlite3.Connection, T]:
    """The database, of this version, and what ``read`` makes of it.

    A damaged file, or one of another program or of a later version, is set aside with a warning and a new one begun: a network
    must start without its past. ``read`` may raise `RemoteProtocolError` for content that is damaged.

    Raises:
        sqlite3.Error, OSError: a full disk, a lock, no descriptors left …: the file is as good as it was and stays where it is.
    """
    try:
        return _connect(file, full_sync, read)
    except (sqlite3.DatabaseError, RemoteProtocolError) as error:
        if not _is_damage(error):
            raise
        return _connect(file, full_sync, read)  # a new file: the former one was set aside


def _connect(file: Path, full_sync: bool, read: Callable[[sqlite3.Connection], T]) -> tuple[sqlite3.Connection, T]:
    """One connection for the whole life: made here, where a failure can be raised, then used by the writer alone."""
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, file, full_sync)
        return connection, read(connection)
    except BaseException as error:
        try:
            if _is_damage(error):
                _set_aside(file, error)  # before the connection is closed, when SQLite deletes a -wal it cannot read
        finally:
            connection.close()
        raise


def _prepare(connection: sqlite3.Connection, file: Path, full_sync: bool) -> None:
    version = _check_schema(connection)  # before anything is written: the file may belong to somebody else
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
    """Bring a file of a former version to this one, in one transaction."""
    steps = "".join(MIGRATIONS[version:])
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _give_back_by_steps(connection: sqlite3.Connection) -> None:
    """A file that was begun without auto_vacuum is written anew once. It is only about room, so it may fail."""
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,):
        return
    with suppress(sqlite3.OperationalError):
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("VACUUM")


def _is_damage(error: BaseException) -> bool:
    """Whether the file's content is at fault. A full disk or a lock is a `sqlite3.DatabaseError` too, and passes."""
    return isinstance(error, (_Foreign, RemoteProtocolError)) or primary_code(error) in _DAMAGED


def _set_aside(file: Path, why: BaseException) -> None:
    aside = _free_name(file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"))
    # The -wal may hold what was committed last. It goes first: a new database must not meet it.
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    logger.warning(
        "%s cannot be used (%s); it was set aside as %s, and agents must register again", file, why, aside.name
    )


def _free_name(file: Path) -> Path:
    """The name, or one with a number behind it: what was set aside before is not overwritten."""
    names = itertools.chain([file], (file.with_name(f"{file.name}-{number}") for number in itertools.count(2)))
    return next(name for name in names if not name.exists())


def _check_schema(connection: sqlite3.Connection) -> int:
    """The version of the database, 0 if it is still empty; raises `_Foreign` if it is not one we know."""
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
    """Table name to the names of its columns; SQLite's own tables left out."""
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
        "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ):
        found.setdefault(table, []).append(column)
    return found
