"""`modvisor.mods.workspace.database`: opening, migrating, transactions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from modvisor.mods.workspace.database import DatabaseUnusable, open_database, transaction

FIRST = "CREATE TABLE things (name TEXT UNIQUE)"
SECOND = "ALTER TABLE things ADD COLUMN size INTEGER; INSERT INTO things VALUES ('new', 1)"


def test_migrations_run_once_each_and_in_order(tmp_path: Path) -> None:
    for migrations in ([FIRST], [FIRST], [FIRST, SECOND], [FIRST, SECOND]):
        connection = open_database(tmp_path / "a.db", migrations)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(migrations)
        connection.close()
    connection = open_database(tmp_path / "a.db", [FIRST, SECOND])
    assert connection.execute("SELECT count(*) FROM things").fetchone()[0] == 1
    connection.close()


def test_a_failed_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="no_such"):
        open_database(tmp_path / "a.db", [FIRST, SECOND + "; SELECT no_such()"])
    connection = open_database(tmp_path / "a.db", [FIRST, SECOND])
    assert connection.execute("SELECT size FROM things").fetchone()[0] == 1
    connection.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    open_database(tmp_path / "a.db", [FIRST, SECOND]).close()
    with pytest.raises(DatabaseUnusable, match="newer version"):
        open_database(tmp_path / "a.db", [FIRST])


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database" * 100)
    with pytest.raises(DatabaseUnusable, match=r"a\.db: file is not a database; move the file away"):
        open_database(tmp_path / "a.db", [FIRST])
    with pytest.raises(DatabaseUnusable, match="unable to open"):
        open_database(tmp_path / "no" / "a.db", [FIRST])


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.db", [FIRST])

    def add_twice() -> None:
        with transaction(connection):
            connection.execute("INSERT INTO things VALUES ('a')")
            connection.execute("INSERT INTO things VALUES ('a')")

    with pytest.raises(sqlite3.IntegrityError):
        add_twice()
    assert connection.execute("SELECT count(*) FROM things").fetchone()[0] == 0
    with transaction(connection):
        connection.execute("INSERT INTO things VALUES ('a')")
    assert connection.execute("SELECT count(*) FROM things").fetchone()[0] == 1
    connection.close()
