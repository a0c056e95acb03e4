"""What is kept for people to look back at: crash reports, and the figures of the last run.

The statements stand here, apart from those of `store`: nothing in the network depends on them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ...ipc.errors import Unserializable
from ...ipc.messages import pack
from .records import LetterHead
from .rows import TABLES, DamagedRow, Decoder, letter_head, text_of

logger = logging.getLogger("modvisor.journal")

BUSY_TIMEOUT = 5.0  # seconds to wait for a network that starts meanwhile


def keep_crash(
    connection: sqlite3.Connection, mod_id: str, at: float, report: bytes, per_mod: int, max_bytes: int
) -> None:
    """Keep a packed crash report. The oldest make room for it, of its mod and of all mods."""
    row = (mod_id, at, len(report), report)
    connection.execute("INSERT INTO crash (mod_id, at, size, report) VALUES (?, ?, ?, ?)", row)
    connection.execute(
        "DELETE FROM crash WHERE mod_id = ? AND number NOT IN "
        "(SELECT number FROM crash WHERE mod_id = ? ORDER BY number DESC LIMIT ?)", (mod_id, mod_id, per_mod),
    )  # fmt: skip
    connection.execute(
        "DELETE FROM crash WHERE number IN (SELECT number FROM "
        "(SELECT number, sum(size) OVER (ORDER BY number DESC) AS newer FROM crash) WHERE newer > ?)", (max_bytes,),
    )  # fmt: skip


def drop_old_crashes(connection: sqlite3.Connection, horizon: float) -> None:
    """Delete the crash reports from before this wall time."""
    connection.execute("DELETE FROM crash WHERE at < ?", (horizon,))


def keep_stats(connection: sqlite3.Connection, at: float, stats: bytes) -> None:
    """Keep the packed figures of this run, in place of earlier ones."""
    connection.execute("INSERT OR REPLACE INTO last_stats VALUES (1, ?, ?)", (at, stats))


class JournalAtRest:
    """Reads the journal that a network has left. Changes nothing; damaged rows are left out.

    Raises:
        sqlite3.Error, OSError: when it is opened or read: there is no journal, or it is damaged.
    """

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)
        self._connection.text_factory = text_of

    def __enter__(self) -> JournalAtRest:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def crashes(self, mod_id: str | None) -> list[dict[str, Any]]:
        """Return the crash reports of a mod, of its workers too, or of all mods; oldest first."""
        rows = self._rows("crash", "ORDER BY at, number")
        return [report for owner, report in rows if mod_id is None or mod_id in (owner, owner.partition("#")[0])]

    def letter_heads(self, mod_id: str | None, *, limit: int, before: int | None) -> list[LetterHead]:
        """Return the newest ``limit`` dead letters of a mod, or of all, whose id is below ``before``."""
        conditions = "WHERE (? IS NULL OR mod_id = ?) AND (? IS NULL OR letter_id < ?) ORDER BY letter_id DESC LIMIT ?"
        return self._rows("dead_letter", conditions, (mod_id, mod_id, before, before, limit), letter_head)

    def dead_letter(self, letter_id: int) -> Any:
        """Return one dead letter, or None."""
        found = self._rows("dead_letter", "WHERE letter_id = ?", (letter_id,))
        return found[0] if found else None

    def last_stats(self) -> tuple[float, dict[str, Any]] | None:
        """Return the figures of the last run and their time, or None."""
        found = self._rows("last_stats", "")
        return found[0] if found else None

    def quarantines(self) -> dict[str, str]:
        """Return why mods are in quarantine, by mod id."""
        return {found.mod_id: found.reason for found in self._rows("quarantine", "")}

    def audit_head(self) -> tuple[int, bytes] | None:
        """Return number and seal of the newest record of the audit, or None."""
        found = self._rows("audit_head", "")
        return found[0] if found else None

    def _rows(self, table: str, rest: str, values: Iterable[Any] = (), decode: Decoder | None = None) -> list[Any]:
        known, found = TABLES[table], list[Any]()
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is None:
            return found  # an earlier modvisor wrote the file
        with closing(self._connection.execute(f"SELECT {known.columns} FROM {table} {rest}", tuple(values))) as rows:
            for row in rows:
                with suppress(DamagedRow):
                    found.append((decode or known.decode)(row))
        return found


def packed_for_people(what: str, data: dict[str, Any]) -> bytes | None:
    """Pack what is only looked at. What cannot be packed is logged, and must disturb nobody."""
    try:
        return pack(data)
    except Unserializable as error:
        logger.error("%s cannot be kept: %s", what, error)
        return None
