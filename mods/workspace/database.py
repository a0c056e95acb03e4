"""Open a mod's SQLite file and bring its tables up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BUSY_SECONDS = 5.0  # how long a statement waits for another process, such as a backup or an sqlite3 shell


class DatabaseUnusable(Exception):
    """The file is not a usable database of this mod.

    The message names the file and the next step.
    """


def open_database(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open or create the database at ``path`` and run the migrations that it lacks.

    The connection commits each statement by itself; use `transaction` around several statements. It
    belongs to the calling thread.

    Args:
        migrations: SQL scripts, oldest first. Only ever add to them: the file's ``user_version``
            counts the scripts that ran.

    Raises:
        DatabaseUnusable: the file is not an SQLite file, not accessible, or written by a newer
            version of the mod.
    """
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise DatabaseUnusable(f"{path}: {error}") from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # in WAL mode a power cut may lose the last commits, never the file
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, path, migrations)
    except BaseException as error:
        connection.close()
        if not isinstance(error, sqlite3.DatabaseError):
            raise
        may_pass = isinstance(error, sqlite3.OperationalError)  # locked, disk full, not writable
        raise DatabaseUnusable(f"{path}: {error}{'' if may_pass else '; move the file away to start empty'}") from error
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit at the end of the block; roll back if it raises. Take the write lock at once."""
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
            f"{path}: a newer version of this mod wrote it (its tables are at version {version}, this mod knows "
            f"{len(migrations)}); update the mod or restore an older copy of the file"
        )
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
