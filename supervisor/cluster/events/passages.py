"""Which events of this node are under way at others, and which came from others: so a mod that waits for
the consequences of its own event is known as their cause again when they come back.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...calls import MAX_HOPS, Journey
from .frames import Passage, Question


class Passages:
    """The events that go from node to node, as one node sees them.

    Args:
        own: this run of this node, see `Wire.instance`.
    """

    def __init__(self, own: str) -> None:
        self.own = own
        self._number = 0
        self._out: dict[int, Journey] = {}
        self._came: dict[Journey, list[Passage]] = {}

    # -- asking

    def begin(self, journey: Journey) -> int:
        """Return the number of a question to another node. `end` is called when it has its answer."""
        self._number = number = self._number + 1
        self._out[number] = journey
        return number

    def end(self, number: int) -> None:
        self._out.pop(number, None)

    def chain_of(self, journey: Journey) -> Sequence[Passage]:
        """Return the questions that an event descends from, the nearest first."""
        parent = journey.parent
        while parent is not None:
            if (chain := self._came.get(parent)) is not None:
                return chain
            parent = parent.parent
        return ()

    # -- answering

    def came(self, question: Question, journey: Journey) -> None:
        """Note whence an event came, and its cause if that is in flight here. `gone` is called afterwards."""
        for asker, number in question.chain:
            if asker == self.own and (parent := self._out.get(number)) is not None:
                journey.parent = parent
                break
        self._came[journey] = [question.passage, *question.chain[: MAX_HOPS - 1]]

    def gone(self, journey: Journey) -> None:
        self._came.pop(journey, None)
