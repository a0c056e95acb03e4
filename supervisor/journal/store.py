"""The journal's tables and statements.

One thread uses the one connection. The writer begins and ends the transactions.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from ..config import JournalConfig
from .aging import Aging
from .damage import Damage
from .deaths import BOOT_ID
from .durable_table import DurableTable, Totals, mod_of
from .forgetting import Forgotten, forget_agent
from .history import drop_old_crashes, keep_crash, keep_stats
from .records import Checkpoint, DeadLetter, KeptMod, LastRun, LetterHead, Quarantine
from .rows import TABLES, DamagedRow, Decoder, letter_head

logger = logging.getLogger("modvisor.journal")

_CHANGES = {
    "register": (
        "INSERT OR REPLACE INTO agent VALUES "
        "(:agent_id, :secret_hash, :group, :metadata, :registered_at, :guest, :address, :returned)"
    ),
    "returned": "UPDATE agent SET returned = 1 WHERE agent_id = :agent_id",
    "unregister": "DELETE FROM agent WHERE agent_id = :agent_id",
    "join": "INSERT OR IGNORE INTO member (channel, agent_id) VALUES (:channel, :agent_id)",
    "leave": "DELETE FROM member WHERE channel = :channel AND agent_id = :agent_id",
    "remove_channel": "DELETE FROM member WHERE channel = :channel",
    "token": (
        "INSERT OR REPLACE INTO token VALUES "
        "(:name, :secret_hash, :scope, :created_at, :created_by, :expires_at, :payloads)"
    ),
    "revoke_token": "DELETE FROM token WHERE name = :name",
    "private": "INSERT OR REPLACE INTO private_channel VALUES (:channel, :created_by, :created_at)",
    "open": "DELETE FROM private_channel WHERE channel = :channel",
    "invite": (
        "INSERT OR REPLACE INTO invite VALUES "
        "(:invite_id, :secret_hash, :agent_group, :agent, :uses, :expires_at, :created_at, :created_by)"
    ),
    "spend_invite": "UPDATE invite SET uses = uses - 1 WHERE invite_id = :invite_id",
    "revoke_invite": "DELETE FROM invite WHERE invite_id = :invite_id",
}
_NO_GUEST = {"guest": False, "address": None, "returned": True}
_SIZES = {
    "checkpoint": "length(state)", "durable": "length(event)", "answer": "length(answer)",
    "dead_letter": "length(event) + coalesce(length(report), 0)", "crash": "length(report)",
}  # fmt: skip
_VACUUM_PAGES = 1000  # given back at once: events wait a few milliseconds for that
_SPARE_PAGES = 256  # free pages (1 MB) that stay in the file for the next events


class Store(DurableTable):
    """The journal's tables. Blobs come packed and leave unpacked.

    A method that raises a `ModvisorError` has written nothing. Any other exception spoils the
    transaction: whoever rolls it back also restores the `totals` from before.
    """

    def __init__(self, connection: sqlite3.Connection, config: JournalConfig, file: Path | None = None) -> None:
        self.totals = Totals()
        self.damage = Damage(file)
        self.damaged_rows = 0
        self._aging = Aging()
        self._config = config
        self.use(connection)

    def use(self, connection: sqlite3.Connection) -> None:
        """Go on with another connection, since the file was replaced."""
        self.connection = connection
        self._execute = connection.execute

    # -- the owner

    def take_over(self) -> LastRun:
        """Become the owner: read what the last run left, and note that the journal is open."""
        last = self._execute("SELECT boot FROM owner WHERE closed_at IS NULL").fetchone()
        clean, self._same_boot = last is None, last is not None and last[0] == BOOT_ID
        if not (clean or self._same_boot):
            self.suspect_all()
        self._aging = Aging(self._last_seen())
        drop_old_crashes(self.connection, self._aging.horizon(self._config.crash_report_age))
        kept = LastRun(
            agents=self._all("agent"),
            channels=self._channels(),
            mods=self._all("mod", "ORDER BY position, loaded_at, mod_id"),
            quarantines={found.mod_id: found for found in self._all("quarantine")},
            clean=clean,
            families=dict(self._all("family")),
            crashes=self._crashes(),
            tokens=self._all("token", "ORDER BY created_at, name"),
            audit_head=next(iter(self._all("audit_head")), None),
            private=dict(self._all("private_channel")),
            invites=self._all("invite", "ORDER BY created_at"),
        )
        self.recount()
        self._execute("INSERT OR REPLACE INTO owner VALUES (1, ?, ?, NULL, ?)", (os.getpid(), time.time(), BOOT_ID))
        return kept

    def _last_seen(self) -> float | None:
        """Return the wall time at which the last run ended, or is known to have written a letter."""
        found = self._execute(
            "SELECT max(coalesce(closed_at, opened_at), coalesce((SELECT max(at) FROM dead_letter WHERE at <= ?), 0))"
            " FROM owner",
            (time.time(),),
        ).fetchone()
        return None if found is None else found[0]

    def leave(self) -> None:
        """Note a clean end."""
        self._execute("UPDATE owner SET closed_at = ?", (time.time(),))

    def _channels(self) -> dict[str, list[str]]:
        channels: dict[str, list[str]] = {}
        for channel, agent_id in self._all("member", "ORDER BY joined"):
            channels.setdefault(channel, []).append(agent_id)
        return channels

    def _crashes(self) -> dict[str, list[dict[str, Any]]]:
        crashes: dict[str, list[dict[str, Any]]] = {}
        for mod_id, report in self._all("crash", "ORDER BY number"):
            crashes.setdefault(mod_id, []).append(report)
        return crashes

    def keep_crash(self, mod_id: str, at: float, report: bytes) -> None:
        keep_crash(self.connection, mod_id, at, report, self._config.crash_reports, self._config.crash_report_bytes)

    def keep_audit_head(self, number: int, seal: bytes, at: float) -> None:
        """Keep number and seal of the newest record of the audit."""
        self._execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?, ?)", (number, seal, at))

    def keep_stats(self, at: float, stats: bytes) -> None:
        keep_stats(self.connection, at, stats)

    def _all(self, table: str, order: str = "") -> list[Any]:
        return self._where(table, f"TRUE {order}")

    def _where(
        self, table: str, conditions: str, *values: Any, limit: int = sys.maxsize, decode: Decoder | None = None
    ) -> list[Any]:
        """Return the records of the first ``limit`` sound rows that meet the conditions.

        Damaged rows leave the table for the file beside the journal.
        """
        known = TABLES[table]
        decode = decode or known.decode
        found: list[Any] = []
        damaged: list[tuple[int, str]] = []
        with closing(self._execute(f"SELECT rowid, {known.columns} FROM {table} WHERE {conditions}", values)) as rows:
            while len(found) < limit and (row := rows.fetchone()) is not None:
                try:
                    found.append(decode(row[1:]))
                except DamagedRow as error:
                    damaged.append((row[0], str(error)))
        if damaged:
            self._part_with(table, damaged)
        return found

    def _part_with(self, table: str, damaged: list[tuple[int, str]]) -> None:
        """Move damaged rows to the file beside the journal, and tell so.

        They stay if that file cannot be written.
        """
        for rowid, why in damaged:
            with closing(self._execute(f"SELECT * FROM {table} WHERE rowid = ?", (rowid,))) as cursor:
                row = dict(zip((column for column, *_ in cursor.description), cursor.fetchone(), strict=True))
            self.damage.lose(table, row, why)
        try:
            self.damage.write()
        except OSError as error:
            logger.error("damaged rows stay in the journal, since the file beside it cannot be written: %s", error)
            return
        for rowid, _ in damaged:
            self._execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
        self.damaged_rows += len(damaged)
        self.recount()
        logger.warning(
            "the journal was damaged: %s cannot be read back, and are now in %s",
            self.damage.told(),
            self.damage.rows_file,
        )

    def recount(self) -> None:
        """Count everything that has a limit anew."""
        for table, size in _SIZES.items():  # a wrong size would keep events out
            self._execute(f"UPDATE {table} SET size = {size} WHERE size <> {size}")
        (checkpoints,) = self._execute("SELECT count(*) FROM checkpoint").fetchone()
        events, event_bytes = self._execute("SELECT count(*), coalesce(sum(size), 0) FROM durable").fetchone()
        letters, letter_bytes = self._execute("SELECT count(*), coalesce(sum(size), 0) FROM dead_letter").fetchone()
        (answers,) = self._execute("SELECT coalesce(sum(size), 0) FROM answer").fetchone()
        self.totals = Totals(events, event_bytes, letters, letter_bytes, checkpoints, answers)

    # -- agents, channels, mods, quarantines

    def change(self, kind: str, data: dict[str, Any]) -> None:
        self._execute(_CHANGES[kind], {**_NO_GUEST, **data})

    def forget_agent(self, agent_id: str) -> Forgotten:
        """Delete what is kept of an agent. Return what that was."""
        forgotten = forget_agent(self.connection, agent_id)
        self.recount()
        return forgotten

    def keep_mod(self, mod: KeptMod, spec: bytes) -> None:
        self._execute(
            "INSERT OR REPLACE INTO mod VALUES (?, ?, ?, ?, ?)",
            (mod.mod_id, mod.path, spec, mod.position, mod.loaded_at),
        )

    def drop_mod(self, mod_id: str) -> None:
        """Forget how a mod was loaded."""
        self._execute("DELETE FROM mod WHERE mod_id = ?", (mod_id,))

    def try_room(self) -> None:
        """Write what takes the room of an ordinary entry, and take it back."""
        self._execute("INSERT OR REPLACE INTO mod VALUES ('', '', zeroblob(2000), 0, 0)")
        self.drop_mod("")

    def quarantine(self, q: Quarantine) -> None:
        """Keep that a mod is in quarantine, in place of an earlier record."""
        self._execute(
            "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?)",
            (q.mod_id, q.path, q.reason, q.at, q.fingerprint),
        )

    def release(self, mod_id: str) -> None:
        """Forget the quarantine of a mod."""
        self._execute("DELETE FROM quarantine WHERE mod_id = ?", (mod_id,))

    def keep_family(self, family: str, record: bytes | None) -> None:
        if record is None:
            self._execute("DELETE FROM family WHERE name = ?", (family,))
        else:
            self._execute("INSERT OR REPLACE INTO family VALUES (?, ?)", (family, record))

    def hand_on(self, former: str, mod_id: str) -> None:
        """Give the durable events and the checkpoint of mod ``former`` to ``mod_id``, which
        replaced it.
        """
        self.drop_mod(former)
        self.release(former)
        if self._execute("SELECT 1 FROM checkpoint WHERE mod_id = ?", (former,)).fetchone() is not None:
            self.drop_checkpoint(mod_id)
            self._execute("UPDATE checkpoint SET mod_id = ? WHERE mod_id = ?", (mod_id, former))
        if mod_of(former) == former:
            self._execute("UPDATE OR REPLACE file SET mod = ? WHERE mod = ?", (mod_id, former))
        self._execute("UPDATE OR IGNORE answer SET mod = ? WHERE mod = ?", (mod_of(mod_id), mod_of(former)))
        # An event that the successor has accepted too stays where it is: it is the same event.
        self._execute("UPDATE OR IGNORE durable SET mod_id = ? WHERE mod_id = ?", (mod_id, former))

    # -- checkpoints

    def save_checkpoint(self, mod_id: str, version: str, state: bytes, at: float) -> None:
        self.drop_checkpoint(mod_id)
        self._execute("INSERT INTO checkpoint VALUES (?, ?, ?, ?, ?)", (mod_id, version, at, len(state), state))
        self.totals.checkpoints += 1

    def drop_checkpoint(self, mod_id: str) -> None:
        """Forget the checkpoint of a mod."""
        self.totals.checkpoints -= self._execute("DELETE FROM checkpoint WHERE mod_id = ?", (mod_id,)).rowcount

    def forget_state(self, mod_id: str) -> None:
        found = self._execute("DELETE FROM checkpoint WHERE mod_id = ? OR mod_id GLOB ?", (mod_id, f"{mod_id}#*"))
        self.totals.checkpoints -= found.rowcount

    def checkpoint(self, mod_id: str) -> Checkpoint | None:
        """Return the mod's newest checkpoint, or None.

        One that cannot be read back leaves the journal with a warning, and counts as none.
        """
        found = self._where("checkpoint", "mod_id = ?", mod_id)
        return found[0] if found else None

    def checkpoint_head(self, mod_id: str) -> tuple[str, float, int] | None:
        """Return version, time and bytes of the mod's newest checkpoint, or None."""
        return self._execute("SELECT version, at, size FROM checkpoint WHERE mod_id = ?", (mod_id,)).fetchone()

    # -- dead letters

    def bury(self, letter: DeadLetter, event: bytes, report: bytes | None, seq: int | None) -> int:
        size = len(event) + len(report or b"")
        if seq is not None:
            self.answered(seq)
        cursor = self._execute(
            "INSERT INTO dead_letter (mod_id, at, attempts, code, reason, size, event, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (letter.mod_id, letter.at, letter.attempts, str(letter.code), letter.reason, size, event, report),
        )
        letter_id = cursor.lastrowid
        assert letter_id is not None
        self.totals.dead_letters += 1
        self.totals.dead_letter_bytes += size
        if size > self._config.dead_letter_bytes:  # alone too large: making room would cost all others and not suffice
            logger.warning("a dead letter of mod %s (%d bytes) is over journal.dead_letter_bytes and not kept: %s",
                           letter.mod_id, size, letter.reason)  # fmt: skip
            self._remove_letters("letter_id = ?", letter_id)
        self.retain()
        return letter_id

    def retain(self) -> None:
        """Drop crash reports that are too old, and dead letters over the limits of age, number or bytes."""
        totals, config = self.totals, self._config
        drop_old_crashes(self.connection, self._aging.horizon(config.crash_report_age))
        self._remove_letters("at < ?", self._aging.horizon(config.dead_letter_age))
        while totals.dead_letters > config.dead_letters or totals.dead_letter_bytes > config.dead_letter_bytes:
            if not self._remove_letters("letter_id = (SELECT min(letter_id) FROM dead_letter)"):
                return

    def dead_letters(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[DeadLetter]:
        """Return the newest ``limit`` letters of a mod, or of all, whose id is below ``before``.

        The newest come first. Letters that cannot be read back leave the journal.
        """
        conditions, values = _all_given(("mod_id = ?", mod_id), ("letter_id < ?", before))
        return self._where("dead_letter", f"{conditions} ORDER BY letter_id DESC", *values, limit=limit)

    def letter_heads(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[LetterHead]:
        """Do the same without payloads, in memory that depends on the number of letters alone."""
        conditions, values = _all_given(("mod_id = ?", mod_id), ("letter_id < ?", before))
        conditions += " ORDER BY letter_id DESC"
        return self._where("dead_letter", conditions, *values, limit=limit, decode=letter_head)

    def dead_letter(self, letter_id: int) -> DeadLetter | None:
        """Return one letter, or None."""
        found = self._where("dead_letter", "letter_id = ?", letter_id)
        return found[0] if found else None

    def forget_dead_letters(self, letter_id: int | None, mod_id: str | None, until: float | None) -> int:
        conditions, values = _all_given(("letter_id = ?", letter_id), ("mod_id = ?", mod_id), ("at < ?", until))
        return self._remove_letters(conditions, *values)

    def _remove_letters(self, conditions: str, *values: Any) -> int:
        rows = self._execute(f"DELETE FROM dead_letter WHERE {conditions} RETURNING size", values).fetchall()
        self.totals.dead_letters -= len(rows)
        self.totals.dead_letter_bytes -= sum(size for (size,) in rows)
        return len(rows)

    # -- the file

    def give_back(self) -> bool:
        """Give some free pages back to the file system. Return whether there may be more.

        Call it outside a transaction.
        """
        (free,) = self._execute("PRAGMA freelist_count").fetchone()
        if free <= _SPARE_PAGES:
            return False
        pages = min(free - _SPARE_PAGES, _VACUUM_PAGES)
        self._execute(f"PRAGMA incremental_vacuum({pages})").fetchall()  # each row that is fetched frees a page
        (left,) = self._execute("PRAGMA freelist_count").fetchone()
        return left < free

    def checkpoint_wal(self) -> None:
        """Checkpoint the WAL, which may shrink the file (passive: does not wait for readers)."""
        self._execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _all_given(*conditions: tuple[str, Any]) -> tuple[str, list[Any]]:
    """SQL that all conditions hold whose value is given, and these values."""
    given = [(condition, value) for condition, value in conditions if value is not None]
    return " AND ".join(condition for condition, _ in given) or "TRUE", [value for _, value in given]
