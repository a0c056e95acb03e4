"""The way to one mod: ask it, whichever of its incarnations serves, within its limits."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import perf_counter

from ..ipc.channel import HIGH_WATER
from ..ipc.errors import (
    ChannelBroken,
    ChannelBusy,
    ChannelClosed,
    Code,
    InvalidEvent,
    ModvisorError,
    RequestFailed,
)
from ..ipc.event import Event, EventResponse
from ..ipc.messages import EVENT, Response
from .config import LimitsConfig
from .counters import ModCounters
from .journey import Journey
from .lane import Lane

_CODES = frozenset(Code)


class Unanswered(ModvisorError):
    """A mod gave no answer: it failed, timed out, is overloaded or away. The walk goes on without it."""

    code = Code.HANDLER_ERROR


class _NotSent(Exception):
    """The lane ended between the place being given and the event being sent: nobody has seen it, it may wait again."""


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
        self._waiting: OrderedDict[asyncio.Future[Lane], Journey] = OrderedDict()
        self._given = 0  # places given to events whose tasks have not run yet: nobody overtakes them

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
            place, _ = self._waiting.popitem(last=False)
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
        again = False
        while True:
            lane = self._exempt_lane(journey)
            exempt = lane is not None
            if lane is None:
                if self._away is not None:
                    raise Unanswered(str(self._away), code=self._away.code)
                lane = await self._admit(journey, first=again)
            else:
                lane.reserve()
            try:
                return await self._send(lane, journey)
            except _NotSent:
                again = True
            finally:
                if not exempt:
                    self._admitted -= 1
                    self._pump()

    def _exempt_lane(self, journey: Journey) -> Lane | None:
        if journey.parent is None:
            return None
        for lane in (self._draining, self._lane):
            if lane is None or lane.channel.closed is not None or not lane.handling:
                continue
            if journey.descends_from(set(lane.handling.values())):
                return lane
        return None

    async def _admit(self, journey: Journey, *, first: bool) -> Lane:
        """Wait for a place, in order of arrival (or ahead of all, for one that had a place already)."""
        if self._lane is not None and self._has_room() and not self._waiting and not self._given:
            self._admitted += 1
            self._lane.reserve()
            return self._lane
        if len(self._waiting) >= self.limits.queue and not first:
            raise Unanswered(
                f"mod {self.mod_id} is overloaded: {len(self._waiting)} events are waiting", code=Code.OVERLOADED
            )
        place: asyncio.Future[Lane] = self._loop.create_future()
        self._waiting[place] = journey
        if first:
            self._waiting.move_to_end(place, last=False)
        timer = self._loop.call_at(journey.deadline, _expire, place, self.mod_id)
        self._pump()
        try:
            lane = await place
        except BaseException:
            if place.done() and not place.cancelled() and place.exception() is None:
                place.result().give_back()  # the place was ours already: hand it on
                self._given -= 1
                self._admitted -= 1
                self._pump()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(place, None)
        self._given -= 1
        return lane

    def _has_room(self) -> bool:
        return self._admitted < self.limits.concurrency

    def _pump(self) -> None:
        """Give free places to those who wait."""
        while self._waiting and self._lane is not None and self._has_room():
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                self._admitted += 1
                self._given += 1
                self._lane.reserve()
                place.set_result(self._lane)

    async def _send(self, lane: Lane, journey: Journey) -> EventResponse | Event | None:
        """Send the event to ``lane``, where a place is reserved for it, and wait for the answer."""
        due = journey.deadline
        if self.limits.event_timeout is not None:
            due = min(due, self._loop.time() + self.limits.event_timeout)
        started = perf_counter()
        try:
            request_id, future = await self._begin(lane, journey, due)
            try:
                response = await lane.channel.finish(request_id, future, due - self._loop.time())
            finally:
                lane.finished(request_id)
        except TimeoutError:
            waited = perf_counter() - started
            raise Unanswered(f"mod {self.mod_id} did not answer within {waited:.3g} s", code=Code.TIMEOUT) from None
        except RequestFailed as error:
            code = error.code if error.code in _CODES else Code.HANDLER_ERROR
            raise Unanswered(f"mod {self.mod_id}: {error}", code=code, **error.details) from None
        except (ChannelBroken, ChannelClosed):
            why = await lane.why_ended()
            text = f"mod {self.mod_id} ended while handling the event: {why}"
            raise Unanswered(text, code=Code.MOD_CRASHED) from None
        except ChannelBusy as error:
            raise Unanswered(f"mod {self.mod_id} is overloaded: {error}", code=Code.OVERLOADED) from None
        self.counters.latency.add(perf_counter() - started)
        return self._answer(response)

    async def _begin(self, lane: Lane, journey: Journey, due: float) -> tuple[int, asyncio.Future[Response]]:
        """Put the event on the wire; raises `_NotSent` when the lane has ended before."""
        channel = lane.channel
        try:
            if channel.buffered > HIGH_WATER:
                async with asyncio.timeout_at(due):
                    await channel.writable()
            request_id, future = channel.begin(EVENT, {"event": journey.event.to_dict()})
        except (ChannelBroken, ChannelClosed):
            lane.give_back()
            self.lost(lane)
            raise _NotSent from None
        except BaseException:
            lane.give_back()
            raise
        lane.sent(request_id, journey)
        return request_id, future

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
