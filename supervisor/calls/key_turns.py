"""One event of a key at a time: the others with this key wait, in order of arrival.

A descendant of the event that has the turn runs at once: the event may wait for it.
"""

from __future__ import annotations

import asyncio
from copy import copy

from ...ipc.errors import ModvisorError, Unserializable
from ...ipc.event import Event
from ...ipc.messages import Response, pack
from ...ipc.partition import LEAST_LOADED, key_of
from ..config import ModConfig
from .fair_queue import Tally
from .journey import Journey


def has_turns(config: ModConfig) -> bool:
    """Whether the mod gets the events of one key one after the other."""
    return config.partition_by not in (None, LEAST_LOADED) and not config.overlap


class _Line:
    """The event that has the turn of one key, and those that wait for it."""

    __slots__ = ("holder", "waiting")

    def __init__(self, holder: Journey) -> None:
        self.holder = holder
        self.waiting: dict[Journey, asyncio.Future[None]] = {}


class KeyTurns:
    """Hands the turn of each key from event to event. ``tally`` counts those that wait."""

    def __init__(self, tally: Tally | None = None) -> None:
        self._tally = Tally() if tally is None else tally
        self._lines: dict[bytes, _Line] = {}
        self._keys: dict[Journey, bytes] = {}
        self._waiting = 0
        self._waiting_bytes = 0

    def __len__(self) -> int:
        """How many events wait for a turn."""
        return self._waiting

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    def enter(self, journey: Journey, partition_by: str) -> asyncio.Future[None] | None:
        """Stand in line. Call `leave` afterwards, whatever happens.

        Returns:
            None: it is the event's turn, or the event needs none. Else a future that is done when
            the turn has come.
        """
        key = _packed_key(journey.event, partition_by)
        if key is None:
            return None
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = _Line(journey)
            self._keys[journey] = key
            return None
        if journey.descends_from({line.holder}):
            return None
        turn = line.waiting[journey] = asyncio.get_running_loop().create_future()
        self._keys[journey] = key
        self._waiting += 1
        self._waiting_bytes += journey.size
        self._tally.add(journey, turn)
        return turn

    def leave(self, journey: Journey) -> None:
        """Hand the turn on, or stop waiting for it."""
        key = self._keys.pop(journey, None)
        if key is None:
            return
        line = self._lines[key]
        if line.holder is journey:
            self._hand_on(key, line)
        else:
            self._withdraw(line, journey)

    def drop(self, journey: Journey) -> None:
        """Let an event wait for its turn no longer, if it does."""
        key = self._keys.get(journey)
        if key is not None and journey in self._lines[key].waiting:
            del self._keys[journey]
            self._withdraw(self._lines[key], journey)

    def leave_later(self, journey: Journey) -> asyncio.Future[Response] | None:
        """Let the event keep its turn although nobody waits for its answer any more.

        Its handler may still run. Returns a future: the turn is handed on when it is done. None: the
        event has no turn.
        """
        key = self._keys.pop(journey, None)
        if key is None:
            return None

        def ended(late: asyncio.Future[Response]) -> None:
            if not late.cancelled():
                late.exception()  # else asyncio logs that nobody retrieved it
            self._hand_on(key, self._lines[key])

        late: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        late.add_done_callback(ended)
        return late

    def refuse(self, reason: ModvisorError) -> None:
        """Fail the events that wait, each with an exception of its own."""
        for line in self._lines.values():
            for turn in line.waiting.values():
                if not turn.done():
                    turn.set_exception(copy(reason))

    def _hand_on(self, key: bytes, line: _Line) -> None:
        while line.waiting:
            journey, turn = next(iter(line.waiting.items()))
            self._withdraw(line, journey)
            if not turn.done():  # else it timed out or was refused, and has not left yet
                line.holder = journey
                turn.set_result(None)
                return
            self._keys.pop(journey, None)
        del self._lines[key]

    def _withdraw(self, line: _Line, journey: Journey) -> None:
        if line.waiting.pop(journey, None) is not None:
            self._waiting -= 1
            self._waiting_bytes -= journey.size
            self._tally.remove(journey)


def _packed_key(event: Event, partition_by: str) -> bytes | None:
    """Return the key, comparable. None: the event cannot be sent to any mod."""
    try:
        return pack(key_of(partition_by, event.source_id, event.payload))
    except Unserializable:
        return None
