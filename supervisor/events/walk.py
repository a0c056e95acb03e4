"""An event that no mod has answered so far."""

from __future__ import annotations

from ..calls import Journey, Unanswered


class Walk:
    """The event as the mods left it that were asked about it, and what went wrong.

    Attributes:
        asked: how many mods were asked.
        problems: mods that gave no answer, in the order in which they were asked.
    """

    __slots__ = ("asked", "journey", "problems")

    def __init__(self, journey: Journey, asked: int = 0) -> None:
        self.journey = journey
        self.asked = asked
        self.problems: list[tuple[str, Unanswered]] = []
