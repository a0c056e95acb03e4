"""What a damaged journal has lost: counted and named for people, and kept in a file beside it.

The file is text, one JSON object a line: the table, the reason, and the row as it was found. Bytes
stand there as ``{"base64": …}``. It holds payloads and hashes of secrets, so only the owner may
read it.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from .rows import TABLES

_ID = re.compile(r"[A-Za-z0-9_.@#:-]{1,128}")
_NAMED = 10  # rows of one kind that a message names


class Damage:
    """Collects the damaged rows of one journal.

    Args:
        file: the journal's; None for one in memory, of which nothing is kept beside it.

    Attributes:
        aside: the name of a whole damaged journal beside this one. Rows are kept under the same
            name with ``.jsonl`` behind it.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lost: dict[str, list[str]] = {}
        self._unread: list[str] = []  # tables of which an unknown number of rows is lost
        self._rows: list[str] = []

    def lose(self, table: str, row: dict[str, Any], why: str) -> None:
        """Count a row, and keep it for `write`."""
        self.name(table, row.get(_key_of(table)))
        plain = {column: _plain(value) for column, value in row.items()}
        self._rows.append(json.dumps({"table": table, "why": why, "row": plain}))

    def name(self, table: str, key: Any) -> None:
        """Count a row of which only its key is known."""
        self._lost.setdefault(table, []).append(_shown(key))

    def lose_part_of(self, table: str) -> None:
        """Note that a part of a table cannot be read."""
        self._unread.append(table)

    @cached_property
    def aside(self) -> Path:
        return free_name(self._file or Path("memory"))

    @property
    def rows_file(self) -> Path:
        return self.aside.with_name(f"{self.aside.name}.jsonl")

    def write(self) -> None:
        """Add the rows to the file beside the journal. Raises OSError."""
        if self._file is None or not self._rows:
            self._rows = []
            return
        descriptor = os.open(self.rows_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as side:
            side.write("".join(f"{row}\n" for row in self._rows))
            side.flush()
            os.fsync(descriptor)
        self._rows = []

    def told(self) -> str:
        """Return what is lost as text, such as "2 agents (ann, bob)", and count from none again."""
        parts = [_counted(table, keys) for table, keys in self._lost.items()]
        if self._unread:
            parts.append(f"an unknown part of the {', '.join(map(_kinds_of, self._unread))}")
        self._lost, self._unread = {}, []
        return ", ".join(parts)


def free_name(file: Path) -> Path:
    """Return a name beside ``file`` for what is set aside. It overwrites nothing set aside before."""
    first = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    return next(name for name in _numbered(first) if not any(_exists(name, suffix) for suffix in ("", ".jsonl")))


def _numbered(file: Path) -> Iterator[Path]:
    yield file
    for number in itertools.count(2):
        yield file.with_name(f"{file.name}-{number}")


def _exists(name: Path, suffix: str) -> bool:
    return name.with_name(name.name + suffix).exists()


def _counted(table: str, keys: list[str]) -> str:
    kind = _kinds_of(table) if len(keys) != 1 else TABLES[table].kind if table in TABLES else f"row of {table}"
    named = ", ".join(keys[:_NAMED])
    return f"{len(keys)} {kind} ({named}{', …' if len(keys) > _NAMED else ''})"


def _kinds_of(table: str) -> str:
    return TABLES[table].kinds if table in TABLES else f"rows of {table}"


def _key_of(table: str) -> str:
    return TABLES[table].key if table in TABLES else ""


def _shown(value: Any) -> str:
    """Return an id or a number as text. Anything else may be a payload, which no message shows."""
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if _ID.fullmatch(text) else "?"


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
