"""What must outlive the supervisor: agents with their secrets, groups and channels. SQLite, written by one thread.

Changes are queued without waiting and committed in groups: a thousand registrations are a few commits, not a thousand.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ..ipc.errors import Code, ModvisorError, RemoteProtocolError
from ..ipc.messages import unpack
from .agent import Agent

logger = logging.getLogger("modvisor.journal")

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE agent (
    agent_id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, agent_group TEXT, metadata BLOB NOT NULL, registered_at REAL NOT NULL
) STRICT;
CREATE TABLE member (
    channel TEXT NOT NULL, agent_id TEXT NOT NULL, joined INTEGER PRIMARY KEY AUTOINCREMENT, UNIQUE (channel, agent_id)
) STRICT;
"""

_STATEMENTS = {
    "register": "INSERT OR REPLACE INTO agent VALUES (:agent_id, :secret_hash, :group, :metadata, :registered_at)",
    "unregister": "DELETE FROM agent WHERE agent_id = :agent_id",
    "join": "INSERT OR IGNORE INTO member (channel, agent_id) VALUES (:channel, :agent_id)",
    "leave": "DELETE FROM member WHERE channel = :channel AND agent_id = :agent_id",
    "remove_channel": "DELETE FROM member WHERE channel = :channel",
}

_COLUMNS = {
    "agent": ["agent_id", "secret_hash", "agent_group", "metadata", "registered_at"],
    "member": ["channel", "agent_id", "joined"],
}

_Change = tuple[str, dict[str, Any]]
_Item = _Change | threading.Event | None
_Kept = tuple[list[Agent], dict[str, list[str]]]


class _Foreign(sqlite3.DatabaseError):
    """A sound database that is not one of ours, or not one of this version."""


class Journal:
    """The database file of a network. Opened by the owner of the state directory only."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> _Kept:
        """Start the writer; returns what was kept: agents, and channels with their members.

        A damaged file, or one of another program, is set aside with a warning: a network must start without its past.

        Raises:
            ModvisorError: start_failed. The disk is full, the file is locked, there are no descriptors left …: the file is
                as good as it was, so it stays where it is.
        """
        try:
            connection, kept = self._load()
        except (sqlite3.Error, OSError) as error:
            raise self._start_failed(error) from error
        thread = threading.Thread(target=self._write, args=(connection,), name="journal", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            connection.close()
            raise self._start_failed(error) from error
        self._thread = thread
        return kept

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Queue a change: a key of `_STATEMENTS` with its parameters; ``metadata`` is packed."""
        self._queue.put((kind, data))

    def flush(self) -> None:
        """Wait until everything recorded so far is committed. Blocks: call it from a thread."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()

    def close(self) -> None:
        """Commit what is queued and end the writer. Blocks: call it from a thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    # -- in the caller's thread

    def _load(self) -> tuple[sqlite3.Connection, _Kept]:
        try:
            return self._connect()
        except (sqlite3.DatabaseError, RemoteProtocolError) as error:
            if not _is_damage(error):
                raise
            return self._connect()  # a new file: the old one was set aside

    def _connect(self) -> tuple[sqlite3.Connection, _Kept]:
        """One connection for the whole life: made here, where a failure can be raised, then used by the writer alone."""
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        try:
            return connection, self._prepare(connection)
        except BaseException as error:
            try:
                if _is_damage(error):
                    self._set_aside(error)  # before the connection is closed, when SQLite deletes a -wal it cannot read
            finally:
                connection.close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> _Kept:
        is_new = _check_schema(connection)  # before anything is written: the file may belong to somebody else
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        kept = _read(connection)
        self._file.chmod(0o600)
        return kept

    def _set_aside(self, why: BaseException) -> None:
        aside = self._file.with_name(f"{self._file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
        # The -wal may hold what was committed last. It goes first: a new database must not meet it.
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                self._file.with_name(self._file.name + suffix).rename(aside.with_name(aside.name + suffix))
        logger.warning("%s cannot be used (%s); it was set aside as %s, and agents must register again",
                       self._file, why, aside.name)  # fmt: skip

    def _start_failed(self, error: Exception) -> ModvisorError:
        return ModvisorError(
            f"{self._file} cannot be opened: {error}. The file is left as it is; remove the cause and start again",
            code=Code.START_FAILED,
        )

    # -- in the writer's thread

    def _write(self, connection: sqlite3.Connection) -> None:
        with closing(connection):
            while True:
                items = [self._queue.get()]
                while not self._queue.empty():
                    items.append(self._queue.get())
                self._commit(connection, [item for item in items if isinstance(item, tuple)])
                for item in items:
                    if isinstance(item, threading.Event):
                        item.set()
                if None in items:
                    return

    def _commit(self, connection: sqlite3.Connection, changes: list[_Change]) -> None:
        """All in one transaction; if that fails each in its own, so that a bad one does not take the others with it.

        What cannot be kept is logged: the network goes on, a restart will miss these changes.
        """
        if not changes or self._try(connection, changes) is None:
            return
        lost: list[tuple[str, Exception]] = []
        waiting = iter(changes)
        for kind, data in waiting:
            error = self._try(connection, [(kind, data)])
            if error is None:
                continue
            lost.append((kind, error))
            if _primary_code(error) in _WAITED:  # every further try would wait as long again
                lost.extend((kind, error) for kind, _ in waiting)
        if lost:
            kind, error = lost[0]
            logger.error("%d of %d changes could not be kept in %s, the first a %s: %s",
                         len(lost), len(changes), self._file, kind, error)  # fmt: skip

    def _try(self, connection: sqlite3.Connection, changes: list[_Change]) -> Exception | None:
        try:
            connection.execute("BEGIN")
            for kind, data in changes:
                connection.execute(_STATEMENTS[kind], data)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - not only SQLite's: text that is not valid Unicode fails before it
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            return error
        return None


_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
_WAITED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def _primary_code(error: BaseException | None) -> int | None:
    """SQLite's result code without the details in its upper bits; None if the error is not SQLite's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_damage(error: BaseException) -> bool:
    """Whether the file's content is at fault. A full disk or a lock is a `sqlite3.DatabaseError` too, and passes."""
    return isinstance(error, (_Foreign, RemoteProtocolError)) or _primary_code(error) in _DAMAGED


def _check_schema(connection: sqlite3.Connection) -> bool:
    """Whether the database is still empty; raises `_Foreign` if it is neither that nor one of this version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    ):
        found.setdefault(table, []).append(column)
    if version == 0 and not found:
        return True
    if version != SCHEMA_VERSION:
        raise _Foreign(f"schema {version}, this modvisor writes {SCHEMA_VERSION}")
    for table, columns in _COLUMNS.items():
        if found.get(table) != columns:
            raise _Foreign(f"the database of another program: it has no table {table!r} such as modvisor writes")
    return False


def _read(connection: sqlite3.Connection) -> _Kept:
    now = time.time()
    agents = [
        Agent(agent_id, unpack(metadata), group, secret_hash, registered_at, 0.0, now)
        for agent_id, metadata, group, secret_hash, registered_at in connection.execute(
            "SELECT agent_id, metadata, agent_group, secret_hash, registered_at FROM agent"
        )
    ]
    channels: dict[str, list[str]] = {}
    for channel, agent_id in connection.execute("SELECT channel, agent_id FROM member ORDER BY joined"):
        channels.setdefault(channel, []).append(agent_id)
    return agents, channels
