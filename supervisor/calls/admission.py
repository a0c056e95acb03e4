"""Who may be handled by one mod now, and who waits: for a place, or for an incarnation that serves."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from enum import Enum

from ...ipc.errors import Code, ModvisorError
from ..config import ModConfig
from .in_flight import InFlight
from .journey import Journey


class Unanswered(ModvisorError):
    """A mod gave no answer: it failed, timed out, is overloaded or away. The walk goes on without it."""

    code = Code.HANDLER_ERROR


class Queue(Enum):
    """Where an event waits for a place. The first that is not empty goes first."""

    SUSPECT = 0  # was being handled when an incarnation died: one at a time, alone
    AHEAD = 1  # had a place already, but nobody has seen it
    WAITING = 2  # has just come


class Admission:
    """Admits events to a mod: at most ``concurrency`` at once, ``queue`` (and ``queue_bytes``) waiting, in order of arrival.

    While no incarnation serves (restart, reload) events wait until their deadline. Events caused by one that this mod is
    handling are exempt from the limit and the wait, else a mod that waits for its own consequences would wait forever.

    What was being handled when an incarnation died is under suspicion: the next incarnation gets these events first and
    one at a time, so that the one that kills is found, and not blamed on its neighbours.
    """

    def __init__(self, config: ModConfig) -> None:
        self.mod_id = config.mod_id
        self.config = config
        self._loop = asyncio.get_running_loop()
        self._in_flight: InFlight | None = None  # where new events go; None: they wait
        self._draining: InFlight | None = None  # still handling what it had
        self._away: ModvisorError | None = None  # why events are refused at once
        self._admitted = 0
        self._given = 0  # places given to events whose tasks have not run yet: nobody overtakes them
        self._trial: Journey | None = None  # the suspect that is being handled, alone
        self._queues: dict[Queue, OrderedDict[asyncio.Future[InFlight], Journey]] = {
            kind: OrderedDict() for kind in Queue
        }
        self._depth = 0  # of all queues
        self._waiting_bytes = 0

    # -- the keeper's side

    @property
    def in_flight_count(self) -> int:
        """Events being handled."""
        return sum(len(in_flight.handling) for in_flight in (self._in_flight, self._draining) if in_flight is not None)

    @property
    def depth(self) -> int:
        """Events waiting for a place or for an incarnation."""
        return self._depth

    @property
    def away(self) -> ModvisorError | None:
        """Why events are refused at once; None if they are not."""
        return self._away

    def open(self, in_flight: InFlight) -> None:
        """Feed events to ``in_flight`` from now on, the waiting ones first."""
        self._in_flight, self._draining, self._away = in_flight, None, None
        self._pump()

    def hold(self) -> InFlight | None:
        """Let events wait; returns the in_flight that served, which finishes what it has (and gets what that causes)."""
        self._draining, self._in_flight = self._in_flight or self._draining, None
        return self._draining

    def refuse(self, reason: ModvisorError) -> None:
        """Refuse every event at once, the waiting ones included.

        Those that died with an incarnation are said to have `mod_crashed`: the mod may have done half of what they ask for.
        """
        self._in_flight, self._away = None, reason
        for kind, queue in self._queues.items():
            code = Code.MOD_CRASHED if kind is Queue.SUSPECT else reason.code
            for place in list(queue):
                if not place.done():
                    place.set_exception(Unanswered(str(reason), code=code))

    def lost(self, in_flight: InFlight) -> None:
        """The incarnation behind ``in_flight`` ended. Called before those who wait for an answer run; new events wait."""
        if self._trial is not None and self._trial in in_flight.handling.values():
            in_flight.killed_by = self._trial
        if self._in_flight is in_flight:
            self._in_flight = None
        if self._draining is in_flight:
            self._draining = None

    def is_exempt(self, journey: Journey) -> bool:
        """Whether the event was caused by one that this mod is handling."""
        return self._exempt_in_flight(journey) is not None

    def takes(self, journey: Journey) -> bool:
        """Whether one more event would be handled at once, or may wait."""
        return self._is_free() or self._has_room(journey)

    def _has_room(self, journey: Journey) -> bool:
        waiting, limits = len(self._queues[Queue.WAITING]), self.config.limits
        return waiting < limits.queue and (not waiting or self._waiting_bytes + journey.size <= limits.queue_bytes)

    # -- for those who ask

    def _exempt_in_flight(self, journey: Journey) -> InFlight | None:
        if journey.parent is None:
            return None
        for in_flight in (self._draining, self._in_flight):
            if in_flight is None or in_flight.pipe.closed is not None or not in_flight.handling:
                continue
            if journey.descends_from(set(in_flight.handling.values())):
                return in_flight
        return None

    async def _admit(self, journey: Journey, kind: Queue, *, first: bool = False) -> InFlight:
        """Wait for a place, in order of arrival; ``first``: before those who wait in the same queue."""
        if self._away is not None:
            raise Unanswered(str(self._away), code=self._away.code)
        # What was accepted for good waits in any case.
        if kind is Queue.WAITING and journey.seq is None and not self._has_room(journey):
            raise self.overloaded()
        journey.own()
        queue = self._queues[kind]
        place: asyncio.Future[InFlight] = self._loop.create_future()
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
            in_flight = await place
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
        return in_flight

    def _leave(self, journey: Journey) -> None:
        """The event's place is free again."""
        self._admitted -= 1
        if self._trial is journey:
            self._trial = None
        if self._depth:
            self._pump()

    def _forget(self, kind: Queue, place: asyncio.Future[InFlight]) -> None:
        journey = self._queues[kind].pop(place, None)
        if journey is not None:
            self._depth -= 1
            self._waiting_bytes -= journey.size

    def _is_free(self) -> bool:
        """Whether an event that has just come may be handled at once."""
        return (
            self._in_flight is not None
            and self._admitted < self.config.limits.concurrency
            and not self._given
            and self._trial is None
            and not self._depth
        )

    def overloaded(self) -> Unanswered:
        """The failure of an event that finds no room."""
        waiting = len(self._queues[Queue.WAITING])
        text = f"mod {self.mod_id} is overloaded: {waiting} events of {self._waiting_bytes} bytes are waiting"
        return Unanswered(text, code=Code.OVERLOADED, waiting=waiting)

    def _pump(self) -> None:
        """Give free places to those who wait."""
        while self._in_flight is not None and (kind := self._next()) is not None:
            place, journey = next(iter(self._queues[kind].items()))
            self._forget(kind, place)
            if place.done():
                continue
            if kind is Queue.SUSPECT:
                self._trial = journey
            self._admitted += 1
            self._given += 1
            self._in_flight.reserve()  # so that it is not drained before
            place.set_result(self._in_flight)

    def _next(self) -> Queue | None:
        """Whose turn it is; None if nobody waits, or there is no place."""
        if self._trial is not None or self._admitted >= self.config.limits.concurrency:
            return None
        kind = next((kind for kind, queue in self._queues.items() if queue), None)
        return None if kind is Queue.SUSPECT and self._admitted else kind


def _expire(place: asyncio.Future[InFlight], mod_id: str) -> None:
    if not place.done():
        place.set_exception(
            Unanswered(f"mod {mod_id} had no place for the event before its deadline", code=Code.TIMEOUT)
        )
