"""What one incarnation is handling, and where what it emits comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from ...ipc.pipe import HIGH_WATER, Pipe
from ..process import CrashReport
from .journey import Journey

MAX_FINISHED = 4096  # handled events whose late consequences (of tasks they left behind) are still linked to them
MAX_BATCHES = 4  # of observed copies, likewise


class Origin(NamedTuple):
    """What caused an event that a worker emits: its id and hops, and its journey if it is still being handled."""

    event_id: str
    hops: int
    journey: Journey | None


class InFlight:
    """The events of one incarnation: places given, events being handled, events handled of late.

    Args:
        why_ended: tells how the process behind it ended, in a few words, once that is known.
    """

    def __init__(self, pipe: Pipe, why_ended: Callable[[], Awaitable[str]]) -> None:
        self.pipe = pipe
        self.why_ended = why_ended
        self.killed_by: Journey | None = None  # the event it was handling alone, under suspicion, when it ended
        self.report: asyncio.Future[CrashReport | None] = asyncio.get_running_loop().create_future()
        self.handling: dict[int, Journey] = {}  # by request id; whoever sends one puts it here
        self.turn = asyncio.Lock()  # of those who wait until there is room in the pipe; fair: the first comes first
        self.pressing = 0  # how many these are
        self._reserved = 0  # places given to events that were not sent yet
        self._finished: dict[int, tuple[int, str, int]] = {}  # by request id, of which the last digits
        self._batches: dict[int, list[tuple[str, int]]] = {}
        self._idle: asyncio.Future[None] | None = None

    # -- places

    @property
    def is_clear(self) -> bool:
        """Whether an event can be sent at once: there is room in the pipe, and nobody waits for it."""
        return not self.pressing and self.pipe.buffered <= HIGH_WATER

    def reserve(self) -> None:
        """An event is to be sent here: the in_flight is not drained before `give_back`."""
        self._reserved += 1

    def give_back(self) -> None:
        """It was sent, or is not going to be."""
        self._reserved -= 1
        self._wake()

    def finished(self, request_id: int) -> None:
        """It was answered, or nobody waits for its answer."""
        journey = self.handling.pop(request_id, None)
        if journey is not None:
            event = journey.event
            self._finished[request_id % MAX_FINISHED] = request_id, event.event_id, event.hops
        if self._idle is not None:
            self._wake()

    @property
    def is_busy(self) -> bool:
        """Whether an event is being handled, or about to be."""
        return bool(self.handling or self._reserved)

    async def drained(self) -> None:
        """Wait until it is not busy any more."""
        while self.is_busy:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _wake(self) -> None:
        if self._idle is not None and not self.is_busy and not self._idle.done():
            self._idle.set_result(None)

    # -- causes

    def copied(self, request_id: int, events: Iterable[dict[str, Any]]) -> None:
        """A batch of copies was sent: what observers emit is caused by these."""
        self._batches[request_id] = [(event["event_id"], event.get("hops", 0)) for event in events]
        if len(self._batches) > MAX_BATCHES:
            del self._batches[next(iter(self._batches))]

    def origin(self, cause: Any) -> Origin | None:
        """What a worker means by ``cause``: a request id, or a batch's id and an index in it. None if it means nothing."""
        match cause:
            case int():
                journey = self.handling.get(cause)
                if journey is not None:
                    return Origin(journey.event.event_id, journey.event.hops, journey)
                finished = self._finished.get(cause % MAX_FINISHED)
                found = finished[1:] if finished is not None and finished[0] == cause else None
            case [int(batch), int(index)]:
                events = self._batches.get(batch, [])
                found = events[index] if 0 <= index < len(events) else None
            case _:
                found = None
        return Origin(*found, None) if found is not None else None
