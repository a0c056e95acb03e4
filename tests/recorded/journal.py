"""The rows of a journal, and its schema, read with nothing but sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack

from .masks import Masks

AT_ANY_MOMENT = "audit_head"
"""A table whose row comes when the audit has synced, before or after the session's other work."""


def lines(file: Path, masks: Masks, *, schema: bool = True) -> Iterator[dict[str, Any]]:
    """Yield the schema, if it is asked for, then every row of every table."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        made = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        if schema:
            yield {"user_version": version}
            yield from ({"schema": " ".join(sql.split())} for _, sql in made)
        tables = [name for name, sql in made if sql.startswith("CREATE TABLE") and name != AT_ANY_MOMENT]
        for table in tables:
            yield from _rows(connection, table, masks)


def _rows(connection: sqlite3.Connection, table: str, masks: Masks) -> Iterator[dict[str, Any]]:
    found = connection.execute(f"SELECT * FROM {table} ORDER BY 1")
    columns = [column[0] for column in found.description]
    for row in found:
        plain = {name: _plain(name, value) for name, value in zip(columns, row, strict=True)}
        yield {table: masks.value(plain)}


def _plain(column: str, value: Any) -> Any:
    if column == "seal":  # made with a random key
        return "<seal>"
    if not isinstance(value, bytes) or column == "secret_hash":
        return value
    return msgpack.unpackb(value, strict_map_key=False)
