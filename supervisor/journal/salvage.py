"""Save what can be read of a damaged journal, row by row, into a new file in its place.

SQLite itself reads the damaged file, so a row that was deleted does not come back. Where a page is
damaged, `_Scan` reads around it. Where the first page is damaged (it holds the header and the names
of all tables), `_graft` puts another first page onto a copy: modvisor's tables lie in known places.

The damaged file stays beside the new one, as it was found. It is replaced in the last step, so a
process that is killed before leaves it where it was, and the next start salvages it again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ..on_disk import sync
from .damage import Damage
from .rows import TABLES, DamagedRow, Row, text_of
from .schema import INCREMENTAL, MIGRATIONS, SCHEMA_VERSION, check_schema, columns_of, expected_columns

_PROBES = 300  # queries for rows around damaged pages that find none, until the search of a table ends
_LARGEST = 1 << 53  # numbers of rows above this one are damage
_PARTS = ("", "-wal")
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError, MemoryError, OverflowError)  # a length may be gigabytes


def put_beside(file: Path, aside: Path) -> None:
    """Give the file and its -wal a second name, under which they outlive what is done to them."""
    for suffix in _PARTS:
        part = file.with_name(file.name + suffix)
        if part.exists():
            try:
                os.link(part, aside.with_name(aside.name + suffix))
            except OSError:  # a file system without hard links
                _copy_file(part, aside.with_name(aside.name + suffix))


def salvage(file: Path, damage: Damage) -> None:
    """Put a sound journal with all readable rows in place of a damaged one.

    The damaged one was `put_beside` before, and nobody has it open.

    Raises:
        sqlite3.Error, OSError: no room, say. ``file`` is as it was.
    """
    work, fresh = (file.with_name(f".{file.name}.{name}") for name in ("damaged", "salvaged"))
    try:
        _remove(work, fresh)
        with closing(_new_journal(fresh)) as new, closing(_open_copy(damage.aside, work)) as old:
            new.execute("BEGIN")
            for table in sorted(columns_of(new).keys() - {"owner"}):
                _copy_table(old, new, table, damage)
            _copy_owner(old, new)
            _copy_numbers(old, new)
            new.execute("DELETE FROM member WHERE agent_id NOT IN (SELECT agent_id FROM agent)")
            new.execute("COMMIT")
        sync(fresh)
        damage.write()
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        fresh.replace(file)
        sync(file.parent)
    finally:
        _remove(work, fresh)


# -- the two files


def _new_journal(file: Path) -> sqlite3.Connection:
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    connection.execute("PRAGMA synchronous = OFF")  # the whole file is synced at the end
    connection.executescript(f"BEGIN; {''.join(MIGRATIONS)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    return connection


def _open_copy(damaged: Path, work: Path) -> sqlite3.Connection:
    """Return a connection to a copy of the damaged file, which SQLite may change."""
    _copy(damaged, work)
    connection = _open(work)
    try:
        if check_schema(connection) > 0:
            return connection
    except _UNREADABLE:
        pass
    connection.close()
    _copy(damaged, work)  # again: SQLite may have deleted the -wal
    _graft(work)
    return _open(work)


def _open(work: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(work, isolation_level=None)
    connection.text_factory = text_of
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA writable_schema = ON")  # SQLite then reads a file that is shorter than its header says
    return connection


def _graft(work: Path) -> None:
    """Give a file another first page, which has the tables where modvisor puts them."""
    content = work.read_bytes()[:100]
    size = int.from_bytes(content[16:18], "big")
    size = size if size in (512, 1024, 2048, 4096, 8192, 16384, 32768) else 4096
    page = bytearray(_first_page(work.with_name(f"{work.name}-model"), size))
    pages = work.stat().st_size // size
    page[18:20] = b"\2\2"  # there may be a -wal
    struct.pack_into(">I", page, 28, pages)
    with work.open("r+b") as file:
        file.write(page)


def _first_page(model: Path, size: int) -> bytes:
    """Return the first page of a journal without rows and without indexes."""
    with closing(sqlite3.connect(":memory:")) as real, closing(sqlite3.connect(model, isolation_level=None)) as plain:
        real.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        real.executescript("".join(MIGRATIONS))
        roots = real.execute(
            "SELECT name, rootpage FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
        plain.execute(f"PRAGMA page_size = {size}")
        plain.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        plain.execute("PRAGMA writable_schema = ON")
        for name, root in roots.fetchall():
            columns = real.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,))
            plain.execute(f"CREATE TABLE {name} ({', '.join(_declared(*column) for column in columns)})")
            plain.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (root, name))
        plain.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    with model.open("rb") as file:
        return file.read(size)


def _declared(name: str, kind: str, key: int) -> str:
    return f"{name} {kind}{' PRIMARY KEY' if key and kind == 'INTEGER' else ''}"


# -- rows


def _copy_table(old: sqlite3.Connection, new: sqlite3.Connection, table: str, damage: Damage) -> None:
    columns = expected_columns(SCHEMA_VERSION)[table]
    with suppress(*_UNREADABLE):
        there = columns_of(old).get(table, [])
        columns = [column for column in columns if column in there]
    if not columns:
        return
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    scan, seen, defaults = _Scan(old, table, columns), set[int](), _defaults(new, table)
    for rowid, row in scan.rows():
        seen.add(rowid)
        try:
            _check_row(table, defaults | dict(zip(columns, row, strict=True)))
            new.execute(insert, row)
        except (DamagedRow, sqlite3.IntegrityError) as error:  # of the wrong type, or the same key twice
            damage.lose(table, dict(zip(columns, row, strict=True)), str(error))
    if scan.broken:
        _name_unread(old, table, seen, damage)


def _defaults(new: sqlite3.Connection, table: str) -> dict[str, Any]:
    """Return what the columns hold that the file of an earlier version has not."""
    declared = new.execute("SELECT name, dflt_value FROM pragma_table_info(?)", (table,)).fetchall()
    return {name: new.execute(f"SELECT {text or 'NULL'}").fetchone()[0] for name, text in declared}


def _check_row(table: str, row: dict[str, Any]) -> None:
    if table in TABLES:
        known = TABLES[table]
        known.decode(tuple(row[column] for column in known.columns.split(", ")))


def _name_unread(old: sqlite3.Connection, table: str, seen: set[int], damage: Damage) -> None:
    """Name the rows that an index has and that could not be read."""
    key = TABLES[table].key if table in TABLES else "rowid"
    try:
        (index,) = old.execute("SELECT name FROM pragma_index_list(?) ORDER BY name DESC", (table,)).fetchone() or (
            None,
        )
        if index is None:
            raise sqlite3.DatabaseError("no index")
        found = old.execute(f"SELECT rowid, {key} FROM {table} INDEXED BY {index}").fetchall()
    except _UNREADABLE:
        damage.lose_part_of(table)
        return
    for rowid, value in found:
        if rowid not in seen:
            damage.name(table, value)


def _copy_owner(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Keep whether the last run ended by itself."""
    with suppress(*_UNREADABLE):
        if old.execute("SELECT 1 FROM owner WHERE closed_at IS NULL").fetchone() is not None:
            new.execute("INSERT INTO owner (one, pid, opened_at) VALUES (1, 0, 0)")


def _copy_numbers(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Keep the numbers of events and letters that are gone from being given again."""
    try:
        numbers = old.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
    except _UNREADABLE:
        return
    for table, number in numbers:
        if isinstance(table, str) and isinstance(number, int) and 0 < number < _LARGEST:
            (present,) = new.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
            new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            new.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, max(number, present or 0)))


class _Scan:
    """Reads all rows of a table that can be read.

    Attributes:
        broken: some could not be read.
    """

    def __init__(self, connection: sqlite3.Connection, table: str, columns: list[str]) -> None:
        self._connection = connection
        self._select = f"SELECT rowid, {', '.join(columns)} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
        self.broken = False

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Read from both ends up to the damage, then search between with halves."""
        ranges, probes = [(-1, _LARGEST)], 0
        while ranges and probes < _PROBES:
            low, high = ranges.pop()
            probes += 1
            for rowid, row in self._read(low, high, ""):
                yield rowid, row
                low, probes = rowid + 1, 0
            if self._whole:
                continue
            self.broken = True
            for rowid, row in self._read(low, high, "DESC"):
                yield rowid, row
                high, probes = rowid - 1, 0
            if low < high:
                middle = (low + high) // 2
                ranges += [(middle + 1, high), (low, middle)]

    def _read(self, low: int, high: int, order: str) -> Iterator[tuple[int, Row]]:
        """Return rows in order, up to the first that cannot be read. Note whether that were all."""
        self._whole = False
        try:
            for rowid, *row in self._connection.execute(f"{self._select} {order}", (low, high)):
                if not low <= rowid <= high:  # pages that lead in circles
                    return
                low, high = (low, rowid - 1) if order else (rowid + 1, high)
                yield rowid, tuple(row)
        except _UNREADABLE:
            return
        self._whole = True


# -- files


def _copy(damaged: Path, work: Path) -> None:
    _remove(work)
    for suffix in _PARTS:
        part = damaged.with_name(damaged.name + suffix)
        if part.exists():
            _copy_file(part, work.with_name(work.name + suffix))


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)


def _remove(*files: Path) -> None:
    for file in files:
        for suffix in ("", "-wal", "-shm", "-journal", "-model", "-model-journal"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
