"""The journal's tables, migrations from earlier versions, and which files have other tables."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache

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
    # What is kept for people to look back at.
    """
    CREATE TABLE crash (
        number INTEGER PRIMARY KEY AUTOINCREMENT, mod_id TEXT NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL,
        report BLOB NOT NULL
    ) STRICT;
    CREATE INDEX crash_of_mod ON crash (mod_id, number);
    CREATE TABLE last_stats (one INTEGER PRIMARY KEY CHECK (one = 1), at REAL NOT NULL, stats BLOB NOT NULL) STRICT;
    """,
    # What counts against a durable event, and the answers that are remembered for retries.
    """
    ALTER TABLE owner ADD COLUMN boot TEXT NOT NULL DEFAULT '';
    ALTER TABLE durable ADD COLUMN charges INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE durable ADD COLUMN unproven INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE durable ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE answer (
        number INTEGER PRIMARY KEY AUTOINCREMENT, mod TEXT NOT NULL, source_id TEXT NOT NULL, event_id TEXT NOT NULL,
        at REAL NOT NULL, size INTEGER NOT NULL, answer BLOB NOT NULL, UNIQUE (mod, source_id, event_id)
    ) STRICT;
    """,
    # Who may come in: tokens of operators, invites of agents, private channels. And the newest record
    # of the audit, by which `modvisor audit verify` finds a file that was cut.
    """
    CREATE TABLE token (
        name TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, scope TEXT NOT NULL, created_at REAL NOT NULL,
        created_by TEXT NOT NULL, expires_at REAL
    ) STRICT;
    CREATE TABLE audit_head (
        one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, seal BLOB NOT NULL, at REAL NOT NULL
    ) STRICT;
    CREATE TABLE invite (
        invite_id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, agent_group TEXT, agents TEXT, uses INTEGER NOT NULL,
        expires_at REAL NOT NULL, created_at REAL NOT NULL, created_by TEXT NOT NULL
    ) STRICT;
    CREATE TABLE private_channel (channel TEXT PRIMARY KEY, created_by TEXT, created_at REAL NOT NULL) STRICT;
    """,
    # Which operators may read what events carry. Those with the scope `admin` may in any case.
    """
    ALTER TABLE token ADD COLUMN payloads INTEGER NOT NULL DEFAULT 0;
    """,
    # Files that mods keep with the network (`context.files`).
    """
    CREATE TABLE file (
        mod TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (mod, name)
    ) STRICT;
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)

INCREMENTAL = 2  # of PRAGMA auto_vacuum: free pages are given back on demand
_LATEST_VERSION = 10_000  # larger numbers are damage

_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


class DamagedFile(sqlite3.DatabaseError):
    """A journal whose content is not what modvisor wrote."""


class Foreign(sqlite3.DatabaseError):
    """A database of another program."""


class LaterVersion(sqlite3.DatabaseError):
    """A journal that a later modvisor wrote."""


def primary_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code; None if the error is not SQLite's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_damage(error: BaseException | None) -> bool:
    """Return whether the file's content is at fault.

    A full disk and a lock are `sqlite3.DatabaseError` too, and pass. Python raises
    UnicodeDecodeError instead of SQLite's error if the error's text names something damaged.
    """
    return isinstance(error, (DamagedFile, UnicodeDecodeError)) or primary_code(error) in _DAMAGED


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Migrate a file of an earlier version to this one, in one transaction."""
    steps = "".join(MIGRATIONS[version:])
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def check_schema(connection: sqlite3.Connection) -> int:
    """Return the version of the database, 0 if it is empty.

    Raises:
        Foreign, LaterVersion, DamagedFile: it has not the tables of a version that is known.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    found = columns_of(connection)
    if version == 0 and not found:
        return 0
    if version == 0 and not any(found.get(table) == columns for table, columns in expected_columns().items()):
        raise Foreign("it is the database of another program")
    if SCHEMA_VERSION < version <= _LATEST_VERSION:
        raise LaterVersion(
            f"a later modvisor wrote it (schema {version}, this one knows {SCHEMA_VERSION}); use that modvisor again, put a "
            "backup in its place, or give the network another 'storage'"
        )
    if not 1 <= version <= SCHEMA_VERSION:
        raise DamagedFile(f"its schema has the number {version}")
    for table, columns in expected_columns(version).items():
        if found.get(table) != columns:
            raise DamagedFile(f"it has no table {table!r} such as modvisor writes")
    return version


@cache
def expected_columns(version: int | None = None) -> dict[str, list[str]]:
    """Return the column names of each table in a version of the journal, by default in this one."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript("".join(MIGRATIONS[:version]))
        return columns_of(model)


def columns_of(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the column names of each table, without SQLite's own tables."""
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
        "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ):
        found.setdefault(table, []).append(column)
    return found
