"""The events that wait for one mod, in turn: one of each source, in rounds.

A source that sends much waits for its own events. Another source waits at most for one event of
each source that waits already.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from ..config import LimitsConfig
from ..shares import source_of
from .in_flight import InFlight
from .journey import Journey

Slot = asyncio.Future[InFlight]


class FairQueue:
    """Waiting events by the future of their slot, in the order in which they are admitted.

    Events of one source keep their order. A source that has been served stands behind the others.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[Slot, Journey]] = OrderedDict()  # the next source comes first
        self._sources: dict[Slot, str] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[Slot]:
        return (slot for slot, _ in self.items())

    def items(self) -> Iterator[tuple[Slot, Journey]]:
        """Return the events in order, as if none came or went."""
        rest = []
        for line in self._lines.values():
            events = iter(line.items())
            yield next(events)
            rest.append(events)
        while rest:
            found = [(events, event) for events in rest if (event := next(events, None)) is not None]
            yield from (event for _, event in found)
            rest = [events for events, _ in found]

    def __setitem__(self, slot: Slot, journey: Journey) -> None:
        """Put an event behind the others of its source."""
        source = self._sources[slot] = source_of(journey.event)
        self._lines.setdefault(source, OrderedDict())[slot] = journey

    def move_to_end(self, slot: Slot, last: bool = True) -> None:
        """Put an event behind or before the others of its source."""
        self._lines[self._sources[slot]].move_to_end(slot, last=last)

    def pop(self, slot: Slot, default: None = None) -> Journey | None:
        """Take an event out. If it waits still, it is served, and its source's turn is over."""
        source = self._sources.pop(slot, None)
        if source is None:
            return default
        line = self._lines[source]
        journey = line.pop(slot)
        if not line:
            del self._lines[source]
        elif not slot.done():
            self._lines.move_to_end(source)
        return journey


class Held:
    """What one source has waiting for a mod: how many events, their bytes, and those that may yield."""

    __slots__ = ("count", "size", "yielding")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self.yielding: dict[Journey, asyncio.Future[Any]] = {}


class Tally:
    """What each source has waiting for one mod, wherever it waits, and which event yields to another.

    The newest event of the source that has most waiting yields, unless the other event's source
    would have as much. The only event of a source never yields, nor does one that a durable mod
    accepted.
    """

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        """How many sources have an event waiting."""
        return len(self._held)

    def of(self, journey: Journey) -> tuple[int, int]:
        """Return how many events of this one's source wait, and their bytes."""
        held = self._held.get(source_of(journey.event))
        return (0, 0) if held is None else (held.count, held.size)

    def add(self, journey: Journey, waits_for: asyncio.Future[Any]) -> None:
        held = self._held.setdefault(source_of(journey.event), Held())
        held.count += 1
        held.size += journey.size
        if journey.seq is None:
            held.yielding[journey] = waits_for

    def remove(self, journey: Journey) -> None:
        source = source_of(journey.event)
        held = self._held[source]
        held.count -= 1
        held.size -= journey.size
        held.yielding.pop(journey, None)
        if not held.count:
            del self._held[source]

    def yielding_to(
        self, journey: Journey, more: int, limits: LimitsConfig
    ) -> tuple[Journey, asyncio.Future[Any]] | None:
        """Return the event that yields to this one, and what it waits for. None: no event does.

        Args:
            more: how many events of this one's source come to those that are counted: 1 or 0.
        """

        def weight(count: int, size: int) -> int:  # its part by number and its part by bytes together
            return count * limits.queue_bytes + size * limits.queue

        count, size = self.of(journey)
        mine = weight(count + more, size + more * journey.size)
        several = (held for held in self._held.values() if held.count > 1 and held.yielding)
        most = max(several, key=lambda held: weight(held.count, held.size), default=None)
        if most is None or weight(most.count, most.size) <= mine:
            return None
        return next(reversed(most.yielding.items()))
