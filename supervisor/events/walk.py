"""What came of asking the mods that match an event, one after the other."""

from __future__ import annotations

from ...ipc.event import EventResponse
from ..calls import Journey, Unanswered


class Walk:
    """What came of asking the mods: a response, or the event as they left it and what went wrong.

    Attributes:
        asked: how many mods were asked.
        pending: a durable mod that accepted the event and will answer later.
        problems: mods that gave no answer, in the order in which they were asked.
    """

    __slots__ = ("asked", "journey", "pending", "problems", "response")

    def __init__(self, journey: Journey, asked: int = 0) -> None:
        self.journey = journey
        self.asked = asked
        self.response: EventResponse | None = None
        self.pending: tuple[str, Unanswered] | None = None
        self.problems: list[tuple[str, Unanswered]] = []
