"""The journal: what it keeps, which files it sets aside and which it leaves alone, what a bad change takes with it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.ipc.messages import pack
from modvisor.supervisor import journal as journal_module
from modvisor.supervisor.journal import SCHEMA_VERSION, Journal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "network.db"


@pytest.fixture
def journal(file: Path) -> Iterator[Journal]:
    journal = Journal(file)
    yield journal
    journal.close()


def registered(agent_id: Any, **changed: Any) -> tuple[str, dict[str, Any]]:
    data = {
        "agent_id": agent_id,
        "metadata": pack({"name": "Ann"}),
        "group": None,
        "secret_hash": b"x",
        "registered_at": 1.0,
    }
    return "register", {**data, **changed}


def kept(file: Path) -> tuple[list[str], dict[str, list[str]]]:
    journal = Journal(file)
    agents, channels = journal.open()
    journal.close()
    return [agent.agent_id for agent in agents], channels


def aside(file: Path) -> list[str]:
    return sorted(found.name for found in file.parent.iterdir() if ".damaged-" in found.name)


def test_what_is_recorded_is_there_after_a_restart(file: Path, journal: Journal) -> None:
    assert journal.open() == ([], {})
    for agent_id in ("ann", "bob"):
        journal.record(*registered(agent_id))
        journal.record("join", {"channel": "general", "agent_id": agent_id})
    journal.record("unregister", {"agent_id": "ann"})
    journal.record("leave", {"channel": "general", "agent_id": "ann"})
    journal.flush()
    journal.close()
    assert kept(file) == (["bob"], {"general": ["bob"]})
    assert file.stat().st_mode & 0o777 == 0o600


# -- files that cannot be used


def test_a_file_that_is_no_database_is_set_aside_with_what_is_beside_it(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    wal = file.with_name("network.db-wal")
    file.write_bytes(b"this is no database " * 100)
    wal.write_bytes(b"the last commits")
    assert journal.open() == ([], {})
    journal.record(*registered("ann"))
    journal.close()
    moved = aside(file)
    assert [name.rpartition("-")[2] for name in moved if name.endswith("-wal")] == ["wal"]
    [moved_wal] = [file.with_name(name) for name in moved if name.endswith("-wal")]
    assert moved_wal.read_bytes() == b"the last commits"
    moved_file = file.with_name(moved_wal.name.removesuffix("-wal"))
    assert moved_file.read_bytes() == b"this is no database " * 100
    assert "agents must register again" in caplog.text
    assert kept(file)[0] == ["ann"]


def test_a_corrupt_database_is_set_aside(file: Path, journal: Journal) -> None:
    journal.open()
    journal.record(*registered("ann"))
    journal.close()
    content = bytearray(file.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)  # behind a sound header
    file.write_bytes(content)
    assert kept(file) == ([], {})
    assert len(aside(file)) >= 1


@pytest.mark.parametrize(
    "script",
    [
        f"CREATE TABLE agent (agent_id TEXT); PRAGMA user_version = {SCHEMA_VERSION + 1}",
        f"CREATE TABLE other (x TEXT); PRAGMA user_version = {SCHEMA_VERSION}",
        f"CREATE TABLE agent (x TEXT); CREATE TABLE member (y TEXT); PRAGMA user_version = {SCHEMA_VERSION}",
        "CREATE TABLE other (x TEXT)",
    ],
)
def test_a_newer_or_foreign_database_is_set_aside_as_it_was(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file)) as foreign:
        foreign.executescript(script)
    before = file.read_bytes()
    assert kept(file) == ([], {})
    [name] = [name for name in aside(file) if not name.endswith(("-wal", "-shm"))]
    assert file.with_name(name).read_bytes() == before


def test_metadata_that_cannot_be_read_back_is_damage(file: Path, journal: Journal) -> None:
    journal.open()
    journal.record(*registered("ann", metadata=b"\xc1"))
    journal.close()
    assert kept(file) == ([], {})
    assert aside(file)


@pytest.mark.parametrize(
    "code", ["SQLITE_FULL", "SQLITE_IOERR_READ", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_READONLY"]
)
def test_a_passing_failure_leaves_the_database_where_it_is(
    file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    journal.open()
    journal.record(*registered("ann"))
    journal.close()

    def fail(connection: sqlite3.Connection) -> Any:
        error = sqlite3.OperationalError("something passing")
        error.sqlite_errorcode = getattr(sqlite3, code)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "_read", fail)
        with pytest.raises(ModvisorError, match=r"network\.db.*something passing") as caught:
            journal.open()
    assert caught.value.code == "start_failed"
    assert aside(file) == []
    assert kept(file)[0] == ["ann"]


def test_a_database_that_cannot_be_opened_is_named(file: Path, journal: Journal) -> None:
    file.mkdir()
    with pytest.raises(ModvisorError, match=r"network\.db cannot be opened: unable to open database file") as caught:
        journal.open()
    assert caught.value.code == "start_failed"
    assert file.is_dir()


@pytest.mark.timeout(10)
def test_a_connection_that_works_only_once_does_not_hang_the_start(
    file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the descriptors run out in between: there is nothing in between."""
    connect, made = sqlite3.connect, []

    def once(*args: Any, **options: Any) -> sqlite3.Connection:
        made.append(args)
        if len(made) > 1:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", once)
    assert journal.open() == ([], {})


def test_a_writer_that_cannot_start_is_told(file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(ModvisorError, match="can't start new thread"):
            journal.open()
    assert journal.open() == ([], {})


# -- changes that cannot be kept


class Held(Journal):
    """Takes what is recorded only when it is released, so that all of it is one batch."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.released = threading.Event()

    def _write(self, *args: Any) -> None:
        self.released.wait()
        super()._write(*args)


@pytest.mark.parametrize(
    "bad",
    [
        registered("bad", secret_hash=None),  # refused by the schema
        registered("bad", metadata={}),  # no SQLite type
        registered("bad\ud800"),  # no UTF-8
        ("register", {"agent_id": "bad"}),  # a parameter is missing
    ],
)
def test_a_bad_change_does_not_take_its_batch_with_it(
    file: Path, bad: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    journal = Held(file)
    journal.open()
    for kind, data in [registered("ann"), bad, registered("bob")]:
        journal.record(kind, data)
    journal.released.set()
    journal.flush()
    journal.close()
    assert "1 of 3 changes could not be kept" in caplog.text
    assert kept(file)[0] == ["ann", "bob"]


def test_a_locked_database_is_waited_for_once_not_for_every_change(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    class Locked(Held):
        def _try(self, connection: sqlite3.Connection, changes: list[Any]) -> Exception | None:
            tried.append(len(changes))
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            return error

    journal = Locked(file)
    journal.open()
    for number in range(100):
        journal.record(*registered(f"agent{number}"))
    journal.released.set()
    with caplog.at_level(logging.ERROR):
        journal.close()
    assert tried == [100, 1]
    assert "100 of 100 changes could not be kept" in caplog.text
