"""Shared by both versions of the counter: count events in memory, and note violations."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

SHOWN = 20  # violations to keep in words


class Counting(BaseMod):
    """Counts events. Each event carries its number among the events of its source: 1, 2, 3, …

    Attributes:
        begun: of each source, the number of the newest event whose handling began.
        done: of each source, how many events were handled to the end.
        wrong: in words, events that came twice, too early or not at all; `wrong_count`: how many.
        handovers: how often the counts were handed over; `spent`: milliseconds that it took here.
    """

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.wrong: list[str] = []
        self.wrong_count = 0
        self.handovers = 0
        self.spent: list[float] = []

    def get_state(self) -> dict[str, Any]:
        began = perf_counter()
        if self.begun != self.done:
            self._note("its state was asked for while it was handling events")
        state = {
            "counts": [self.begun, self.done],
            "wrong": [self.wrong, self.wrong_count],
            "handovers": self.handovers,
            "spent": self.spent,
            "padding": bytes(self.config.get("padding", 0)),
        }
        state["took"] = _milliseconds(began)
        return state

    def set_state(self, state: dict[str, Any], from_version: str) -> None:
        began = perf_counter()
        self.begun, self.done = state["counts"]
        self.wrong, self.wrong_count = state["wrong"]
        self.handovers = state["handovers"] + 1
        self.spent = [*state["spent"], state["took"] + _milliseconds(began)]

    @mod_event_handler("count.up")
    async def up(self, event: Event) -> EventResponse:
        source, number = str(event.source_id), event.payload["n"]
        if number != (last := self.begun.get(source, 0)) + 1:
            self._note(f"{source}: event {number} came after event {last}")
        self.begun[source] = number
        await asyncio.sleep(event.payload.get("takes", 0))
        self.done[source] = self.done.get(source, 0) + 1
        return EventResponse(True, data=number)

    @mod_event_handler("count.tell")
    async def tell(self, event: Event) -> EventResponse:
        data = {
            "begun": self.begun,
            "done": self.done,
            "wrong": self.wrong,
            "wrong_count": self.wrong_count,
            "handovers": self.handovers,
            "spent": self.spent,
        }
        return EventResponse(True, data=data)

    def _note(self, what: str) -> None:
        self.wrong_count += 1
        if len(self.wrong) < SHOWN:
            self.wrong.append(what)


def _milliseconds(began: float) -> float:
    return (perf_counter() - began) * 1000
