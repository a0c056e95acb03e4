"""Asks one mod about an event, within the mod's limits, and again after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from ...ipc.errors import (
    Code,
    InvalidEvent,
    PipeBroken,
    PipeBusy,
    PipeClosed,
)
from ...ipc.event import Event, EventResponse
from ...ipc.messages import EVENT, Response
from ...ipc.pipe import HIGH_WATER, keywords
from ...ipc.shared_memory import has_large
from ...ipc.usual import Answer as UsualAnswer
from ..config import AT_LEAST_ONCE, ModConfig
from ..process import CrashReport
from .admission import CUT_SHORT, Admission, Queue, Unanswered
from .counters import ModCounters
from .in_flight import InFlight
from .journey import Journey

_CODES = frozenset(Code)

# Failures that no handler caused: a crash has a report of its own.
_NO_ERRORS = frozenset({Code.OVERLOADED, Code.MOD_CRASHED, Code.MOD_UNLOADED})

LAST_REPORT = 5.0
"""Seconds to wait for the crash report of a dead letter: longer than it takes to reap a process
tree."""

Answer = EventResponse | Event | None
"""What a mod makes of an event: a response, a changed event that goes on in its place, or None (it
passes)."""


def _queue_of(journey: Journey) -> Queue:
    """Return where an event waits that died with an incarnation."""
    deaths = journey.deaths
    if deaths is None or not deaths.is_suspect:
        return Queue.AHEAD
    return Queue.LAST if deaths.is_last else Queue.SUSPECT


class Place(NamedTuple):
    """Where an event waits.

    Attributes:
        in_turn: a suspect whose turn came but that was not sent: it goes before the other suspects.
    """

    queue: Queue
    in_turn: bool = False


_NEW = Place(Queue.WAITING)


class _NotSent(Exception):
    """The incarnation ended before the event was sent: the event may wait again."""


class Ledger(Protocol):
    """Keeps account of events that were in flight when an incarnation died."""

    def charge(self, journey: Journey) -> None:
        """Note that the event is tried again, for the ``journey.attempt``-th time, and what counts
        against it (``journey.deaths``).
        """
        ...

    async def bury(self, journey: Journey, mod_id: str, reason: str, report: CrashReport | None) -> int | None:
        """Keep an event that was given up as a dead letter.

        Returns its number, or None if it could not be kept.
        """
        ...


class Caller(Admission):
    """Asks one mod about events.

    An event that was in flight when an incarnation died is asked of the next one. An event that was
    to blame for the death of ``max_attempts`` incarnations is buried as a dead letter; see `blame`.
    """

    def __init__(self, config: ModConfig, counters: ModCounters, ledger: Ledger) -> None:
        super().__init__(config)
        self.counters = counters
        self._ledger = ledger

    async def ask(self, journey: Journey, attempt: int = 1) -> Answer:
        """Ask the mod about an event.

        The usual event finds a free slot and is answered. It takes this one coroutine: each further
        one takes a twentieth of an event's time. All others leave it for `_ask_in_turn`.

        Args:
            attempt: more than 1 for an event whose earlier attempts are known from the journal;
                ``journey.deaths`` says what counts against it.

        Raises:
            Unanswered: no usable answer; ``code`` says why.
            FrameTooLarge, Unserializable: the event itself cannot be sent to any mod.
        """
        counters = self.counters
        counters.events_in += 1
        if journey.attempt != attempt:
            journey.attempt = attempt
        in_flight = self._in_flight
        if (
            in_flight is None
            or self._admitted >= self._concurrency
            or self._depth
            or self._granted
            or self._trial
            or self._has_turns
            or (journey.parent is not None and self._has_exempt)
            or journey.deaths is not None
            or in_flight.pressing
            or in_flight.pipe.buffered > HIGH_WATER
        ):
            return await self._ask_in_turn(journey)
        self._admitted += 1
        started = perf_counter()  # not every loop's own clock has microseconds
        try:
            request_id, future = self._begin(in_flight, journey)
            try:
                response = await future
            except (asyncio.CancelledError, TimeoutError):
                in_flight.pipe.give_up(request_id, future)
                raise
            finally:
                in_flight.finished(request_id)
            if type(response) is not UsualAnswer:
                return self._answered(journey, response, started)
            counters.latency.add(perf_counter() - started)
            if (answered := response.result) is None:
                counters.passed += 1
                journey.answer = None
                return None
            counters.answered += 1
            journey.answer = response.frame
            return answered.response
        except Exception as problem:  # noqa: BLE001 - it is raised again, unless the event may wait again
            place = await self._counted(self._after(problem, in_flight, journey, _NEW, started))
        finally:
            self._admitted -= 1
            if self._trial or self._depth:
                self._left(journey)
        return await self._ask_in_turn(journey, place)

    async def _ask_in_turn(self, journey: Journey, place: Place | None = None) -> Answer:
        """Ask about an event that waits for its turn, a slot or room in the pipe, or not for the first time.

        Args:
            place: where it waits, if it was asked about on the straight way.
        """
        has_turns = self._has_turns and place is None
        try:
            if place is None:
                place = await self._first_place(journey)
            if has_turns:
                await self._take_turn(journey, is_new=journey.attempt == 1)
            while True:
                in_flight = self._exempt_in_flight(journey)
                exempt = in_flight is not None
                if in_flight is None:
                    in_flight = await self._slot(journey, place)
                started = perf_counter()
                try:
                    response = await self._respond_to(in_flight, journey, has_turns=has_turns)
                    return self._answered(journey, response, started)
                except Exception as problem:  # noqa: BLE001 - as in `ask`
                    place = await self._after(problem, in_flight, journey, place, started)
                finally:
                    if not exempt:
                        self._leave(journey)
        except Unanswered as failure:
            self._count(failure)
            raise
        finally:
            if has_turns:
                self._turns.leave(journey)

    async def _first_place(self, journey: Journey) -> Place:
        """Return where an event waits at first; bury it if it is to blame for enough deaths."""
        deaths = journey.deaths
        if deaths is None:
            return _NEW
        if deaths.is_enough(self.config.max_attempts):
            journey.attempt -= 1  # the attempt that would come next does not
            raise await self._bury(journey, f"the network was killed while mod {self.mod_id} was handling the event")
        return Place(_queue_of(journey))

    async def _slot(self, journey: Journey, place: Place) -> InFlight:
        """Take a slot; wait for it if none is free."""
        if place.queue is Queue.WAITING and (in_flight := self._free()) is not None:
            self._admitted += 1
        else:
            in_flight = await self._admit(journey, place.queue, first=place.in_turn)
            in_flight.give_back()
        return in_flight

    async def _respond_to(self, in_flight: InFlight, journey: Journey, *, has_turns: bool) -> Response:
        """Send the event, and wait for its response."""
        if in_flight.is_clear:
            request_id, future = self._begin(in_flight, journey)
        else:
            request_id, future = await self._begin_in_turn(in_flight, journey)
        try:
            return await future
        except (asyncio.CancelledError, TimeoutError):
            late = self._turns.leave_later(journey) if has_turns else None
            in_flight.pipe.give_up(request_id, future, late)
            raise
        finally:
            in_flight.finished(request_id)

    def _answered(self, journey: Journey, response: Response, started: float) -> Answer:
        """Count what the worker answered, and return it."""
        answer, counters = self._answer(response), self.counters
        counters.latency.add(perf_counter() - started)
        if type(answer) is EventResponse:
            counters.answered += 1
            journey.answer = response.frame
        else:
            counters.passed += 1
            journey.answer = None
        return answer

    async def _counted(self, place: Awaitable[Place]) -> Place:
        try:
            return await place
        except Unanswered as failure:
            self._count(failure)
            raise

    async def _after(
        self, problem: Exception, in_flight: InFlight, journey: Journey, place: Place, started: float
    ) -> Place:
        """Return where an event waits now that was not answered. Raise the problem if it waits no more."""
        match problem:
            case _NotSent():
                self.lost(in_flight)
                if place.queue is Queue.WAITING:
                    return Place(Queue.AHEAD)
                return Place(place.queue, in_turn=place.queue in (Queue.SUSPECT, Queue.LAST))
            case PipeBroken() | PipeClosed():  # the event was sent, and its incarnation has ended
                return Place(await self._died_with(in_flight, journey))
            case Unanswered(code=Code.MOD_CRASHED | Code.MOD_UNLOADED) if journey.seq is not None:
                journey.attempt += 1  # the worker was ended, and had begun with the event
                self._ledger.charge(journey)
            case TimeoutError():
                text = f"mod {self.mod_id} did not answer within {perf_counter() - started:.3g} s"
                raise self._failure(text, Code.TIMEOUT) from None
            case PipeBusy():
                raise Unanswered(f"mod {self.mod_id} is overloaded: {problem}", code=Code.OVERLOADED) from None
        raise problem

    def _count(self, failure: Unanswered) -> None:
        self.counters.failed += 1
        self.counters.timeouts += failure.code == Code.TIMEOUT
        self.counters.overloaded += failure.code == Code.OVERLOADED
        self.counters.dead_lettered += failure.code == Code.DEAD_LETTERED

    async def _died_with(self, in_flight: InFlight, journey: Journey) -> Queue:
        """Note that an incarnation died while it handled the event. Return where it waits now.

        Raises `Unanswered` if the event may not be tried again.
        """
        journey.own()
        report = await self._report_of(in_flight)
        verdict = in_flight.judge(report)
        may_try = self.config.delivery == AT_LEAST_ONCE
        if may_try and report is not None and verdict.applied_to(journey).is_enough(self.config.max_attempts):
            raise await self._bury(journey, await self._how(in_flight), report) from None
        journey.attempt += 1
        if may_try:
            self._ledger.charge(journey)
        if not may_try or self._away is not None:
            raise await self._cut_short(in_flight, attempts=journey.attempt - 1) from None
        self.counters.redelivered += 1
        return _queue_of(journey)

    async def _cut_short(self, in_flight: InFlight, attempts: int) -> Unanswered:
        """Return the failure of an event that died with its incarnation and is not tried again."""
        if self._away is not None and (code := CUT_SHORT.get(self._away.code)) is not None:
            return Unanswered(f"{self._away} and did not answer the event in time", code=code, attempts=attempts)
        why = await self._how(in_flight) + ("" if self._away is None else f"; {self._away}")
        return Unanswered(why, code=Code.MOD_CRASHED, attempts=attempts)

    async def _how(self, in_flight: InFlight) -> str:
        return f"mod {self.mod_id} ended while handling the event: {await in_flight.why_ended()}"

    async def _bury(self, journey: Journey, why: str, report: CrashReport | None = None) -> Unanswered:
        """Keep an event that is given up as a dead letter; return its failure."""
        letter = await self._ledger.bury(journey, self.config.name, why, report)
        if letter is None:
            return Unanswered(why, code=Code.MOD_CRASHED, attempts=journey.attempt)
        text = f"{why}; after {journey.attempt} attempts it was given up and is dead letter {letter}"
        return Unanswered(text, code=Code.DEAD_LETTERED, attempts=journey.attempt, dead_letter=letter)

    @staticmethod
    async def _report_of(in_flight: InFlight) -> CrashReport | None:
        try:
            async with asyncio.timeout(LAST_REPORT):
                return await asyncio.shield(in_flight.report)
        except TimeoutError:
            return None

    # -- sending

    def _begin(
        self, in_flight: InFlight, journey: Journey, due: float | None = None
    ) -> tuple[int, asyncio.Future[Response]]:
        """Send the event.

        Returns the request's id and the future of its response, which times out at ``due``.
        """
        if due is None:
            due = journey.deadline if journey.allowed is None and self._event_timeout is None else self._due(journey)
        pipe = in_flight.pipe
        if journey.seq is not None and in_flight.traces is not None:
            in_flight.traces.sends(pipe.next_id, journey.seq, journey.attempt)
        try:
            if (packed := journey.pack_the_usual_way()) is not None:
                asked = pipe.begin_event(packed, due)
            elif has_large(journey.event.payload):
                journey.own()
                asked = pipe.begin(EVENT, {"event": journey.to_dict()}, due, has_large=True)
            else:
                asked = pipe.begin_event(journey.pack_the_long_way(), due)
        except (PipeBroken, PipeClosed):
            raise _NotSent from None
        in_flight.handling[asked[0]] = journey
        return asked

    async def _begin_in_turn(self, in_flight: InFlight, journey: Journey) -> tuple[int, asyncio.Future[Response]]:
        """Send the event when the pipe has room, behind the events that wait for room already."""
        journey.own()
        in_flight.reserve()
        in_flight.pressing += 1
        due = self._due(journey)
        try:
            async with asyncio.timeout_at(due), in_flight.turn:
                await in_flight.pipe.writable()
                return self._begin(in_flight, journey, due)
        finally:
            in_flight.pressing -= 1
            in_flight.give_back()

    def _due(self, journey: Journey) -> float:
        due, limit = journey.deadline, self._event_timeout
        if journey.allowed is not None:
            due = min(due, self._loop.time() + journey.allowed)
        return due if limit is None else min(due, self._loop.time() + limit)

    def _answer(self, response: Response) -> Answer:
        """Check and return what the worker answered: it is a stranger's data."""
        result, error = response.result, response.error
        if type(response) is UsualAnswer:  # checked as it was read
            return None if result is None else result.response
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
        """Return the failure of an event that was sent, and count it."""
        self.counters.errors += code not in _NO_ERRORS
        return Unanswered(text, code=code, **details)
