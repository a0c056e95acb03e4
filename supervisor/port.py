"""The way to one mod: ask it, whichever of its incarnations serves, within its limits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import perf_counter

from ..ipc.channel import HIGH_WATER, Channel
from ..ipc.errors import (
    ChannelBroken,
    ChannelBusy,
    ChannelClosed,
    Code,
    FrameTooLarge,
    InvalidEvent,
    ModvisorError,
    RequestFailed,
    Unserializable,
)
from ..ipc.event import Event, EventResponse
from ..ipc.messages import EVENT, Response
from .config import LimitsConfig
from .counters import ModCounters
from .journey import Journey

_CODES = frozenset(Code)


class Unanswered(ModvisorError):
    """A mod gave no answer: it failed, timed out, is overloaded or away. The walk goes on without it."""

    code = Code.HANDLER_ERROR


class Lane:
    """The events one incarnation is handling.

    Args:
        why_ended: tells how the process behind it ended, in a few words, once that is known.
    """

    def __init__(self, channel: Channel, why_ended: Callable[[], Awaitable[str]]) -> None:
        self.channel = channel
        self.why_ended = why_ended
        self.handling: dict[int, Journey] = {}  # by request id: the cause of what the worker emits
        self._idle: asyncio.Future[None] | None = None

    async def drained(self) -> None:
        """Wait until nothing is being handled."""
        while self.handling:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def release(self, request_id: int) -> None:
        self.handling.pop(request_id, None)
        if not self.handling and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


class Port:
    """Admits events to a mod: at most ``concurrency`` at once, ``queue`` waiting, in order of arrival.

    While no incarnation serves (restart, reload) events wait until their deadline. Events caused by one that this mod is
    handling are exempt from the limit and the wait, else a mod that waits for its own consequences would wait forever.
    """

    def __init__(self, mod_id: str, limits: LimitsConfig, counters: ModCounters) -> None:
        self.mod_id = mod_id
        self.limits = limits
        self.counters = counters
        self._loop = asyncio.get_running_loop()
        self._lane: Lane | None = None  # where new events go; None: they wait
        self._draining: Lane | None = None  # still handling what it had
        self._away: ModvisorError | None = None  # why events are refused at once
        self._admitted = 0
        self._waiting: deque[tuple[Journey, asyncio.Future[Lane]]] = deque()

    # -- the keeper's side

    @property
    def in_flight(self) -> int:
        """Events being handled."""
        return sum(len(lane.handling) for lane in (self._lane, self._draining) if lane is not None)

    @property
    def depth(self) -> int:
        """Events waiting for a place or for an incarnation."""
        return len(self._waiting)

    def open(self, lane: Lane) -> None:
        """Feed events to ``lane`` from now on, the waiting ones first."""
        self._lane, self._draining, self._away = lane, None, None
        self._pump()

    def hold(self) -> Lane | None:
        """Let events wait; returns the lane that served, which finishes what it has (and gets what that causes)."""
        self._draining, self._lane = self._lane or self._draining, None
        return self._draining

    def refuse(self, reason: ModvisorError) -> None:
        """Refuse every event at once, the waiting ones included."""
        self._lane, self._away = None, reason
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_exception(Unanswered(str(reason), code=reason.code))

    def lost(self, lane: Lane) -> None:
        """The incarnation behind ``lane`` ended: its events have failed by now, new ones wait for the next."""
        if self._lane is lane:
            self._lane = None
        if self._draining is lane:
            self._draining = None

    # -- the gateway's side

    async def ask(self, journey: Journey) -> EventResponse | Event | None:
        """Ask the mod about an event.

        Raises:
            Unanswered: no usable answer; ``code`` says why.
            FrameTooLarge, Unserializable: the event itself cannot be sent to any mod.
        """
        self.counters.events_in += 1
        try:
            answer = await self._ask(journey)
        except Unanswered as failure:
            self.counters.failed += 1
            if failure.code == Code.TIMEOUT:
                self.counters.timeouts += 1
            elif failure.code == Code.OVERLOADED:
                self.counters.overloaded += 1
            raise
        if isinstance(answer, EventResponse):
            self.counters.answered += 1
        else:
            self.counters.passed += 1
        return answer

    async def _ask(self, journey: Journey) -> EventResponse | Event | None:
        if self._away is not None:
            raise Unanswered(str(self._away), code=self._away.code)
        lane = self._exempt_lane(journey)
        if lane is not None:
            return await self._send(lane, journey)
        lane = await self._admit(journey)
        try:
            return await self._send(lane, journey)
        finally:
            self._admitted -= 1
            self._pump()

    def _exempt_lane(self, journey: Journey) -> Lane | None:
        if journey.parent is None:
            return None
        for lane in (self._draining, self._lane):
            if lane is not None and lane.handling and journey.descends_from(set(lane.handling.values())):
                return lane
        return None

    async def _admit(self, journey: Journey) -> Lane:
        """Wait for a place, in order of arrival."""
        if self._lane is not None and self._admitted < self.limits.concurrency and not self._waiting:
            self._admitted += 1
            return self._lane
        if len(self._waiting) >= self.limits.queue:
            raise Unanswered(
                f"mod {self.mod_id} is overloaded: {len(self._waiting)} events are waiting", code=Code.OVERLOADED
            )
        place: asyncio.Future[Lane] = self._loop.create_future()
        self._waiting.append((journey, place))
        timer = self._loop.call_at(journey.deadline, _expire, place, self.mod_id)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._admitted -= 1  # the place was ours already: hand it on
                self._pump()
            raise
        finally:
            timer.cancel()

    def _pump(self) -> None:
        """Give free places to those who wait."""
        while self._waiting and self._lane is not None and self._admitted < self.limits.concurrency:
            _, place = self._waiting.popleft()
            if not place.done():
                self._admitted += 1
                place.set_result(self._lane)

    async def _send(self, lane: Lane, journey: Journey) -> EventResponse | Event | None:
        timeout = journey.deadline - self._loop.time()
        if self.limits.event_timeout is not None:
            timeout = min(timeout, self.limits.event_timeout)
        channel, started = lane.channel, perf_counter()
        try:
            if channel.buffered > HIGH_WATER:
                async with asyncio.timeout(timeout):
                    await channel.writable()
            request_id, future = channel.begin(EVENT, {"event": journey.event.to_dict()})
            lane.handling[request_id] = journey
            try:
                response = await channel.finish(request_id, future, timeout)
            finally:
                lane.release(request_id)
        except TimeoutError:
            waited = perf_counter() - started
            raise Unanswered(f"mod {self.mod_id} did not answer within {waited:.3g} s", code=Code.TIMEOUT) from None
        except RequestFailed as error:
            code = error.code if error.code in _CODES else Code.HANDLER_ERROR
            raise Unanswered(f"mod {self.mod_id}: {error}", code=code, **error.details) from None
        except (ChannelBroken, ChannelClosed):
            why = await lane.why_ended()
            raise Unanswered(
                f"mod {self.mod_id} ended while handling the event: {why}", code=Code.MOD_CRASHED
            ) from None
        except ChannelBusy as error:
            raise Unanswered(f"mod {self.mod_id} is overloaded: {error}", code=Code.OVERLOADED) from None
        self.counters.latency.add(perf_counter() - started)
        return self._answer(response)

    def _answer(self, response: Response) -> EventResponse | Event | None:
        """Check what the worker answered: it is a stranger's data."""
        try:
            match response.result:
                case None:
                    return None
                case {"response": data}:
                    return EventResponse.from_dict(data)
                case {"event": data}:
                    return Event.from_dict(data)
        except InvalidEvent as error:
            raise Unanswered(f"mod {self.mod_id} answered with {error}", code=Code.PROTOCOL_ERROR) from None
        raise Unanswered(f"mod {self.mod_id} gave no valid answer", code=Code.PROTOCOL_ERROR)


def _expire(place: asyncio.Future[Lane], mod_id: str) -> None:
    if not place.done():
        place.set_exception(
            Unanswered(f"mod {mod_id} had no place for the event before its deadline", code=Code.TIMEOUT)
        )


__all__ = ["FrameTooLarge", "Lane", "Port", "Unanswered", "Unserializable"]
