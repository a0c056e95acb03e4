"""Which files a journal accepts, which it migrates, and which it sets aside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from modvisor.supervisor.config import JournalConfig
from modvisor.supervisor.journal.opening import connect
from modvisor.supervisor.journal.schema import MIGRATIONS, SCHEMA_VERSION, DamagedFile, migrate, primary_code
from modvisor.supervisor.journal.store import Store


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def opened(file: Path) -> set[str]:
    connection, found = connect(file, full_sync=False, read=tables)
    connection.close()
    return found


@pytest.mark.parametrize("version", range(SCHEMA_VERSION + 1))
def test_every_version_is_migrated_to_this_one(tmp_path: Path, version: int) -> None:
    file = tmp_path / "network.db"
    with closing(sqlite3.connect(file)) as old:
        old.executescript("".join(MIGRATIONS[:version]) + f"PRAGMA user_version = {version}")
    found = opened(file)
    assert found == opened(tmp_path / "new.db")
    assert [path.name for path in tmp_path.glob("*damaged*")] == []


def test_agents_without_a_group_are_guests_after_a_migration(tmp_path: Path) -> None:
    file = tmp_path / "network.db"
    with closing(sqlite3.connect(file)) as old, old:
        old.executescript("".join(MIGRATIONS[:3]) + "PRAGMA user_version = 3")
        old.executemany("INSERT INTO agent VALUES (?, x'00', ?, x'80', 1.0)", [("alice", None), ("bob", "friends")])
    connection, store = connect(file, full_sync=False, read=lambda opened: Store(opened, JournalConfig()))
    with closing(connection):
        agents = store.take_over().agents
    assert [(agent.agent_id, agent.is_guest, agent.address, agent.has_returned) for agent in agents] == [
        ("alice", True, None, True),
        ("bob", False, None, True),
    ]


def test_a_migration_is_one_transaction() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE family (name)")  # the last script fails over it
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, 0)
        connection.rollback()
        assert tables(connection) == {"family"}


@pytest.mark.parametrize(
    "script",
    ["PRAGMA user_version = 99999", "CREATE TABLE other (x)", "CREATE TABLE agent (x); PRAGMA user_version = 1"],
)
def test_a_file_of_another_program_is_set_aside(tmp_path: Path, script: str) -> None:
    file = tmp_path / "network.db"
    with closing(sqlite3.connect(file)) as other:
        other.executescript(script)
    assert "agent" in opened(file)
    assert len(list(tmp_path.glob("network.db.damaged-*"))) == 1


def test_damaged_content_is_set_aside_once(tmp_path: Path) -> None:
    file, tries = tmp_path / "network.db", []
    opened(file)

    def read(connection: sqlite3.Connection) -> int:
        tries.append(1)
        if len(tries) == 1:
            raise DamagedFile("not a mapping")
        return len(tries)

    connection, found = connect(file, full_sync=True, read=read)
    connection.close()
    assert found == 2
    assert len([path for path in tmp_path.glob("network.db.damaged-*") if path.name[-4:] not in ("-wal", "-shm")]) == 1


def test_the_primary_code_of_an_error() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (x UNIQUE)")
        connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError) as caught:
            connection.execute("INSERT INTO t VALUES (1)")
    assert primary_code(caught.value) == sqlite3.SQLITE_CONSTRAINT
    assert primary_code(OSError()) is None
    assert primary_code(None) is None
