"""The events that a durable mod has accepted: on disk before the mod sees them, until it answers.

An accepted event belongs to the network. It is handled even if its sender gives up, after the mod
was away, and after the supervisor's own restart. The answer goes to the senders that still wait; if
none does, it goes to the first sender's inbox.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from copy import copy

from anyio.abc import TaskGroup

from ...ipc.errors import Code, FrameTooLarge, ModvisorError, Unserializable
from ...ipc.event import Event, EventResponse
from ...ipc.messages import pack, unpack
from ..config import AT_LEAST_ONCE
from ..journal import IN_TURN, AnsweredBefore, DurableEvent
from ..shares import has_share, source_of
from .admission import Unanswered, Unbegun
from .caller import Answer, Caller
from .crew import Crew
from .deaths import Deaths
from .durable_log import DurableLog
from .journey import Journey

logger = logging.getLogger("modvisor.durable")

BACKLOG_PAGE = 500  # events that are read from the journal in one step
BACKLOG_AT_ONCE = 100
"""Events from the journal that are handed to the caller together: more than most mods handle at
once, and little memory."""

Late = Callable[[Journey, str, Answer | Unanswered], Awaitable[None]]


class _Case:
    """An accepted event under way.

    Attributes:
        attempt: with which attempt to begin.
        outcome: the answer or the failure, once there is one.
        waiters: of the senders that wait for it.
    """

    __slots__ = ("attempt", "journey", "outcome", "waiters")

    def __init__(self, journey: Journey, attempt: int = 1) -> None:
        self.journey = journey
        self.attempt = attempt
        self.outcome: asyncio.Future[Answer | Unanswered] = asyncio.get_running_loop().create_future()
        self.waiters: list[asyncio.Future[None]] = []


class DurableEvents:
    """Accepts events for one mod and sees each of them to its answer.

    Args:
        tasks: the network's task group: an accepted event outlives the request that brought it.
        event_timeout: seconds that a handler has, unless the mod's limits say less.
        late: called with an answer that no sender waits for any more.
    """

    def __init__(self, caller: Caller, journal: DurableLog, tasks: TaskGroup, event_timeout: float, late: Late) -> None:
        self._caller = caller
        self._journal = journal
        self._crew = Crew(tasks)
        self._event_timeout = event_timeout
        self._late = late
        self._under_way: dict[tuple[str | None, str], _Case] = {}
        self._held_by: Counter[str] = Counter()  # how many of them each source has
        self._resuming = asyncio.Lock()
        self._spell = 0  # how many times the mod went away
        self._caught_up = False  # the events of the journal are under way: newer events may follow
        self._held: list[_Case] = []  # newer events, held back until then

    def __len__(self) -> int:
        return len(self._under_way)

    async def ask(self, journey: Journey) -> Answer:
        """Accept an event for the mod, and wait for the answer until the deadline.

        Raises:
            Unanswered: ``pending``, if the event was accepted and is not answered yet.
                ``storage_full``, ``overloaded`` and the codes of a mod that is away, if it was not
                accepted.
        """
        journey.own()
        case = self._under_way.get(journey.key)
        if case is None:  # as a version kept it that did not tell owners of an id apart
            case = self._under_way.get((journey.event.source_id, journey.event.event_id))
        if case is None:
            case = await self._accept(journey)
        return await self._answer_of(case, journey.deadline)

    async def resume(self) -> None:
        """Hand on the events of the journal in order, then those accepted meanwhile.

        Call it when the mod serves (again).
        """
        async with self._resuming:
            if self._caught_up or self._caller.away is not None:
                return
            spell = self._spell
            try:
                await self._catch_up(spell)
            except ModvisorError as error:
                logger.error(
                    "mod %s: its accepted events cannot be read from the journal: %s", self._caller.mod_id, error
                )
            if self._spell == spell:
                self._caught_up = True
                for case in self._take_held():
                    self._crew.start(self._see_through, case)

    async def resume_again(self) -> None:
        """Hand on what has come into the journal by another way than `ask`."""
        self._caught_up = False
        await self.resume()

    def pause(self) -> None:
        """Hold back newer events, since the mod is away (`Caller.away`), until `resume` has run."""
        self._spell += 1
        self._caught_up = False
        for case in self._take_held():  # the journal keeps them
            self._end(case, self._not_yet(str(self._caller.away)))
        self._crew.dismiss()

    def _take_held(self) -> list[_Case]:
        held, self._held = self._held, []
        return held

    async def _catch_up(self, spell: int) -> None:
        """Hand on the events of the journal, until the mod goes away."""
        room = asyncio.Semaphore(BACKLOG_AT_ONCE)
        after, last = 0, object()  # the group of the events that are tried last
        while page := await self._journal.pending(self._caller.mod_id, after, BACKLOG_PAGE):
            for kept in page:
                after = kept.seq
                case = self._case_of(kept, last)
                if case.journey.key in self._under_way:
                    continue
                if kept.record.turn != IN_TURN:  # it waits longest, and must not hold up the others
                    self._begin(case)
                    self._crew.start(self._see_through, case)
                    continue
                await room.acquire()
                if self._spell != spell:
                    return
                self._begin(case)
                self._crew.start(self._see_through, case, room)

    # -- one event

    async def _accept(self, journey: Journey) -> _Case:
        caller = self._caller
        if caller.away is not None:
            raise caller.unbegun()
        limits, mine = caller.config.limits, self._held_by[source_of(journey.event)]
        has_room = has_share(mine, len(self._under_way), 1, limits.queue + limits.concurrency)
        if not caller.takes(journey) or not has_room:
            raise caller.overloaded()
        kept = self._without_deadline(journey.event, journey.parent)
        kept.versions, kept.owner, kept.trace = journey.versions, journey.owner, journey.trace
        case = self._begin(_Case(kept))
        try:
            kept.seq = await self._journal.accept(caller.mod_id, journey.event, journey.owner)
        except AnsweredBefore as before:
            self._end(case, _unpacked(before.answer))
            return case
        except ModvisorError as error:
            text = f"mod {caller.mod_id} cannot accept the event: {error}"
            failure: Unanswered = Unanswered(text, code=error.code)
            if error.code == Code.MOD_AWAY:  # another node has shut this one out, and keeps its events now
                failure = Unbegun.of(failure, caller, is_moving=True)
            self._end(case, failure)
            raise failure from None
        except BaseException:
            # The sender gave up before the event was accepted; a duplicate may send it again.
            self._end(case, Unanswered("the first sender of this event gave up", code=Code.TIMEOUT))
            raise
        self._go_on(case)
        return case

    def _begin(self, case: _Case) -> _Case:
        self._under_way[case.journey.key] = case
        self._held_by[source_of(case.journey.event)] += 1
        return case

    def _go_on(self, case: _Case) -> None:
        """Hand on an event that was accepted just now, or hold it back."""
        if self._caller.away is not None:  # it went away while the journal wrote
            self._end(case, self._not_yet(str(self._caller.away)))
        elif self._caught_up or self._caller.is_exempt(case.journey):
            self._crew.start(self._see_through, case)
        else:
            self._held.append(case)

    async def _answer_of(self, case: _Case, deadline: float) -> Answer:
        if not case.outcome.done():
            await _ended(case, deadline)
        if not case.outcome.done():
            text = f"mod {self._caller.mod_id} has accepted the event; its answer will come to the sender's inbox"
            raise Unanswered(text, code=Code.PENDING)
        outcome = case.outcome.result()
        if isinstance(outcome, Unanswered):
            raise copy(outcome)  # each sender has an exception of its own
        return outcome

    async def _see_through(self, case: _Case, room: asyncio.Semaphore | None = None) -> None:
        """See the event to its answer. If the mod is away, the event stays in the journal."""
        journey = case.journey
        try:
            outcome = await self._outcome(journey, case.attempt)
        except BaseException:  # the network shuts down, and the journal keeps the event
            self._end(case, self._not_yet("the network is shutting down"))
            raise
        finally:
            if room is not None:
                room.release()
        if isinstance(outcome, Unanswered) and self._is_not_yet(case, outcome):
            self._end(case, self._not_yet(str(outcome)))
            return
        buried = isinstance(outcome, Unanswered) and outcome.code == Code.DEAD_LETTERED
        if journey.seq is not None and not buried:  # burying an event removes it from the journal
            self._journal.answered(journey.seq, _packed(outcome))
        if not self._end(case, outcome):
            await self._late(journey, self._caller.config.name, outcome)

    async def _outcome(self, journey: Journey, attempt: int) -> Answer | Unanswered:
        try:
            return await self._caller.ask(journey, attempt)
        except Unanswered as problem:
            return problem
        except (FrameTooLarge, Unserializable) as error:
            return Unanswered(f"the event cannot be sent to a mod: {error}", code=error.code)

    def _end(self, case: _Case, outcome: Answer | Unanswered) -> bool:
        """Tell the senders that wait. Returns False if none does."""
        if self._under_way.get(key := case.journey.key) is case:
            del self._under_way[key]
            source = source_of(case.journey.event)
            self._held_by[source] -= 1
            if not self._held_by[source]:
                del self._held_by[source]
        case.outcome.set_result(outcome)
        for waiter in case.waiters:
            _wake(waiter)
        return bool(case.waiters)

    def _is_not_yet(self, case: _Case, failure: Unanswered) -> bool:
        """Whether the event stays accepted after this failure, since the mod is away.

        Other failures are answers. So is any failure of an event that was begun and may not be
        repeated.
        """
        if self._caller.config.delivery != AT_LEAST_ONCE and case.journey.attempt > case.attempt:
            return False
        return self._caller.away is not None and failure.code in (
            self._caller.away.code,
            Code.MOD_CRASHED,
            Code.MOD_UNLOADED,
        )

    def _not_yet(self, why: str) -> Unanswered:
        text = f"mod {self._caller.mod_id} has accepted the event and will handle it when it is back ({why})"
        return Unanswered(text, code=Code.PENDING)

    def _case_of(self, kept: DurableEvent, last: object) -> _Case:
        journey = self._without_deadline(kept.event)
        journey.seq, journey.owner = kept.seq, kept.owner
        if kept.attempt > 1:
            journey.deaths = Deaths.of(kept.record, last)
        return _Case(journey, kept.attempt)

    def _without_deadline(self, event: Event, parent: Journey | None = None) -> Journey:
        """Return a journey whose handler may take as long as the network or the mod allows.

        How long the sender waits does not matter.
        """
        return Journey(event, math.inf, parent, allowed=self._event_timeout)


async def _ended(case: _Case, deadline: float) -> None:
    """Wait until the event has ended, or until its sender waits no more.

    `asyncio.timeout_at` and `asyncio.shield` would do the same for twice the time.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    case.waiters.append(waiter)
    timer = loop.call_at(deadline, _wake, waiter)
    try:
        await waiter
    finally:
        timer.cancel()
        case.waiters.remove(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _packed(outcome: Answer | Unanswered) -> bytes | None:
    """Return an answer as the journal remembers it. None: it is a failure, which is not remembered."""
    if isinstance(outcome, Unanswered):
        return None
    kind = "" if outcome is None else "response" if isinstance(outcome, EventResponse) else "event"
    try:
        return pack([kind, None if outcome is None else outcome.to_dict()])
    except Unserializable:
        return None


def _unpacked(answer: bytes) -> Answer:
    kind, data = unpack(answer)
    if kind == "response":
        return EventResponse.from_dict(data)
    return Event.from_dict(data) if kind == "event" else None
