"""What must outlive the supervisor: agents with their secrets, groups and channels. SQLite, written by one thread.

Changes are queued without waiting and committed in groups: a thousand registrations are a few commits, not a thousand.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from ..ipc.messages import pack, unpack
from .agents import Agent

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

_Item = tuple[str, dict[str, Any]] | threading.Event | None


class Journal:
    """The database file of a network. Opened by the owner of the state directory only."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> tuple[list[Agent], dict[str, list[str]]]:
        """Start the writer; returns what was kept: agents, and channels with their members.

        A damaged file, or one of another program, is set aside with a warning: a network must start without its past.
        """
        try:
            kept = self._read()
        except sqlite3.DatabaseError as error:
            aside = self._file.with_name(f"{self._file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
            self._file.rename(aside)
            for suffix in ("-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
            logger.warning("%s cannot be used (%s); it was set aside as %s, and agents must register again",
                           self._file, error, aside.name)  # fmt: skip
            kept = self._read()
        connected = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(connected,), name="journal", daemon=True)
        self._thread.start()
        connected.wait()
        return kept

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Queue a change: a key of `_STATEMENTS` with its parameters."""
        if kind == "register":
            data = {**data, "metadata": pack(data["metadata"])}
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

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _read(self) -> tuple[list[Agent], dict[str, list[str]]]:
        with closing(self._connect()) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema {version}, this modvisor writes {SCHEMA_VERSION}")
            now = time.time()
            agents = [
                Agent(agent_id, unpack(metadata), group, secret_hash, registered_at, 0.0, now)
                for agent_id, secret_hash, group, metadata, registered_at in connection.execute("SELECT * FROM agent")
            ]
            channels: dict[str, list[str]] = {}
            for channel, agent_id in connection.execute("SELECT channel, agent_id FROM member ORDER BY joined"):
                channels.setdefault(channel, []).append(agent_id)
        self._file.chmod(0o600)
        return agents, channels

    # -- in the writer's thread

    def _write(self, connected: threading.Event) -> None:
        with closing(self._connect()) as connection:
            connection.execute("SELECT 1 FROM agent LIMIT 1").fetchone()  # opens every file there is to open
            connected.set()
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

    def _commit(self, connection: sqlite3.Connection, changes: list[tuple[str, dict[str, Any]]]) -> None:
        if not changes:
            return
        try:
            connection.execute("BEGIN")
            for kind, data in changes:
                connection.execute(_STATEMENTS[kind], data)
            connection.execute("COMMIT")
        except sqlite3.Error as error:  # a full disk: the network goes on, a restart will miss these changes
            logger.error("%d changes could not be kept in %s: %s", len(changes), self._file, error)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
