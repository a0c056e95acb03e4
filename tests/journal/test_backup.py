"""A copy of a database in use: complete under its name, or not there at all."""

from __future__ import annotations

import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modvisor.ipc.errors import Code
from modvisor.supervisor.journal.backup import copy_database
from modvisor.supervisor.journal.records import JournalError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "network.db"


@pytest.fixture
def source(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        yield connection


def rows(file: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(file)) as copy:
        return copy.execute("SELECT x FROM t ORDER BY x").fetchall()


def test_a_copy_replaces_an_earlier_copy(source: sqlite3.Connection, file: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    size = copy_database(source, file, target, lambda *_: None)
    assert (size, stat.S_IMODE(target.stat().st_mode)) == (target.stat().st_size, 0o600)
    source.execute("INSERT INTO t VALUES (2)")
    copy_database(source, file, target, lambda *_: None)
    assert rows(target) == [(1,), (2,)]


def test_a_copy_that_is_ended_leaves_nothing(source: sqlite3.Connection, file: Path, tmp_path: Path) -> None:
    def between(status: int, remaining: int, total: int) -> None:
        raise KeyError("enough")

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyError):
        copy_database(source, file, tmp_path / "copy.db", between)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "name", ["network.db", "network.db-wal", "notes.txt", "folder", "no/such/folder/copy.db", "a\0b"]
)
def test_a_target_that_is_no_copy_is_refused(source: sqlite3.Connection, file: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalError) as caught:
        copy_database(source, file, tmp_path / name, lambda *_: None)
    assert caught.value.code == Code.BAD_INPUT
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="these files are Linux's")
@pytest.mark.parametrize("target", ["/proc/self/mem", "/proc/kmsg", "/proc/copy.db", "/dev/null", "/proc/self/fd/0"])
def test_a_file_of_the_kernel_is_refused(source: sqlite3.Connection, file: Path, target: str) -> None:
    with pytest.raises(JournalError) as caught:
        copy_database(source, file, Path(target), lambda *_: None)
    assert caught.value.code == Code.BAD_INPUT
