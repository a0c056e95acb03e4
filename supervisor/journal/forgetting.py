"""Delete what the journal keeps of one agent.

Found by the agent's id, as the source or the destination of what is kept. What people and mods
wrote about an agent, in a payload or a log line, cannot be found by that, and stays.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from typing import Any

from ...ipc.address import AGENT
from ...ipc.errors import ModvisorError
from ...ipc.messages import pack, unpack

NOBODY = f"{AGENT}:forgotten"
"""Stands in crash reports for a source that was forgotten."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted of an agent, and what was not.

    Attributes:
        registered: whether it was registered.
        channels: how many memberships it had.
        invites: how many invites there were for this id alone.
        dead_letters: how many came from it, or were for it.
        answers: how many remembered answers to its events there were.
        reports: in how many crash reports its id was replaced.
        waiting: accepted events of it that mods have not answered yet. They stay until then.
    """

    registered: bool = False
    channels: int = 0
    invites: int = 0
    dead_letters: int = 0
    answers: int = 0
    reports: int = 0
    waiting: int = 0

    def __add__(self, other: Forgotten) -> Forgotten:
        both = {each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)}
        return Forgotten(**{**both, "registered": self.registered or other.registered})

    @property
    def is_empty(self) -> bool:
        return self == Forgotten(waiting=self.waiting)


def forget_agent(connection: sqlite3.Connection, agent_id: str) -> Forgotten:
    """Delete it, and have SQLite overwrite the deleted rows with zeros."""
    (before,) = connection.execute("PRAGMA secure_delete").fetchone()
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    try:
        return _forget(connection, agent_id)
    finally:
        connection.execute(f"PRAGMA secure_delete = {before}").fetchall()


def _forget(connection: sqlite3.Connection, agent_id: str) -> Forgotten:
    def delete(statement: str, *values: Any) -> int:
        return connection.execute(statement, values).rowcount

    source = f"{AGENT}:{agent_id}"
    # A source of durable events is named with the time of its registration, see `Agent.owner`.
    of_source = "(source_id IN (?, ?) OR substr(source_id, 1, ?) = ?)"
    sources = agent_id, source, len(source) + 1, f"{source} "
    (waiting,) = connection.execute(f"SELECT count(*) FROM durable WHERE {of_source}", sources).fetchone()
    connection.execute("UPDATE private_channel SET created_by = NULL WHERE created_by = ?", (agent_id,))
    return Forgotten(
        registered=bool(delete("DELETE FROM agent WHERE agent_id = ?", agent_id)),
        channels=delete("DELETE FROM member WHERE agent_id = ?", agent_id),
        invites=delete("DELETE FROM invite WHERE agents = ?", agent_id),
        dead_letters=_forget_letters(connection, {agent_id, source}),
        answers=delete(f"DELETE FROM answer WHERE {of_source}", *sources),
        reports=_mask_reports(connection, "crash", "number", {agent_id, source})
        + _mask_reports(connection, "dead_letter", "letter_id", {agent_id, source}),
        waiting=waiting,
    )


def _forget_letters(connection: sqlite3.Connection, names: set[str]) -> int:
    ends = "source_id", "destination_id"
    gone = [
        letter_id
        for letter_id, event in _mentioning(connection, "dead_letter", "letter_id", "event", names)
        if any(event.get(end) in names for end in ends)
    ]
    connection.executemany("DELETE FROM dead_letter WHERE letter_id = ?", [(each,) for each in gone])
    return len(gone)


def _mask_reports(connection: sqlite3.Connection, table: str, key: str, names: set[str]) -> int:
    """Replace the agent's id as the source of the events in crash reports."""
    changed = 0
    for number, report in _mentioning(connection, table, key, "report", names):
        if masked(report, names):
            changed += 1
            connection.execute(f"UPDATE {table} SET report = ? WHERE {key} = ?", (pack(report), number))
    return changed


def masked(report: dict[str, Any], names: set[str]) -> bool:
    """Replace an agent as the source of the events in a crash report. Return whether it was there."""
    events = [each for part in ("in_flight", "running") for each in report.get(part) or () if isinstance(each, dict)]
    ours = [each for each in events if each.get("source_id") in names]
    for each in ours:
        each["source_id"] = NOBODY
    return bool(ours)


def _mentioning(
    connection: sqlite3.Connection, table: str, key: str, column: str, names: set[str]
) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows whose blob has the bytes of a name somewhere in it, unpacked."""
    shortest = min(names, key=len).encode()
    rows = connection.execute(f"SELECT {key}, {column} FROM {table} WHERE instr({column}, ?)", (shortest,))
    found: list[tuple[int, dict[str, Any]]] = []
    for number, blob in rows:
        try:
            data = unpack(blob)
        except ModvisorError:  # damaged: it leaves the journal when it is read
            continue
        if isinstance(data, dict):
            found.append((number, data))
    return found
