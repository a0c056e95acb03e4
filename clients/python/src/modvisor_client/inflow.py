"""The events that an agent gets, from their arrival until they are handled. Pure: no loop, no I/O.

Rules:
- An event is *handled* when everybody who wanted it is done with it. A *cursor* names its place in
  the agent's stream. An ack of a cursor tells the network that this event and all before it are
  handled, so only the longest handled beginning of the stream is acked.
- The network may push as many events as the client has given *credit* for. An event that was pushed
  over the present connection holds one credit until it is handled.
- After a reconnect the network pushes again what was not acked. What the client holds, or has
  handled already, it knows by the cursor, and does not give to anybody again.
- When the stream begins anew (the network restarted), old cursors mean nothing. Events that the
  client holds, and those that it handled last, are then known by source and id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from .event import Event

WINDOW = 64
"""Events that may be pushed and not handled."""

MOST_UNACKED = 64
"""Times the window: handled events behind one that is not, which the client remembers."""

PAST = 4
"""Times the window: handled events that are known again if the stream begins anew."""

Key = tuple[str | None, str]
"""What names an event: its source and its id."""


class Arrived:
    """An event of the stream.

    Attributes:
        waiting: how many have yet to handle it. 0: handled.
        cursor: None if the event is of a stream that began anew: then it is not acked.
    """

    __slots__ = ("cursor", "event", "holds_credit", "waiting")

    def __init__(self, event: Event) -> None:
        self.cursor: str | None = None
        self.event = event
        self.waiting = 1
        self.holds_credit = True


class Inflow:
    """What has arrived, what is handled, and what the network is to be told of it.

    Args:
        window: credit of a new connection.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self._unacked: dict[str, Arrived] = {}
        """By cursor, in the order of the stream. The first one is not handled."""
        self._repeats: dict[str, Arrived] = {}
        """What the present connection is expected to push again, handled since or not."""
        self._orphans: dict[Key, Arrived] = {}
        """What was not handled when the stream began anew."""
        self._past: deque[Key] = deque(maxlen=PAST * window)
        """What was handled last. An ack of it may have been lost."""
        self._done_before: set[Key] = set()
        """What was handled last when the stream began anew."""
        self._handled_to: str | None = None
        self._acked: str | None = None
        self._owed = 0

    @property
    def cursor(self) -> str | None:
        """The cursor of the last event of the handled beginning of the stream; None: no stream yet."""
        return self._handled_to

    def connected(self, cursor: str, *, is_resumed: bool) -> None:
        """Note that a connection stands.

        Args:
            cursor: where the stream stands, as the network says.
            is_resumed: whether it goes on where the client said; otherwise it began anew.
        """
        self._owed = 0
        for arrived in self._unacked.values():
            arrived.holds_credit = False
        if not is_resumed:
            self._begin_anew()
        if not is_resumed or self._handled_to is None:
            self._handled_to = cursor
        self._repeats = dict(self._unacked)
        self._acked = self._handled_to

    def _begin_anew(self) -> None:
        known = (*self._orphans.values(), *self._unacked.values())
        self._past.extend(_key(arrived.event) for arrived in known if not arrived.waiting)
        self._orphans = {_key(arrived.event): arrived for arrived in known if arrived.waiting}
        self._done_before = set(self._past)
        for arrived in self._orphans.values():
            arrived.cursor = None
        self._unacked.clear()

    def arrived(self, cursor: str, data: Mapping[str, Any]) -> Arrived | None:
        """Take in an event that was pushed. Return None for one that the client has or had already."""
        known = self._repeats.pop(cursor, None)
        if known is not None:
            self._arrived_again(known)
            return None
        arrived = Arrived(Event.from_wire(data))
        orphan = self._known_of_old(arrived) if self._orphans or self._done_before else None
        one = self._unacked[cursor] = orphan or arrived
        one.cursor = cursor
        if orphan is None:
            return arrived
        self._arrived_again(orphan)
        self._advance()
        return None

    def _known_of_old(self, arrived: Arrived) -> Arrived | None:
        """Return the event as the client had it before the stream began anew."""
        key = _key(arrived.event)
        if key in self._done_before:
            arrived.waiting, arrived.holds_credit = 0, False
            return arrived
        return self._orphans.pop(key, None)

    def _arrived_again(self, known: Arrived) -> None:
        if known.waiting:
            known.holds_credit = True
        else:
            self._owed += 1

    def handled(self, arrived: Arrived) -> None:
        """Note that one of those who wanted the event is done with it."""
        arrived.waiting -= 1
        if arrived.waiting:
            return
        if arrived.cursor is None:
            self._past.append(_key(arrived.event))
        if arrived.holds_credit and len(self._unacked) < self.window * MOST_UNACKED:
            arrived.holds_credit = False
            self._owed += 1
        if arrived.cursor is not None:
            self._advance()

    def _advance(self) -> None:
        """Let go of the handled beginning of the stream."""
        unacked = self._unacked
        while unacked:
            cursor, first = next(iter(unacked.items()))
            if first.waiting:
                return
            del unacked[cursor]
            self._handled_to = cursor
            self._past.append(_key(first.event))
            if first.holds_credit:
                self._owed += 1

    def take_ack(self) -> str | None:
        """Return the cursor to ack, or None if there is nothing new to ack."""
        if self._handled_to == self._acked:
            return None
        self._acked = self._handled_to
        return self._handled_to

    def take_credit(self) -> int:
        """Return how much credit to give back: 0 until it is a quarter of the window."""
        owed = self._owed
        if owed * 4 < self.window:
            return 0
        self._owed = 0
        return owed

    @property
    def waiting(self) -> int:
        """How many events are not handled."""
        held = (*self._unacked.values(), *self._orphans.values())
        return sum(1 for arrived in held if arrived.waiting)


def _key(event: Event) -> Key:
    return event.source_id, event.event_id
