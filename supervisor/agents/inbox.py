"""An agent's inbox, and what is told to the agent of the events that it lost."""

from __future__ import annotations

from typing import Any

from ...ipc.event import Event
from ..fair_line import FairLine

OTHERS = "others"
# No key of the network file: it bounds one answer to the agent, and loses nothing but names.
MAX_SOURCES = 20  # sources that are told apart in what an agent is told of its losses


class Inbox(FairLine[Event]):
    """Delivered events that the agent has not polled yet, oldest first.

    `delivery` caps it, in events and bytes (as `delivery.packed_size` estimates them), when it puts
    an event in.

    Attributes:
        mail: counts what waits in here, if it is a guest's.
    """

    __slots__ = ("mail",)

    def __init__(self) -> None:
        super().__init__()
        self.mail: GuestMail | None = None

    def append(self, event: Event, size: int, source: str) -> None:
        super().append(event, size, source)
        if self.mail is not None:
            self.mail.enter(event, size)

    def popleft(self) -> Event:
        if self.mail is None:
            return super().popleft()
        before = self.size
        event = super().popleft()
        self.mail.leave(event, before - self.size)
        return event

    def drop_oldest(self) -> str:
        """Drop the oldest event, and return its source. Raises `IndexError`."""
        self.first()  # no gap is in front now
        item = self.events[0]
        assert item is not None
        self.popleft()
        return item[2]

    def count_in(self, mail: GuestMail | None) -> None:
        """Count what waits in here with the mail of guests, or no longer."""
        former, self.mail = self.mail, mail
        for item in self.events:
            if item is not None and former is not None:
                former.leave(item[0], item[1])
            if item is not None and mail is not None:
                mail.enter(item[0], item[1])

    def _drop(self, index: int, tally: Any) -> tuple[Event, int, str]:
        item = super()._drop(index, tally)
        if self.mail is not None:
            self.mail.leave(item[0], item[1])
        return item


class GuestMail:
    """The events that wait for guests, each once, however many of them wait for it.

    Attributes:
        size: of all of them together, in bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._inboxes: dict[int, int] = {}  # by the identity of an event, in how many inboxes it waits

    def enter(self, event: Event, size: int) -> None:
        waits = self._inboxes.get(id(event), 0)
        self._inboxes[id(event)] = waits + 1
        if not waits:
            self.size += size

    def leave(self, event: Event, size: int) -> None:
        waits = self._inboxes[id(event)] - 1
        if waits:
            self._inboxes[id(event)] = waits
        else:
            del self._inboxes[id(event)]
            self.size -= size


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
