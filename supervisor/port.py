"""The way to one mod: ask it, whichever of its incarnations serves, within its limits; ask again when it died of it."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from enum import Enum
from time import perf_counter
from typing import Any, Protocol, cast

from ..ipc.channel import keywords
from ..ipc.errors import (
    ChannelBroken,
    ChannelBusy,
    ChannelClosed,
    Code,
    InvalidEvent,
    ModvisorError,
)
from ..ipc.event import Event, EventResponse
from ..ipc.messages import EVENT, Response
from ..ipc.shelf import has_large
from .config import AT_LEAST_ONCE, ModConfig
from .counters import ModCounters
from .crashes import CrashReport
from .journey import Journey
from .lane import Lane

_CODES = frozenset(Code)

# Nothing that its handlers did: its end has a report of its own.
_NO_ERRORS = frozenset({Code.OVERLOADED, Code.MOD_CRASHED})

LAST_REPORT = 5.0
"""Seconds to wait for the crash report that goes with a dead letter; longer than it takes to reap a process tree."""


class Unanswered(ModvisorError):
    """A mod gave no answer: it failed, timed out, is overloaded or away. The walk goes on without it."""

    code = Code.HANDLER_ERROR


class _NotSent(Exception):
    """The lane ended between the place being given and the event being sent: nobody has seen it, it may wait again."""


class _Queue(Enum):
    """Where an event waits for a place. The first that is not empty goes first."""

    SUSPECT = 0  # was being handled when an incarnation died: one at a time, alone
    AHEAD = 1  # had a place already, but nobody has seen it
    WAITING = 2  # has just come


class Ledger(Protocol):
    """Keeps account of the events that died with an incarnation."""

    def charge(self, journey: Journey) -> None:
        """The event is about to be tried again: ``journey.attempt`` says for which time."""
        ...

    async def bury(self, journey: Journey, mod_id: str, reason: str, report: CrashReport | None) -> int | None:
        """Keep an event that was given up as a dead letter; returns its number, None if it could not be kept."""
        ...


class Port:
    """Admits events to a mod: at most ``concurrency`` at once, ``queue`` (and ``queue_bytes``) waiting, in order of arrival.

    While no incarnation serves (restart, reload) events wait until their deadline. Events caused by one that this mod is
    handling are exempt from the limit and the wait, else a mod that waits for its own consequences would wait forever.

    What was being handled when an incarnation died is under suspicion: the next incarnation gets these events first and
    one at a time, so that the one that kills is found, and not blamed on its neighbours. After ``max_attempts`` an event is
    buried.
    """

    def __init__(self, config: ModConfig, counters: ModCounters, ledger: Ledger) -> None:
        self.mod_id = config.mod_id
        self.config = config
        self.counters = counters
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._lane: Lane | None = None  # where new events go; None: they wait
        self._draining: Lane | None = None  # still handling what it had
        self._away: ModvisorError | None = None  # why events are refused at once
        self._admitted = 0
        self._given = 0  # places given to events whose tasks have not run yet: nobody overtakes them
        self._trial: Journey | None = None  # the suspect that is being handled, alone
        self._queues: dict[_Queue, OrderedDict[asyncio.Future[Lane], Journey]] = {
            kind: OrderedDict() for kind in _Queue
        }
        self._depth = 0  # of all queues
        self._waiting_bytes = 0

    # -- the keeper's side

    @property
    def in_flight(self) -> int:
        """Events being handled."""
        return sum(len(lane.handling) for lane in (self._lane, self._draining) if lane is not None)

    @property
    def depth(self) -> int:
        """Events waiting for a place or for an incarnation."""
        return self._depth

    @property
    def away(self) -> ModvisorError | None:
        """Why events are refused at once; None if they are not."""
        return self._away

    def open(self, lane: Lane) -> None:
        """Feed events to ``lane`` from now on, the waiting ones first."""
        self._lane, self._draining, self._away = lane, None, None
        self._pump()

    def hold(self) -> Lane | None:
        """Let events wait; returns the lane that served, which finishes what it has (and gets what that causes)."""
        self._draining, self._lane = self._lane or self._draining, None
        return self._draining

    def refuse(self, reason: ModvisorError) -> None:
        """Refuse every event at once, the waiting ones included.

        Those that died with an incarnation are said to have `mod_crashed`: the mod may have done half of what they ask for.
        """
        self._lane, self._away = None, reason
        for kind, queue in self._queues.items():
            code = Code.MOD_CRASHED if kind is _Queue.SUSPECT else reason.code
            for place in list(queue):
                if not place.done():
                    place.set_exception(Unanswered(str(reason), code=code))

    def lost(self, lane: Lane) -> None:
        """The incarnation behind ``lane`` ended. Called before those who wait for an answer run; new events wait."""
        if self._trial is not None and self._trial in lane.handling.values():
            lane.killed_by = self._trial
        if self._lane is lane:
            self._lane = None
        if self._draining is lane:
            self._draining = None

    def is_exempt(self, journey: Journey) -> bool:
        """Whether the event was caused by one that this mod is handling."""
        return self._exempt_lane(journey) is not None

    def takes(self, journey: Journey) -> bool:
        """Whether one more event would be handled at once, or may wait."""
        return self._is_free() or self._has_room(journey)

    def _has_room(self, journey: Journey) -> bool:
        waiting, limits = len(self._queues[_Queue.WAITING]), self.config.limits
        return waiting < limits.queue and (not waiting or self._waiting_bytes + journey.size <= limits.queue_bytes)

    # -- the gateway's side

    async def ask(self, journey: Journey, attempt: int = 1) -> EventResponse | Event | None:
        """Ask the mod about an event.

        One coroutine from the place to the answer: each further one between them takes a twentieth of an event's time.

        Args:
            attempt: more than 1 for an event that died with an incarnation before the supervisor's own restart.

        Raises:
            Unanswered: no usable answer; ``code`` says why.
            FrameTooLarge, Unserializable: the event itself cannot be sent to any mod.
        """
        counters = self.counters
        counters.events_in += 1
        journey.attempt = attempt
        queue = _Queue.WAITING if attempt == 1 else _Queue.SUSPECT
        in_turn = False  # it is its turn among those under suspicion, and was before
        try:
            while True:
                lane = self._exempt_lane(journey) if journey.parent is not None else None
                exempt = lane is not None
                if lane is None and queue is _Queue.WAITING and self._is_free():
                    lane = cast(Lane, self._lane)
                    self._admitted += 1
                elif lane is None:
                    lane = await self._admit(journey, queue, first=in_turn)
                    lane.give_back()
                started = perf_counter()  # not the loop's clock, which has no microseconds in every loop
                try:
                    if lane.is_clear:
                        request_id, future = self._begin(lane, journey)
                    else:
                        request_id, future = await self._begin_in_turn(lane, journey)
                    try:
                        response = await future
                    except (asyncio.CancelledError, TimeoutError):
                        lane.channel.give_up(request_id, future)
                        raise
                    finally:
                        lane.finished(request_id)
                    answer = self._answer(response)
                except _NotSent:
                    self.lost(lane)
                    in_turn = queue is _Queue.SUSPECT
                    queue = _Queue.AHEAD if queue is _Queue.WAITING else queue
                    continue
                except (ChannelBroken, ChannelClosed):  # it was sent, and its incarnation has ended
                    in_turn, queue = False, _Queue.SUSPECT
                    await self._died_with(lane, journey)
                    continue
                except TimeoutError:
                    waited = perf_counter() - started
                    raise self._failure(
                        f"mod {self.mod_id} did not answer within {waited:.3g} s", Code.TIMEOUT
                    ) from None
                except ChannelBusy as error:
                    raise Unanswered(f"mod {self.mod_id} is overloaded: {error}", code=Code.OVERLOADED) from None
                finally:
                    if not exempt:
                        self._leave(journey)
                counters.latency.add(perf_counter() - started)
                if type(answer) is EventResponse:
                    counters.answered += 1
                    journey.answer = response.frame
                else:
                    counters.passed += 1
                    journey.answer = None
                return answer
        except Unanswered as failure:
            self._count(failure)
            raise

    def _count(self, failure: Unanswered) -> None:
        self.counters.failed += 1
        self.counters.timeouts += failure.code == Code.TIMEOUT
        self.counters.overloaded += failure.code == Code.OVERLOADED
        self.counters.dead_lettered += failure.code == Code.DEAD_LETTERED

    async def _died_with(self, lane: Lane, journey: Journey) -> None:
        """The incarnation that was handling the event ended: the next one gets it, if it may. Raises `Unanswered` if not."""
        journey.own()
        may_try = self._away is None and self.config.delivery == AT_LEAST_ONCE
        if not may_try or journey.attempt >= self.config.max_attempts:
            raise await self._died_of(journey, lane, bury=may_try) from None
        journey.attempt += 1
        self._ledger.charge(journey)
        self.counters.redelivered += 1

    async def _died_of(self, journey: Journey, lane: Lane, *, bury: bool) -> Unanswered:
        """The failure of an event whose last attempt ended with its incarnation."""
        why = await lane.why_ended()
        text = f"mod {self.mod_id} ended while handling the event: {why}"
        if bury:
            report = await self._report_of(lane)
            letter = await self._ledger.bury(journey, self.config.name, text, report)
            if letter is not None:
                text = f"{text}; after {journey.attempt} attempts it was given up and is dead letter {letter}"
                return Unanswered(text, code=Code.DEAD_LETTERED, attempts=journey.attempt, dead_letter=letter)
        return Unanswered(text, code=Code.MOD_CRASHED, attempts=journey.attempt)

    @staticmethod
    async def _report_of(lane: Lane) -> CrashReport | None:
        try:
            async with asyncio.timeout(LAST_REPORT):
                return await asyncio.shield(lane.report)
        except TimeoutError:
            return None

    # -- places

    def _exempt_lane(self, journey: Journey) -> Lane | None:
        if journey.parent is None:
            return None
        for lane in (self._draining, self._lane):
            if lane is None or lane.channel.closed is not None or not lane.handling:
                continue
            if journey.descends_from(set(lane.handling.values())):
                return lane
        return None

    async def _admit(self, journey: Journey, kind: _Queue, *, first: bool = False) -> Lane:
        """Wait for a place, in order of arrival; ``first``: before those who wait in the same queue."""
        if self._away is not None:
            raise Unanswered(str(self._away), code=self._away.code)
        # What was accepted for good waits in any case.
        if kind is _Queue.WAITING and journey.seq is None and not self._has_room(journey):
            raise self.overloaded()
        journey.own()
        queue = self._queues[kind]
        place: asyncio.Future[Lane] = self._loop.create_future()
        queue[place] = journey
        self._depth += 1
        queue.move_to_end(place, last=not first)
        self._waiting_bytes += journey.size
        timer = None
        if journey.deadline < math.inf:
            timer = self._loop.call_at(journey.deadline, _expire, place, self.mod_id)
        self._pump()
        try:
            if place.done():  # those who were given theirs before have not run yet: behind them
                await asyncio.sleep(0)
            lane = await place
        except BaseException:
            if place.done() and not place.cancelled() and place.exception() is None:
                place.result().give_back()  # the place was ours already: hand it on
                self._given -= 1
                self._leave(journey)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._forget(kind, place)
        self._given -= 1
        return lane

    def _leave(self, journey: Journey) -> None:
        """The event's place is free again."""
        self._admitted -= 1
        if self._trial is journey:
            self._trial = None
        if self._depth:
            self._pump()

    def _forget(self, kind: _Queue, place: asyncio.Future[Lane]) -> None:
        journey = self._queues[kind].pop(place, None)
        if journey is not None:
            self._depth -= 1
            self._waiting_bytes -= journey.size

    def _is_free(self) -> bool:
        """Whether an event that has just come may be handled at once."""
        return (
            self._lane is not None
            and self._admitted < self.config.limits.concurrency
            and not self._given
            and self._trial is None
            and not self._depth
        )

    def overloaded(self) -> Unanswered:
        """The failure of an event that finds no room."""
        waiting = len(self._queues[_Queue.WAITING])
        text = f"mod {self.mod_id} is overloaded: {waiting} events of {self._waiting_bytes} bytes are waiting"
        return Unanswered(text, code=Code.OVERLOADED, waiting=waiting)

    def _pump(self) -> None:
        """Give free places to those who wait."""
        while self._lane is not None and (kind := self._next()) is not None:
            place, journey = next(iter(self._queues[kind].items()))
            self._forget(kind, place)
            if place.done():
                continue
            if kind is _Queue.SUSPECT:
                self._trial = journey
            self._admitted += 1
            self._given += 1
            self._lane.reserve()  # so that it is not drained before
            place.set_result(self._lane)

    def _next(self) -> _Queue | None:
        """Whose turn it is; None if nobody waits, or there is no place."""
        if self._trial is not None or self._admitted >= self.config.limits.concurrency:
            return None
        kind = next((kind for kind, queue in self._queues.items() if queue), None)
        return None if kind is _Queue.SUSPECT and self._admitted else kind

    # -- sending

    def _begin(self, lane: Lane, journey: Journey) -> tuple[int, asyncio.Future[Response]]:
        """Send the event: returns the request's id and what its answer will be in."""
        due = journey.deadline
        if journey.allowed is not None or self.config.limits.event_timeout is not None:
            due = self._due(journey)
        try:
            if has_large(journey.event.payload):
                journey.own()
                asked = lane.channel.begin(EVENT, {"event": journey.to_dict()}, due, has_large=True)
            else:
                asked = lane.channel.begin_event(journey.packed, due)
        except (ChannelBroken, ChannelClosed):
            raise _NotSent from None
        lane.handling[asked[0]] = journey
        return asked

    async def _begin_in_turn(self, lane: Lane, journey: Journey) -> tuple[int, asyncio.Future[Response]]:
        """`_begin` when there is room in the pipe, and behind those who wait for that already."""
        journey.own()
        lane.reserve()
        lane.pressing += 1
        try:
            async with asyncio.timeout_at(self._due(journey)), lane.turn:
                await lane.channel.writable()
                return self._begin(lane, journey)
        finally:
            lane.pressing -= 1
            lane.give_back()

    def _due(self, journey: Journey) -> float:
        due, now, limit = journey.deadline, self._loop.time(), self.config.limits.event_timeout
        if journey.allowed is not None:
            due = min(due, now + journey.allowed)
        return due if limit is None else min(due, now + limit)

    def _answer(self, response: Response) -> EventResponse | Event | None:
        """Check what the worker answered: it is a stranger's data."""
        result, error = response.result, response.error
        if error is not None:
            code = error["code"] if error["code"] in _CODES else Code.HANDLER_ERROR
            raise self._failure(f"mod {self.mod_id}: {error['message']}", code, **keywords(error["details"]))
        try:
            if type(result) is dict:
                if "response" in result:
                    return EventResponse.from_dict(result["response"])
                if "event" in result:
                    return Event.from_dict(result["event"])
            elif result is None:
                return None
        except InvalidEvent as invalid:
            raise self._failure(f"mod {self.mod_id} answered with {invalid}", Code.PROTOCOL_ERROR) from None
        raise self._failure(f"mod {self.mod_id} gave no valid answer", Code.PROTOCOL_ERROR)

    def _failure(self, text: str, code: str, **details: Any) -> Unanswered:
        """What has become of an event that was sent."""
        self.counters.errors += code not in _NO_ERRORS
        return Unanswered(text, code=code, **details)


def _expire(place: asyncio.Future[Lane], mod_id: str) -> None:
    if not place.done():
        place.set_exception(
            Unanswered(f"mod {mod_id} had no place for the event before its deadline", code=Code.TIMEOUT)
        )
