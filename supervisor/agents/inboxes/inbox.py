"""An agent's inbox, and what is told to the agent of the events that it lost."""

from __future__ import annotations

from typing import Any

from ....ipc.event import Event
from ...fair_line import FairLine
from .pushed import Pushed

OTHERS = "others"
# No key of the network file: it bounds one answer to the agent, and loses nothing but names.
MAX_SOURCES = 20  # sources that are told apart in what an agent is told of its losses


class Inbox(FairLine[Event]):
    """Delivered events that the agent has not taken yet, oldest first.

    `delivery` caps it, in events and bytes (as `delivery.packed_size` estimates them), when it puts
    an event in. Events that were pushed to the agent take room until it has handled them.

    Attributes:
        mail: counts what waits in here, if it is a guest's.
    """

    __slots__ = ("_pushed", "mail")

    def __init__(self) -> None:
        super().__init__()
        self.mail: GuestMail | None = None
        self._pushed: Pushed | None = None  # nothing was ever pushed

    @property
    def held(self) -> int:
        """How many events take room in here: those that wait, and those that were pushed."""
        return len(self) + len(self._pushed or ())

    def held_by(self, source: str) -> tuple[int, int]:
        count, size = super().held_by(source)
        sizes = [each[1] for each in self._pushed.items if each[2] == source] if self._pushed else []
        return count + len(sizes), size + sum(sizes)

    # -- events that are pushed

    @property
    def pushed(self) -> Pushed:
        if self._pushed is None:
            self._pushed = Pushed()
        return self._pushed

    @property
    def has_pushed(self) -> bool:
        return bool(self._pushed)

    def push(self) -> bool:
        """Move the oldest event that waits to those that were pushed. False: none waits."""
        if self.first() is None:  # no gap is in front now
            return False
        item = self.events[0]
        assert item is not None
        super().popleft()
        self.size += item[1]
        self.pushed.append(item)
        return True

    def handled(self, number: int) -> None:
        """Take the pushed events up to this number out."""
        pushed = self.pushed
        while pushed.handled < number and pushed:
            self._pop_pushed(pushed)

    def _pop_pushed(self, pushed: Pushed) -> tuple[Event, int, str]:
        event, size, source = pushed.popleft()
        self.size -= size
        if self.mail is not None:
            self.mail.leave(event, size)
        return event, size, source

    def take_pushed(self, most: int) -> list[Event]:
        """Take the oldest of the pushed events out, at most so many."""
        pushed = self._pushed or Pushed()
        return [self._pop_pushed(pushed)[0] for _ in range(min(most, len(pushed)))]

    # -- events that wait

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
        """Drop the oldest event that waits, or that was pushed if none waits. Return its source.

        Raises `IndexError`.
        """
        if self.first() is None and self._pushed:
            return self._pop_pushed(self._pushed)[2]
        item = self.events[0]  # no gap is in front now
        assert item is not None
        self.popleft()
        return item[2]

    def count_in(self, mail: GuestMail | None) -> None:
        """Count what waits in here with the mail of guests, or no longer."""
        former, self.mail = self.mail, mail
        for item in (*self.events, *(self._pushed.items if self._pushed else ())):
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
