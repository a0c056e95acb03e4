"""All that a network at rest has left and another one can go on with, out of a journal and into a new one.

Call these under the owner's lock, while nobody has the journal open. What is for people to look back
at (crash reports, figures, the audit's newest line) and the tokens of operators are not in it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...ipc.messages import pack, unpack
from ..config import JournalConfig
from ..on_disk import sync
from .deaths import Record
from .journal import Journal
from .records import JournalError, KeptMod
from .store import Store


class KeptState(NamedTuple):
    """A checkpoint. ``state``: packed."""

    mod_id: str
    version: str
    at: float
    state: bytes


class KeptEvent(NamedTuple):
    """An accepted event without an answer. ``event``: packed; ``owner`` and ``event_id`` identify it."""

    mod_id: str
    owner: str
    event_id: str
    event: bytes
    at: float
    record: Record


class KeptAnswer(NamedTuple):
    """The answer of a durable mod, for who sends the event again."""

    mod: str
    owner: str
    event_id: str
    at: float
    answer: bytes


class KeptLetter(NamedTuple):
    """A dead letter. ``event`` and ``report``: packed."""

    mod_id: str
    at: float
    attempts: int
    code: str
    reason: str
    event: bytes
    report: bytes | None


class KeptFile(NamedTuple):
    """A file that a mod keeps with the network (`context.files`)."""

    mod: str
    name: str
    at: float
    data: bytes


@dataclass(slots=True)
class Whole:
    """What a network keeps of its agents and mods. Each list is in the order in which it came about.

    Attributes:
        agents, invites: as `AgentStore.record` takes them.
        members: channel and agent, in the order of joining.
        private: channel, who made it, and when.
        families: the promotions of each family, as plain data.
        snapshots: the last good version of mods, as `SnapshotStore` keeps it.
    """

    agents: list[dict[str, Any]] = field(default_factory=list)
    members: list[tuple[str, str]] = field(default_factory=list)
    private: list[tuple[str, str | None, float]] = field(default_factory=list)
    invites: list[dict[str, Any]] = field(default_factory=list)
    mods: list[KeptMod] = field(default_factory=list)
    families: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoints: list[KeptState] = field(default_factory=list)
    events: list[KeptEvent] = field(default_factory=list)
    answers: list[KeptAnswer] = field(default_factory=list)
    letters: list[KeptLetter] = field(default_factory=list)
    files: list[KeptFile] = field(default_factory=list)
    snapshots: dict[str, bytes] = field(default_factory=dict)


_AGENT = "agent_id secret_hash group metadata registered_at guest address returned"
_INVITE = "invite_id secret_hash agent_group agent uses expires_at created_at created_by"


def read_whole(file: Path) -> Whole:
    """Return what a journal of this version has, which was opened before and so is sound.

    Raises:
        JournalError: it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return _read(connection)
    except sqlite3.Error as error:
        raise JournalError(f"{file} cannot be read: {error}") from None


def _read(connection: sqlite3.Connection) -> Whole:
    def rows(columns: str, table: str, order: str) -> Iterable[tuple[Any, ...]]:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY {order}")

    def named(names: str, columns: str, table: str) -> list[dict[str, Any]]:
        keys = names.split()
        return [dict(zip(keys, row, strict=True)) for row in rows(columns, table, "rowid")]

    agents = named(
        _AGENT, "agent_id, secret_hash, agent_group, metadata, registered_at, guest, address, returned", "agent"
    )
    return Whole(
        agents=[{**each, "guest": bool(each["guest"]), "returned": bool(each["returned"])} for each in agents],
        members=list(map(tuple, rows("channel, agent_id", "member", "joined"))),
        private=list(map(tuple, rows("channel, created_by, created_at", "private_channel", "channel"))),
        invites=named(
            _INVITE, "invite_id, secret_hash, agent_group, agents, uses, expires_at, created_at, created_by", "invite"
        ),
        mods=[
            KeptMod(mod_id, path, unpack(spec), position, loaded_at)
            for mod_id, path, spec, position, loaded_at in rows(
                "mod_id, path, spec, position, loaded_at", "mod", "position, loaded_at, mod_id"
            )
        ],
        families={name: unpack(record) for name, record in rows("name, record", "family", "name")},
        checkpoints=[KeptState(*row) for row in rows("mod_id, version, at, state", "checkpoint", "mod_id")],
        events=[
            KeptEvent(mod_id, owner, event_id, event, at, Record(*record))
            for mod_id, owner, event_id, event, at, *record in rows(
                "mod_id, source_id, event_id, event, accepted_at, attempt, charges, unproven, turn", "durable", "seq"
            )
        ],
        answers=[KeptAnswer(*row) for row in rows("mod, source_id, event_id, at, answer", "answer", "number")],
        files=[KeptFile(*row) for row in rows("mod, name, at, data", "file", "mod, name")],
        letters=[
            KeptLetter(*row)
            for row in rows("mod_id, at, attempts, code, reason, event, report", "dead_letter", "letter_id")
        ],
    )


def write_whole(file: Path, whole: Whole, config: JournalConfig) -> None:
    """Make a new journal of it: the file appears when all is in it, and on the disk.

    Raises:
        JournalError: there is a journal, or no room.
    """
    if file.exists():
        raise JournalError(f"there is a journal already: {file}")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        journal = Journal(part, config)
        journal.open()
        journal.close()
        with closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            _write(Store(connection, config), connection, whole)
            connection.execute("DELETE FROM owner")  # nobody has had it
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, without a -wal beside it
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.rename(file)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{file} cannot be written: {error}") from None
    finally:
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                part.with_name(part.name + suffix).unlink(missing_ok=True)
    sync(file.parent)


def was_opened(file: Path) -> bool:
    """Return whether a network has had a journal since `write_whole` made it. Raises `JournalError`."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM owner").fetchone() is not None
    except sqlite3.Error as error:
        raise JournalError(f"{file} cannot be read: {error}") from None


def _write(store: Store, connection: sqlite3.Connection, whole: Whole) -> None:
    for agent in whole.agents:
        store.change("register", agent)
    for channel, agent_id in whole.members:
        store.change("join", {"channel": channel, "agent_id": agent_id})
    for channel, created_by, created_at in whole.private:
        store.change("private", {"channel": channel, "created_by": created_by, "created_at": created_at})
    for invite in whole.invites:
        store.change("invite", invite)
    for mod in whole.mods:
        store.keep_mod(mod, pack(mod.spec))
    for family, record in whole.families.items():
        store.keep_family(family, pack(record))
    for mod_id, version, at, state in whole.checkpoints:
        store.save_checkpoint(mod_id, version, state, at)
    _write_events(connection, whole)
    _write_files(connection, whole.files)


def _write_files(connection: sqlite3.Connection, files: list[KeptFile]) -> None:
    connection.executemany(
        "INSERT INTO file (mod, name, at, size, data) VALUES (?, ?, ?, ?, ?)",
        [(each.mod, each.name, each.at, len(each.data), each.data) for each in files],
    )


def _write_events(connection: sqlite3.Connection, whole: Whole) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO durable"
        " (mod_id, source_id, event_id, event, accepted_at, size, attempt, charges, unproven, turn)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (each.mod_id, each.owner, each.event_id, each.event, each.at, len(each.event), *each.record)
            for each in whole.events
        ],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO answer (mod, source_id, event_id, at, size, answer) VALUES (?, ?, ?, ?, ?, ?)",
        [(each.mod, each.owner, each.event_id, each.at, len(each.answer), each.answer) for each in whole.answers],
    )
    connection.executemany(
        "INSERT INTO dead_letter (mod_id, at, attempts, code, reason, size, event, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(*each[:5], len(each.event) + len(each.report or b""), each.event, each.report) for each in whole.letters],
    )
