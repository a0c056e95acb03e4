"""A line of events that many sources fill, and that is fair to them when it is full. Pure.

As long as a line has room, it is a plain queue, since it lies on the hot path. It looks at the
sources only when it is full (`drop_of_heaviest`, `held_by`); what arrived since the last look is
counted then.

Dropping the oldest event of the source that takes up most is fair: a source that takes up no more
than its share of a full line loses nothing, whatever the others send.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

T = TypeVar("T")


_EMPTY: deque[Any] = deque()
"""Stands for the events of every line that nothing was ever put into: an empty deque takes 760 bytes.
Most inboxes and queues of observers stay empty. Nobody appends to it; see `FairLine.append`."""


class FairLine(Generic[T]):
    """Events in order of arrival, each with its size and its source. Whoever puts one in caps it.

    Attributes:
        events: the events in order. None stands for an event that was dropped before those in
            front of it were taken. Add to it by `append` alone while it is empty.
        size: the sum of all sizes, in bytes.
    """

    __slots__ = ("_gone", "_taken", "_tally", "events", "size")

    def __init__(self) -> None:
        self.events: deque[tuple[T, int, str] | None] = _EMPTY
        self.size: int = 0
        self._gone = 0  # how many None there are
        self._taken = 0  # items that were taken from the front, since the tally was made
        self._tally: _Tally | None = None  # None: nobody has looked at the sources

    def __len__(self) -> int:
        return len(self.events) - self._gone

    def append(self, event: T, size: int, source: str) -> None:
        """Put an event at the end. ``source``: whose share of the line it takes."""
        if self.events is _EMPTY:
            self.events = deque()
        self.events.append((event, size, source))
        self.size += size

    def popleft(self) -> T:
        """Take the oldest event. Raises `IndexError`."""
        while True:
            item = self.events.popleft()
            self._taken += 1
            if item is not None:
                break
            self._gone -= 1
        event, size, source = item
        self.size -= size
        if self._tally is not None:
            self._tally.remove(self._taken - 1, source, size)
        if self._gone == len(self.events):
            self._clear()
        return event

    def first(self) -> tuple[T, int] | None:
        """Return the oldest event and its size, or None."""
        while self.events and self.events[0] is None:
            self.events.popleft()
            self._taken += 1
            self._gone -= 1
        item = self.events[0] if self.events else None
        return None if item is None else item[:2]

    def held_by(self, source: str) -> tuple[int, int]:
        """Return how many events of a source wait, and their bytes."""
        tally = self._up_to_date(1, 1)
        held = tally.held.get(source)
        return (0, 0) if held is None else (len(held.places), held.size)

    def drop_of_heaviest(self, most: int, most_bytes: int, source: str, size: int) -> str:
        """Drop the oldest event of the source that takes up most. Return the source.

        Args:
            most: how many events the line holds at most.
            most_bytes: how many bytes it holds at most.
            source: who sent the event that needs the room, which counts already.
            size: the size of that event.
        """
        tally = self._up_to_date(most, most_bytes)
        source = tally.heaviest(source, size)
        self._drop(tally.held[source].places[0] - self._taken, tally)
        return source

    def _drop(self, index: int, tally: _Tally) -> tuple[T, int, str]:
        """Drop the event at an index of `events`, the oldest of its source, and return it."""
        item = self.events[index]
        assert item is not None
        tally.remove(index + self._taken, item[2], item[1])
        self.events[index] = None
        self.size -= item[1]
        self._gone += 1
        if self._gone == len(self.events):
            self._clear()
        elif self._gone > len(self):
            self._close_gaps()
        return item

    def _up_to_date(self, most: int, most_bytes: int) -> _Tally:
        tally = self._tally
        if tally is None or tally.limits != (most, most_bytes):
            self._close_gaps()
            tally = self._tally = _Tally(most, most_bytes)
        for index in range(max(tally.counted - self._taken, 0), len(self.events)):
            item = self.events[index]
            if item is not None:
                tally.add(self._taken + index, item[2], item[1])
        tally.counted = self._taken + len(self.events)
        return tally

    def _close_gaps(self) -> None:
        self.events = deque(item for item in self.events if item is not None)
        self._gone = self._taken = 0
        self._tally = None

    def _clear(self) -> None:
        self.events.clear()
        self._gone = self._taken = 0
        self._tally = None


class _Held:
    """What a line holds of one source: the places of its events, and their bytes."""

    __slots__ = ("places", "size")

    def __init__(self) -> None:
        self.places: deque[int] = deque()
        self.size = 0


class _Tally:
    """How much of a line each source takes up, and which one takes up most.

    An event weighs its part of the line by number and its part by bytes together, in whole
    numbers. The heap may hold weights that are no longer true; `heaviest` drops them.

    Attributes:
        counted: the place up to which the events of the line are counted.
    """

    __slots__ = ("_heap", "counted", "held", "limits")

    def __init__(self, most: int, most_bytes: int) -> None:
        self.limits = most, most_bytes
        self.held: dict[str, _Held] = {}
        self.counted = 0
        self._heap: list[tuple[int, str]] = []

    def add(self, place: int, source: str, size: int) -> None:
        held = self.held.get(source)
        if held is None:
            held = self.held[source] = _Held()
        held.places.append(place)
        held.size += size
        self._note(source, held)

    def remove(self, place: int, source: str, size: int) -> None:
        """Count an event no longer: the oldest of its source."""
        if place >= self.counted:
            return  # it came and went between two looks
        held = self.held[source]
        held.places.popleft()
        held.size -= size
        if held.places:
            self._note(source, held)
        else:
            del self.held[source]

    def heaviest(self, coming: str, size: int) -> str:
        """Return the source that takes up most, once one more event of ``coming`` is counted."""
        while True:
            weight, source = self._heap[0]
            held = self.held.get(source)
            if held is not None and -weight == self._weight(held):
                break
            heappop(self._heap)
        mine = self.held.get(coming)
        most, most_bytes = self.limits
        if mine is not None and self._weight(mine) + most_bytes + size * most >= -weight:
            return coming
        return source

    def _note(self, source: str, held: _Held) -> None:
        if len(self._heap) > 4 * len(self.held) + 64:
            self._heap = [(-self._weight(each), name) for name, each in self.held.items()]
            heapify(self._heap)
        else:
            heappush(self._heap, (-self._weight(held), source))

    def _weight(self, held: _Held) -> int:
        most, most_bytes = self.limits
        return len(held.places) * most_bytes + held.size * most
