"""The journal's tables of durable events and of the answers to them; see `store`."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..config import JournalConfig
from .deaths import BOOT_ID, Begun, BegunTogether, Record, after_death
from .records import DurableEvent, StorageFull


@dataclass(slots=True)
class Totals:
    """Counts and bytes of everything with a limit, kept here so that a check costs no query."""

    durable_events: int = 0
    durable_bytes: int = 0
    dead_letters: int = 0
    dead_letter_bytes: int = 0
    checkpoints: int = 0
    answer_bytes: int = 0
    oldest_answer: float = -math.inf  # no remembered answer is older (Unix seconds)

    def shown(self) -> dict[str, int]:
        """Return those that stats show."""
        names = ("durable_events", "durable_bytes", "dead_letters", "dead_letter_bytes", "checkpoints")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The number of a durable event.

    It is not ``fresh`` if it was kept already and was sent again. If it was answered before, the
    answer is here, and there is no number.
    """

    seq: int
    fresh: bool
    answer: bytes | None = None


EventKey = tuple[str, str]
"""What identifies an event: who sent it ("" for nobody), and ``event_id``.

An agent is named by `Agent.owner`, or by its ``source_id`` in rows that modvisor 0.2 wrote."""


_ANSWERED = "mod = ? AND source_id = ? AND event_id = ? AND at >= ?"

# In one statement: every new event asks this.
_KNOWN = f"""\
SELECT (SELECT seq FROM durable WHERE mod_id = ? AND source_id = ? AND event_id = ?),
       (SELECT number FROM answer WHERE {_ANSWERED})"""


class DurableTable:
    """Durable events, from their acceptance to their answer, and the answers for retries.

    A part of `Store`, which has the connection.
    """

    totals: Totals
    _config: JournalConfig
    _execute: Callable[..., sqlite3.Cursor]
    _where: Callable[..., list[Any]]
    _same_boot = False  # the last run ended uncleanly, in this boot

    def accept(self, mod_id: str, key: EventKey, event: bytes, attempt: int, at: float) -> Accepted:
        """Keep an event. Return its number, which is the earlier number if it was sent again.

        Raises:
            StorageFull: a limit is reached.
        """
        totals, config = self.totals, self._config
        of_answer = (mod_of(mod_id), *key, at - config.answer_age)
        seq, number = self._execute(_KNOWN, (mod_id, *key, *of_answer)).fetchone()
        if seq is not None:
            return Accepted(seq, fresh=False)
        if number is not None and (answered := self._where("answer", _ANSWERED, *of_answer)):
            return Accepted(0, fresh=False, answer=answered[0])
        if totals.durable_events >= config.durable_events:
            raise StorageFull(
                f"{totals.durable_events} accepted events have no answer yet, and no more are kept (journal.durable_events)"
            )
        if totals.durable_bytes + len(event) > config.durable_bytes:
            raise StorageFull(
                f"the accepted events without an answer take {totals.durable_bytes} bytes, and with {len(event)} more they "
                f"would be over the limit of {config.durable_bytes} (journal.durable_bytes)"
            )
        row = (mod_id, *key, attempt, at, len(event), event)
        cursor = self._execute(
            "INSERT INTO durable (mod_id, source_id, event_id, attempt, accepted_at, size, event) VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        totals.durable_events += 1
        totals.durable_bytes += len(event)
        assert cursor.lastrowid is not None
        return Accepted(cursor.lastrowid, fresh=True)

    def charge(self, seq: int, record: Record) -> None:
        """Remember which attempt of event ``seq`` comes next, and what counts against it."""
        self._execute(
            "UPDATE durable SET attempt = ?, charges = ?, unproven = ?, turn = ? WHERE seq = ?", (*record, seq)
        )

    def note_deaths(self, groups: list[BegunTogether]) -> None:
        """Note what the end of the last run means for events that workers had in hand.

        An event whose attempt was noted already is left as it is, so this may be done again.
        """
        pending = [
            (group.boot, [(event, record) for event in group.events if (record := self._begun(event)) is not None])
            for group in groups
        ]
        one_is_caught = any(event.is_caught for _, begun in pending for event, _ in begun)
        for boot, begun in pending:
            running = sum(event.is_running for event, _ in begun)
            for event, record in begun:
                counts = self._same_boot and boot == BOOT_ID and (event.is_caught or not one_is_caught)
                alone = len(begun) == 1
                self.charge(
                    event.seq, after_death(record, event, is_alone=alone, runs_alone=running == 1, counts=counts)
                )

    def _begun(self, event: Begun) -> Record | None:
        """Return the record of an event that had begun its newest attempt; None if it has none."""
        row = self._execute(
            "SELECT attempt, charges, unproven, turn FROM durable WHERE seq = ? AND attempt <= ?",
            (event.seq, event.attempt),
        ).fetchone()
        return None if row is None else Record(*row)

    def suspect_all(self) -> None:
        """Note of each event that it may have been begun: what says so was lost with the power."""
        self._execute("UPDATE durable SET attempt = 2 WHERE attempt = 1")

    def answered(self, seq: int, answer: bytes | None = None) -> None:
        """Forget event ``seq``, which is done, and remember its answer for retries.

        Tried again while the disk is full.
        """
        rows = self._execute("DELETE FROM durable WHERE seq = ? RETURNING size, mod_id, source_id, event_id", (seq,))
        for size, mod_id, *key in rows.fetchall():
            self.totals.durable_events -= 1
            self.totals.durable_bytes -= size
            if answer is not None:
                self._remember((mod_of(mod_id), *key), answer)

    def _remember(self, key: tuple[str, ...], answer: bytes) -> None:
        """Remember the answer to an event; the oldest answers make room."""
        size, now, totals = len(answer), time.time(), self.totals
        if size > self._config.answer_bytes:
            return
        self._execute(
            "INSERT OR REPLACE INTO answer (mod, source_id, event_id, at, size, answer) VALUES (?, ?, ?, ?, ?, ?)",
            (*key, now, size, answer),
        )
        totals.answer_bytes += size
        totals.oldest_answer = min(totals.oldest_answer, now)
        if totals.answer_bytes > self._config.answer_bytes or totals.oldest_answer < now - self._config.answer_age:
            self._forget_old_answers(now)

    def _forget_old_answers(self, now: float) -> None:
        totals = self.totals
        while (oldest := self._execute("SELECT number, at, size FROM answer ORDER BY number LIMIT 1").fetchone()) and (
            totals.answer_bytes > self._config.answer_bytes or oldest[1] < now - self._config.answer_age
        ):
            self._execute("DELETE FROM answer WHERE number = ?", (oldest[0],))
            totals.answer_bytes -= oldest[2]
        totals.oldest_answer = now if oldest is None else min(now, oldest[1])

    def pending(self, mod_id: str, after: int = 0, limit: int = 1000) -> list[DurableEvent]:
        """Return the first ``limit`` unanswered events of a mod above number ``after``, in order.

        An event that cannot be read back leaves the journal for the file beside it.
        """
        return self._where("durable", "mod_id = ? AND seq > ? ORDER BY seq", mod_id, after, limit=limit)

    def reassign(self, seq: int, mod_id: str) -> None:
        """Give event ``seq`` to another worker of its mod."""
        self._execute("UPDATE OR IGNORE durable SET mod_id = ? WHERE seq = ?", (mod_id, seq))

    def pending_counts(self) -> dict[str, int]:
        """Return how many unanswered events each mod has. Mods without any are left out."""
        return dict(self._execute("SELECT mod_id, count(*) FROM durable GROUP BY mod_id").fetchall())


def mod_of(mod_id: str) -> str:
    """Return the mod of a worker: each of its workers knows the answers of all."""
    return mod_id.partition("#")[0]
