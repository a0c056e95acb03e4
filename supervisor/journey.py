"""One event on its way: the event, its deadline, and the event that caused it."""

from __future__ import annotations

from ..ipc.errors import Unserializable
from ..ipc.event import Event
from ..ipc.messages import pack

MAX_HOPS = 32
"""An event caused by an event caused by … : past this many it is a loop, not a chain of work."""


class Journey:
    """An accepted event and what the core knows of it.

    Attributes:
        deadline: loop time after which nobody waits for the answer; infinite for what is kept until it is answered.
        allowed: seconds a handler has from when the event is sent to it; None: until the deadline.
        parent: the journey whose handler sent this event, if any.
        attempt: which one it is at the mod that is being asked, from 1.
        seq: its number in the journal, if the mod that is being asked has accepted it for good.
    """

    __slots__ = ("_size", "allowed", "attempt", "deadline", "event", "parent", "seq")

    def __init__(
        self, event: Event, deadline: float, parent: Journey | None = None, allowed: float | None = None
    ) -> None:
        self.event = event
        self.deadline = deadline
        self.allowed = allowed
        self.parent = parent
        self.attempt = 1
        self.seq: int | None = None
        self._size: int | None = None

    @property
    def size(self) -> int:
        """About how many bytes the event takes while it waits. Found out when it has to: most events never wait."""
        if self._size is None:
            try:
                self._size = len(pack(self.event.to_dict()))
            except Unserializable:  # it will be refused when it is sent
                self._size = 0
        return self._size

    def with_event(self, event: Event) -> Journey:
        """The same journey, gone on by a changed event."""
        return Journey(event, self.deadline, self.parent, self.allowed)

    def descends_from(self, others: set[Journey]) -> bool:
        """Whether one of ``others`` caused this event, directly or through others."""
        ancestor = self.parent
        while ancestor is not None:
            if ancestor in others:
                return True
            ancestor = ancestor.parent
        return False
