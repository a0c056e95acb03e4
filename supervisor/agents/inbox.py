"""An agent's inbox, and what is told to the agent of the events that it lost."""

from __future__ import annotations

from typing import Any

from ...ipc.event import Event
from ..fair_line import FairLine

OTHERS = "others"
MAX_SOURCES = 20  # sources that are told apart in what an agent is told of its losses


class Inbox(FairLine[Event]):
    """Delivered events that the agent has not polled yet, oldest first.

    `delivery` caps it, in events and bytes (as `delivery.packed_size` estimates them), when it puts
    an event in.
    """

    __slots__ = ()


class Losses:
    """Events that an inbox dropped or refused since its agent was last told, by source."""

    __slots__ = ("by_source", "count")

    def __init__(self) -> None:
        self.count = 0
        self.by_source: dict[str, int] = {}

    def add(self, source: str) -> None:
        self.count += 1
        name = source if source in self.by_source or len(self.by_source) < MAX_SOURCES else OTHERS
        self.by_source[name] = self.by_source.get(name, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """Return the losses as an agent reads them."""
        return {"events": self.count, "sources": dict(self.by_source)}
