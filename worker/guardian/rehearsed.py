"""The mod of the rehearsal, see `rehearsal`: it does what most mods do when they are loaded, and with most events."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing, suppress
from dataclasses import dataclass

from ...mods import BaseMod, Event, EventResponse, mod_event_handler

_WORD = re.compile(r"\w[\w.\-]*")

_TABLES = "CREATE TABLE pages (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE); CREATE INDEX names ON pages(name)"


@dataclass(frozen=True, slots=True)
class Number:
    """A value as mods define many."""

    i: int
    text: str = ""


class Rehearsed(BaseMod):
    """Answers at once, after a wait, or not at all."""

    def activate(self) -> None:
        with suppress(ImportError):  # some builds of Python lack it
            import sqlite3  # late, because of that

            with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                connection.executescript(_TABLES)
                connection.execute("INSERT INTO pages (name) VALUES (?)", ("home",))
                connection.execute("SELECT * FROM pages WHERE name LIKE ?", ("h%",)).fetchall()

    @mod_event_handler("rehearsal.event.answer")
    async def answer(self, event: Event) -> EventResponse:
        number = Number(event.payload["i"])
        return EventResponse(True, f"{number.i} was taken", {"i": number.i})

    @mod_event_handler("rehearsal.event.wait")
    async def wait(self, event: Event) -> EventResponse:
        await asyncio.sleep(0)
        return EventResponse(True, "done", {"i": event.payload["i"]})

    @mod_event_handler("rehearsal.event.*")
    async def pass_on(self, event: Event) -> None:
        assert _WORD.match(event.event_name)
