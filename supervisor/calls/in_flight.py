"""What is in flight at one incarnation, and what caused the events that it emits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, NamedTuple

from ...ipc.mark import Marks
from ...ipc.pipe import HIGH_WATER, Pipe
from ..process import CrashReport
from .blame import Verdict, judge
from .journey import Journey
from .traces import Traces

# Handled events that can still be named as a cause, by tasks that their handlers left behind.
MAX_FINISHED = 4096
MAX_BATCHES = 4  # batches of observed copies that can still be named as a cause


class Origin(NamedTuple):
    """The event that caused an event of a worker; its journey only while it is in flight."""

    event_id: str
    hops: int
    journey: Journey | None


class InFlight:
    """The events of one incarnation: slots reserved, events in flight, events finished of late.

    Args:
        why_ended: waits until it is known how the incarnation ended, and says it in a few words.
        traces: what it leaves on disk in case that it dies.

    Attributes:
        dead: the events in flight when it ended, by request id, in the order in which they were
            sent. None: it has not ended.
        verdict: who is to blame for its end.
        report: the incarnation's crash report, once it is written. None: it ended as it should.
        handling: the events in flight, by request id. The sender of a request puts its event here.
        turn: held by the one event that waits for room in the pipe. It is fair: first come, first
            served.
        pressing: how many events wait for `turn`, or hold it.
    """

    def __init__(self, pipe: Pipe, why_ended: Callable[[], Awaitable[str]], traces: Traces | None = None) -> None:
        self.pipe = pipe
        self.why_ended = why_ended
        self.traces = traces
        self.dead: list[tuple[int, Journey]] | None = None
        self._tried: list[Journey] = []
        self.verdict: Verdict | None = None
        self._marks: Marks | None = None
        self.report: asyncio.Future[CrashReport | None] = asyncio.get_running_loop().create_future()
        self.handling: dict[int, Journey] = {}
        self.turn = asyncio.Lock()
        self.pressing = 0
        self._reserved = 0  # slots granted to events that are not sent yet
        self._finished: dict[int, tuple[int, str, int]] = {}
        self._batches: dict[int, list[tuple[str, int]]] = {}
        self._idle: asyncio.Future[None] | None = None

    # -- slots

    @property
    def is_clear(self) -> bool:
        """Whether an event can be sent at once: the pipe has room, and no event waits for room."""
        return not self.pressing and self.pipe.buffered <= HIGH_WATER

    def reserve(self) -> None:
        """Announce an event that will be sent: a drain waits until `give_back`."""
        self._reserved += 1

    def give_back(self) -> None:
        """Take the announcement back: the event was sent, or will not be."""
        self._reserved -= 1
        self._wake()

    def finished(self, request_id: int) -> None:
        """Note that a request was answered, or that its answer is no longer waited for."""
        journey = self.handling.pop(request_id)
        if journey.seq is not None and self.traces is not None:
            self.traces.done(request_id)
        event = journey.event
        self._finished[request_id % MAX_FINISHED] = request_id, event.event_id, event.hops
        if self._idle is not None:
            self._wake()

    @property
    def is_busy(self) -> bool:
        """Whether an event is in flight or announced."""
        return bool(self.handling or self._reserved)

    async def drained(self) -> None:
        """Wait until no event is in flight or announced."""
        while self.is_busy:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _wake(self) -> None:
        if self._idle is not None and not self.is_busy and not self._idle.done():
            self._idle.set_result(None)

    # -- the end

    def lost(self, trial: Collection[Journey]) -> None:
        """Note which events are in flight at the end, and what the worker has marked.

        Args:
            trial: the suspects that are being tried.
        """
        if self.dead is not None:
            return
        self.dead = list(self.handling.items())
        self._tried = [journey for journey in self.handling.values() if journey in trial]
        if self.traces is not None:
            self._marks = self.traces.marks()

    def judge(self, report: CrashReport | None) -> Verdict:
        """Decide who is to blame for the end; the first report counts."""
        if self.verdict is None:
            self.verdict = judge(self.dead or (), self._marks, report, tried=self._tried)
        return self.verdict

    # -- causes

    def copied(self, request_id: int, events: Iterable[dict[str, Any]]) -> None:
        """Note that a batch of copies was sent: observers may name its events as a cause."""
        self._batches[request_id] = [(event["event_id"], event.get("hops", 0)) for event in events]
        if len(self._batches) > MAX_BATCHES:
            del self._batches[next(iter(self._batches))]

    def origin(self, cause: Any) -> Origin | None:
        """Return what a worker means by ``cause``. None: it means nothing.

        Args:
            cause: a stranger's value: a request id, or the id of a batch and an index in the batch.
        """
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
