"""One event on its way: the event, its deadline, and the event that caused it."""

from __future__ import annotations

from ..ipc.event import Event

MAX_HOPS = 32
"""An event caused by an event caused by … : past this many it is a loop, not a chain of work."""


class Journey:
    """An accepted event and what the core knows of it.

    Attributes:
        deadline: loop time after which nobody waits for the answer.
        parent: the journey whose handler sent this event, if any.
    """

    __slots__ = ("deadline", "event", "parent")

    def __init__(self, event: Event, deadline: float, parent: Journey | None = None) -> None:
        self.event = event
        self.deadline = deadline
        self.parent = parent

    def descends_from(self, others: set[Journey]) -> bool:
        """Whether one of ``others`` caused this event, directly or through others."""
        ancestor = self.parent
        while ancestor is not None:
            if ancestor in others:
                return True
            ancestor = ancestor.parent
        return False
