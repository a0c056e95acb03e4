"""Which events a mod may handle now, and which wait for a slot or an incarnation."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from enum import Enum

from ...ipc.errors import Code, ModvisorError
from ...ipc.partition import SOURCE
from ..config import ModConfig
from ..shares import has_share
from .beside import Beside
from .fair_queue import FairQueue, Tally
from .in_flight import InFlight
from .journey import Journey
from .key_turns import KeyTurns, has_turns

PATIENCE = 5.0
"""Seconds that a suspect of `Queue.LAST` waits for a moment when no other event is in flight, or
half of the time until its deadline if that is less. After that, new events wait for it."""


class Unanswered(ModvisorError):
    """A mod gave no answer: it failed, timed out, is overloaded or away.

    The walk goes on with the next mod.
    """

    code = Code.HANDLER_ERROR


class Unbegun(Unanswered):
    """A mod is away and has not begun with the event, or may begin with it again.

    So another node may be asked that has the mod by now.

    Attributes:
        by: the `Caller` that refused the event.
        is_moving: another node has the mod by now, or will, though it still runs here.
    """

    by: object = None
    is_moving = False

    @classmethod
    def of(cls, reason: ModvisorError, by: object, *, is_moving: bool = False) -> Unbegun:
        """Return the failure of an event that a mod refuses for this reason."""
        error = cls(str(reason), code=reason.code)
        error.by, error.is_moving = by, is_moving
        return error


CUT_SHORT: dict[str, Code] = {Code.NO_SUCH_MOD: Code.MOD_UNLOADED, Code.NOT_RUNNING: Code.NOT_RUNNING}
"""By the reason why a mod goes away by a command: how an event fails that it was handling."""


class Queue(Enum):
    """Where an event waits for a slot. Slots go to the first queue that is not empty."""

    SUSPECT = 0  # events that may have killed an incarnation: a group of them at a time, and nothing else
    AHEAD = 1  # events that had a slot: not sent before their incarnation ended, or innocent of its end
    WAITING = 2  # new events
    LAST = 3  # suspects that are tried when nothing else is to do


class Admission:
    """Admits events to a mod: those of one source in order of arrival, the sources in turn.

    At most ``concurrency`` events are handled at once; at most ``queue`` events of ``queue_bytes``
    wait. If no more may wait, an event of the source that has most of them yields (`Tally`). While
    no incarnation serves (restart, reload), events wait until their deadline. An event that was
    caused by an event in flight at this mod is exempt from the limit and the wait: a mod that waits
    for the consequences of its own events would wait forever.

    Events that may have killed an incarnation are suspects (`blame`). They are tried in groups:
    while one group is in flight, nothing else is, so that a death is blamed on the group. An event
    that is known to have killed one is tried alone and last: when no other event is in flight or
    waits, or after `PATIENCE`. If the mod permits it, they are tried in a process of their own, and
    nothing waits for them (`beside`).

    Of a mod with ``partition_by``, an event waits for the turn of its key before all this.
    """

    def __init__(self, config: ModConfig) -> None:
        self.mod_id = config.mod_id
        self.adopt(config)
        self._loop = asyncio.get_running_loop()
        self._in_flight: InFlight | None = None  # takes new events; None: they wait
        self._draining: InFlight | None = None  # finishes what it has, and takes no new events
        self._away: ModvisorError | None = None  # why events are refused at once, if they are
        self._is_moving = False  # see `Unbegun`
        self._admitted = 0  # slots in use
        self._granted = 0  # slots granted to waiters that have not resumed yet
        # The suspects in flight, of one group: nothing else is admitted meanwhile.
        self._trial: set[Journey] = set()
        self._trial_queue = Queue.SUSPECT
        self._patience: asyncio.TimerHandle | None = None  # until a suspect of `LAST` is overdue
        self._is_overdue = False
        self._queues: dict[Queue, OrderedDict[asyncio.Future[InFlight], Journey] | FairQueue] = {
            kind: FairQueue() if kind is Queue.WAITING else OrderedDict() for kind in Queue
        }
        self.beside = Beside((kind, line) for kind in _SUSPECTS if isinstance(line := self._queues[kind], OrderedDict))
        self._tally = Tally()  # of new events that wait for their turn or for a slot
        self._depth = 0  # of all queues
        self._waiting_bytes = 0
        self._turns = KeyTurns(self._tally)

    # -- the keeper's side

    def adopt(self, config: ModConfig) -> None:
        """Admit events by these settings from now on."""
        self.config = config
        self._has_turns = has_turns(config)
        self._concurrency, self._event_timeout = config.limits.concurrency, config.limits.event_timeout

    @property
    def in_flight_count(self) -> int:
        """How many events are being handled."""
        three = self._in_flight, self._draining, self.beside.in_flight
        return sum(len(in_flight.handling) for in_flight in three if in_flight is not None)

    @property
    def depth(self) -> int:
        """How many events wait for their turn, for a slot or for an incarnation."""
        return self._depth + len(self._turns)

    @property
    def away(self) -> ModvisorError | None:
        """Why events are refused at once, or None."""
        return self._away

    def open(self, in_flight: InFlight) -> None:
        """Send events to this incarnation from now on, first those that wait."""
        self._in_flight, self._draining, self._away = in_flight, None, None
        self._pump()

    def hold(self) -> InFlight | None:
        """Let events wait.

        Returns the incarnation that served: it finishes what it has, and gets what that causes.
        """
        self._draining, self._in_flight = self._in_flight or self._draining, None
        return self._draining

    def refuse(self, reason: ModvisorError, *, is_moving: bool = False) -> None:
        """Refuse every event at once, also those that wait.

        Suspects fail with a code of their own: the mod may have done half of what they ask for.

        Args:
            is_moving: see `Unbegun`.
        """
        self._in_flight, self._away, self._is_moving = None, reason, is_moving
        self._turns.refuse(self.unbegun())
        for kind, queue in self._queues.items():
            begun = CUT_SHORT.get(reason.code, Code.MOD_CRASHED) if kind in _SUSPECTS else None
            for slot in list(queue):
                if not slot.done():
                    error = self.unbegun() if begun is None else Unanswered(str(reason), code=begun)
                    slot.set_exception(error)

    def unbegun(self) -> Unbegun:
        """Return the failure of an event that is refused because the mod is away."""
        assert self._away is not None
        return Unbegun.of(self._away, self, is_moving=self._is_moving)

    def lost(self, in_flight: InFlight) -> None:
        """Note that this incarnation ended: new events wait.

        Call it before the tasks that wait for answers run.
        """
        in_flight.lost(self.beside.trial if self.beside.lost(in_flight) else self._trial)
        if self._in_flight is in_flight:
            self._in_flight = None
        if self._draining is in_flight:
            self._draining = None

    def is_exempt(self, journey: Journey) -> bool:
        """Whether the event was caused by an event in flight at this mod."""
        return self._exempt_in_flight(journey) is not None

    def takes(self, journey: Journey) -> bool:
        """Whether this event would be handled at once, or may wait."""
        if self._free() is not None or self._fits(journey):
            return True
        (count, held), limits = self._tally.of(journey), self.config.limits
        return has_share(count, self._waiting_now(), 1, limits.queue) and has_share(
            held, self._bytes_now(), journey.size, limits.queue_bytes
        )

    def _fits(self, journey: Journey, more: int = 1) -> bool:
        """Return whether this event may wait; ``more`` is 0 if it is counted already."""
        waiting, limits = self._waiting_now() + more, self.config.limits
        if waiting > limits.queue:
            return False
        return waiting <= 1 or self._bytes_now() + more * journey.size <= limits.queue_bytes

    def _make_room(self, journey: Journey, more: int = 1) -> bool:
        """Refuse waiting events of sources that have most of them, until this one may wait.

        Returns False if its own source has as many.
        """
        while not self._fits(journey, more):
            found = self._tally.yielding_to(journey, more, self.config.limits)
            if found is None:
                return False
            loser, waits_for = found
            if not waits_for.done():
                waits_for.set_exception(self.overloaded())
            self._forget(Queue.WAITING, waits_for)
            self._turns.drop(loser)
        return True

    def _waiting_now(self) -> int:
        return len(self._queues[Queue.WAITING]) + len(self._turns)

    def _bytes_now(self) -> int:
        return self._waiting_bytes + self._turns.waiting_bytes

    # -- the caller's side

    @property
    def _has_exempt(self) -> bool:
        """Whether an event may belong to another incarnation than the serving one, see `_exempt_in_flight`."""
        return self._draining is not None or self.beside.in_flight is not None

    def _exempt_in_flight(self, journey: Journey) -> InFlight | None:
        if journey.parent is None:
            return None
        for in_flight in (self.beside.in_flight, self._draining, self._in_flight):
            if in_flight is None or in_flight.pipe.closed is not None or not in_flight.handling:
                continue
            if journey.descends_from(set(in_flight.handling.values())):
                return in_flight
        return None

    async def _take_turn(self, journey: Journey, *, is_new: bool) -> None:
        """Wait until no other event with this key is handled. Call `KeyTurns.leave` in any case."""
        turn = self._turns.enter(journey, self.config.partition_by or SOURCE)
        if turn is None:
            return
        if self._away is not None:
            raise self.unbegun()
        if is_new and journey.seq is None and not self._make_room(journey, 0):
            raise self.overloaded(but=1)
        journey.own()
        try:
            async with asyncio.timeout_at(journey.deadline if journey.deadline < math.inf else None):
                await turn
        except TimeoutError:
            text = f"mod {self.mod_id}: timed out waiting for an earlier event with the same key"
            raise Unanswered(text, code=Code.TIMEOUT) from None

    async def _admit(self, journey: Journey, kind: Queue, *, first: bool = False) -> InFlight:
        """Wait for a slot, behind the events of the same queue.

        Args:
            first: the suspect had a slot already and was not sent: it goes before the others.
        """
        if self._away is not None:
            raise self.unbegun()
        # A durable event was accepted already and waits in any case.
        if kind is Queue.WAITING and journey.seq is None and not self._make_room(journey):
            raise self.overloaded()
        journey.own()
        queue = self._queues[kind]
        slot: asyncio.Future[InFlight] = self._loop.create_future()
        queue[slot] = journey
        self._depth += 1
        if journey.deaths is not None:
            journey.deaths.is_back = first
            if first and isinstance(queue, OrderedDict):
                _put_back(queue)
        self._waiting_bytes += journey.size
        if kind in _SUSPECTS:
            self.beside.want()
        if kind is Queue.LAST:
            self._watch_last()
        if kind is Queue.WAITING:
            self._tally.add(journey, slot)
        timer = None
        if journey.deadline < math.inf:
            timer = self._loop.call_at(journey.deadline, _expire, slot, self.mod_id)
        self._pump()
        try:
            if slot.done():
                # Earlier waiters have their slots, and have not resumed yet: resume behind them.
                await asyncio.sleep(0)
            in_flight = await slot
        except BaseException:
            if slot.done() and not slot.cancelled() and slot.exception() is None:
                slot.result().give_back()  # the slot was granted already: hand it on
                self._granted -= 1
                self._leave(journey)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._forget(kind, slot)
        self._granted -= 1
        return in_flight

    def _leave(self, journey: Journey) -> None:
        """Free the event's slot."""
        if journey.deaths is None or not self.beside.leave(journey):
            self._admitted -= 1
        self._left(journey)

    def _left(self, journey: Journey) -> None:
        """Let those go on that wait for the slot that an event has left."""
        if self._trial:
            self._trial.discard(journey)
        if self._depth:
            self._pump()

    def _forget(self, kind: Queue, slot: asyncio.Future[InFlight]) -> None:
        journey = self._queues[kind].pop(slot, None)
        if journey is not None:
            self._depth -= 1
            self._waiting_bytes -= journey.size
            if kind in _SUSPECTS:
                self.beside.changed.set()
            if kind is Queue.LAST and not self._queues[kind]:
                self._watch_last()
            if kind is Queue.WAITING:
                self._tally.remove(journey)

    def _free(self) -> InFlight | None:
        """Return the incarnation that may handle a new event at once, if there is one."""
        if self._admitted >= self._concurrency or self._granted or self._depth or self._trial:
            return None
        return self._in_flight

    def overloaded(self, but: int = 0) -> Unanswered:
        """Return the failure of an event that finds no room among those that wait, ``but`` itself."""
        waiting = self._waiting_now() - but
        text = f"mod {self.mod_id} is overloaded: {waiting} events of {self._bytes_now()} bytes are waiting"
        return Unanswered(text, code=Code.OVERLOADED, waiting=waiting)

    def _pump(self) -> None:
        """Grant the free slots to events that wait."""
        if self.beside.is_on:
            self._pump_beside()
        while self._in_flight is not None and (kind := self._next()) is not None:
            slot, journey = next(iter(self._queues[kind].items()))
            self._forget(kind, slot)
            if slot.done():
                continue
            if kind in _SUSPECTS:
                self._trial.add(journey)
                self._trial_queue = kind
                self._watch_last()
            self._admitted += 1
            self._grant(slot, self._in_flight)

    def _pump_beside(self) -> None:
        """Give the trial process the suspects whose turn it is, unless others are tried elsewhere."""
        while not self._trial and (kind := self.beside.next_line(self._concurrency)) is not None:
            slot, journey = next(iter(self._queues[kind].items()))
            self._forget(kind, slot)
            if not slot.done():
                self._grant(slot, self.beside.take(journey))

    def _grant(self, slot: asyncio.Future[InFlight], in_flight: InFlight) -> None:
        self._granted += 1
        in_flight.reserve()  # a drain waits for the event
        slot.set_result(in_flight)

    def try_beside(self, in_flight: InFlight | None) -> None:
        """Try suspects in this process from now on; None: where `beside` says."""
        if in_flight is not None:
            self.beside.open(in_flight)
        self._pump()

    def _next(self) -> Queue | None:
        """Return the queue whose turn it is. None: nothing waits, or no slot is free."""
        if self._admitted >= self._concurrency:
            return None
        if self._trial:
            return self._trial_queue if self._is_of_trial(self._trial_queue) else None
        kind = next((kind for kind in self._order() if self._queues[kind]), None)
        return None if kind in _SUSPECTS and self._admitted else kind

    def _order(self) -> tuple[Queue, ...]:
        if self.beside.is_on:
            return _INNOCENT
        return _WITH_OVERDUE if self._is_overdue else tuple(Queue)

    def _is_of_trial(self, kind: Queue) -> bool:
        """Whether the first suspect of this queue is tried together with those in flight."""
        first = next((journey for _, journey in self._queues[kind].items()), None)
        return first is not None and first.deaths is not None and first.deaths.group is self._group()

    def _group(self) -> object:
        deaths = next(iter(self._trial)).deaths
        return None if deaths is None else deaths.group

    def _watch_last(self) -> None:
        """Begin to wait for the moment in which the next suspect is overdue."""
        self._is_overdue = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._queues[Queue.LAST]:
            due = min(journey.deadline for _, journey in self._queues[Queue.LAST].items())
            wait = min(PATIENCE, max(0.0, due - self._loop.time()) / 2)
            self._patience = self._loop.call_later(wait, self._lose_patience)

    def _lose_patience(self) -> None:
        """Let new events wait for the suspects that were to be tried last."""
        self._patience, self._is_overdue = None, bool(self._queues[Queue.LAST])
        self._pump()


_SUSPECTS = (Queue.SUSPECT, Queue.LAST)
_INNOCENT = (Queue.AHEAD, Queue.WAITING)
_WITH_OVERDUE = (Queue.SUSPECT, Queue.AHEAD, Queue.LAST, Queue.WAITING)


def _put_back(queue: OrderedDict[asyncio.Future[InFlight], Journey]) -> None:
    """Put the suspects first that had a slot already, in their order."""
    for slot, journey in list(queue.items()):
        if journey.deaths is None or not journey.deaths.is_back:
            queue.move_to_end(slot)


def _expire(slot: asyncio.Future[InFlight], mod_id: str) -> None:
    if not slot.done():
        slot.set_exception(Unanswered(f"mod {mod_id}: timed out waiting for a free slot", code=Code.TIMEOUT))
