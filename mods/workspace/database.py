"""Opening a mod's SQLite file, and bringing its tables up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BUSY_SECONDS = 5.0  # how long a statement waits for another process (a backup, a person's sqlite3 shell) to finish


class DatabaseUnusable(Exception):
    """The file is not a database of this mod; the message names it and says what to do."""


def open_database(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open (or create) the database at ``path`` and run the migrations it has not seen.

    The connection commits each statement by itself; use `transaction` around several. It belongs to the calling thread.

    Args:
        migrations: SQL scripts, oldest first, only ever added to: the file's ``user_version`` counts those that ran.

    Raises:
        DatabaseUnusable: not an SQLite file, not accessible, or written by a newer version of the mod.
    """
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise DatabaseUnusable(f"{path}: {error}") from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # WAL: a power cut may lose the last commits, never the file
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, path, migrations)
    except BaseException as error:
        connection.close()
        if not isinstance(error, sqlite3.DatabaseError):
            raise
        passing = isinstance(error, sqlite3.OperationalError)  # locked, disk full, not writable
        raise DatabaseUnusable(f"{path}: {error}{'' if passing else '; move the file away to start empty'}") from error
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing: commits at the end, rolls back when the block raises. Takes the write lock at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise DatabaseUnusable(
            f"{path}: written by a newer version of this mod (its tables are at {version}, this version knows "
            f"{len(migrations)}); update the mod or restore an older copy of the file"
        )
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
