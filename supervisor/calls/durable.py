"""The events that a durable mod has accepted: on disk before the mod sees them, and until they are answered.

From its acceptance on an event belongs to the network: it goes on when its sender gives up, when the mod is away, and after
the supervisor's own restart. Whoever still waits gets the answer; else it goes to the sender's inbox.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from anyio.abc import TaskGroup

from ...ipc.errors import Code, FrameTooLarge, ModvisorError, Unserializable
from ...ipc.event import Event, EventResponse
from ..journal import DurableEvent, Journal
from .admission import Unanswered
from .caller import Caller
from .journey import Journey

logger = logging.getLogger("modvisor.durable")

BACKLOG_PAGE = 500  # events read from the journal at once
BACKLOG_AT_ONCE = 100
"""Kept events handed to the caller together: more than most mods handle at once, and little memory."""

Answer = EventResponse | Event | None
Late = Callable[[Journey, str, Answer | Unanswered], Awaitable[None]]


class _Case:
    """An accepted event under way, and how many wait for its answer."""

    __slots__ = ("attempt", "journey", "outcome", "waiting")

    def __init__(self, journey: Journey, attempt: int = 1) -> None:
        self.journey = journey
        self.attempt = attempt
        self.outcome: asyncio.Future[Answer | Unanswered] = asyncio.get_running_loop().create_future()
        self.waiting = 0


class DurableEvents:
    """Accepts events for one mod and sees each through to its answer.

    Args:
        tasks: of the network: an accepted event outlives the request that brought it.
        event_timeout: seconds a handler has, unless the mod's limits say less.
        late: called with an answer nobody waits for any more.
    """

    def __init__(self, caller: Caller, journal: Journal, tasks: TaskGroup, event_timeout: float, late: Late) -> None:
        self._port = caller
        self._journal = journal
        self._tasks = tasks
        self._event_timeout = event_timeout
        self._late = late
        self._under_way: dict[tuple[str | None, str], _Case] = {}
        self._resuming = asyncio.Lock()
        self._spell = 0  # counts the times the mod went away
        self._caught_up = False  # what was accepted before is on its way: newer events may follow
        self._behind: list[_Case] = []  # newer events, until then

    def __len__(self) -> int:
        return len(self._under_way)

    async def ask(self, journey: Journey) -> Answer:
        """Have the mod accept an event, and wait for its answer until the deadline. Raises `Unanswered`.

        ``pending``: accepted, and not answered yet. ``storage_full``, ``overloaded`` and those of a mod that is away: not
        accepted.
        """
        journey.own()
        case = self._under_way.get(_key(journey.event))
        if case is None:
            case = await self._accept(journey)
        return await self._answer_of(case, journey.deadline)

    async def resume(self) -> None:
        """The mod serves (again): what it had accepted before goes first, in order; then what it has accepted meanwhile."""
        async with self._resuming:
            if self._caught_up or self._port.away is not None:
                return
            spell = self._spell
            try:
                await self._catch_up(spell)
            except ModvisorError as error:
                logger.error("mod %s: the events it accepted before cannot be read: %s", self._port.mod_id, error)
            if self._spell == spell:
                self._caught_up = True
                for case in self._take_behind():
                    self._tasks.start_soon(self._see_through, case)

    def pause(self) -> None:
        """The mod is away (`Caller.away`): when it comes back, `resume` is to run before newer events."""
        self._spell += 1
        self._caught_up = False
        for case in self._take_behind():  # the journal has them
            self._end(case, self._not_yet(str(self._port.away)))

    def _take_behind(self) -> list[_Case]:
        behind, self._behind = self._behind, []
        return behind

    async def _catch_up(self, spell: int) -> None:
        """Hand on what the journal has, until the mod goes away."""
        room = asyncio.Semaphore(BACKLOG_AT_ONCE)
        after = 0
        while page := await self._journal.pending(self._port.mod_id, after, BACKLOG_PAGE):
            for kept in page:
                after = kept.seq
                if (key := _key(kept.event)) in self._under_way:
                    continue
                await room.acquire()
                if self._spell != spell:
                    return
                case = self._under_way[key] = self._case_of(kept)
                self._tasks.start_soon(self._see_through, case, room)

    # -- one event

    async def _accept(self, journey: Journey) -> _Case:
        caller = self._port
        if caller.away is not None:
            raise Unanswered(str(caller.away), code=caller.away.code)
        limits = caller.config.limits
        if not caller.takes(journey) or len(self._under_way) >= limits.queue + limits.concurrency:
            raise caller.overloaded()
        key, kept = _key(journey.event), self._without_deadline(journey.event, journey.parent)
        kept.versions = journey.versions
        case = self._under_way[key] = _Case(kept)
        try:
            kept.seq = await self._journal.accept(caller.mod_id, journey.event)
        except ModvisorError as error:
            failure = Unanswered(f"mod {caller.mod_id} cannot accept the event: {error}", code=error.code)
            self._end(case, failure)
            raise failure from None
        except BaseException:  # its sender gave up before it was accepted; a retry that joined it may send it again
            self._end(case, Unanswered("the first sender of this event gave up", code=Code.TIMEOUT))
            raise
        self._go_on(case)
        return case

    def _go_on(self, case: _Case) -> None:
        """With an event that was accepted just now."""
        if self._port.away is not None:  # since a moment ago
            self._end(case, self._not_yet(str(self._port.away)))
        elif self._caught_up or self._port.is_exempt(case.journey):
            self._tasks.start_soon(self._see_through, case)
        else:
            self._behind.append(case)

    async def _answer_of(self, case: _Case, deadline: float) -> Answer:
        case.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await asyncio.shield(case.outcome)
        except TimeoutError:
            if not case.outcome.done():
                text = f"mod {self._port.mod_id} has accepted the event; its answer will come to the sender's inbox"
                raise Unanswered(text, code=Code.PENDING) from None
            outcome = case.outcome.result()
        finally:
            case.waiting -= 1
        if isinstance(outcome, Unanswered):
            raise Unanswered(str(outcome), code=outcome.code, **outcome.details)
        return outcome

    async def _see_through(self, case: _Case, room: asyncio.Semaphore | None = None) -> None:
        """Until it is answered, or the mod is away for good: then it stays in the journal."""
        journey = case.journey
        try:
            outcome = await self._outcome(journey, case.attempt)
        except BaseException:  # the network ends: the journal keeps it
            self._end(case, self._not_yet("the network is shutting down"))
            raise
        finally:
            if room is not None:
                room.release()
        if isinstance(outcome, Unanswered) and self._is_not_yet(outcome):
            self._end(case, self._not_yet(str(outcome)))
            return
        buried = isinstance(outcome, Unanswered) and outcome.code == Code.DEAD_LETTERED
        if journey.seq is not None and not buried:  # burying took it out of the journal already
            self._journal.answered(journey.seq)
        if not self._end(case, outcome):
            await self._late(journey, self._port.config.name, outcome)

    async def _outcome(self, journey: Journey, attempt: int) -> Answer | Unanswered:
        try:
            return await self._port.ask(journey, attempt)
        except Unanswered as problem:
            return problem
        except (FrameTooLarge, Unserializable) as error:
            return Unanswered(f"the event cannot be sent to a mod: {error}", code=error.code)

    def _end(self, case: _Case, outcome: Answer | Unanswered) -> bool:
        """Tell those who wait; False if there are none."""
        if self._under_way.get(key := _key(case.journey.event)) is case:
            del self._under_way[key]
        case.outcome.set_result(outcome)
        return case.waiting > 0

    def _is_not_yet(self, failure: Unanswered) -> bool:
        """A mod that is away keeps what it has accepted; every other failure is an answer."""
        return self._port.away is not None and failure.code in (self._port.away.code, Code.MOD_CRASHED)

    def _not_yet(self, why: str) -> Unanswered:
        text = f"mod {self._port.mod_id} has accepted the event and will handle it when it is back ({why})"
        return Unanswered(text, code=Code.PENDING)

    def _case_of(self, kept: DurableEvent) -> _Case:
        journey = self._without_deadline(kept.event)
        journey.seq = kept.seq
        return _Case(journey, kept.attempt)

    def _without_deadline(self, event: Event, parent: Journey | None = None) -> Journey:
        """The sender's patience is its own: the handler has as long as the network (or the mod) says."""
        return Journey(event, math.inf, parent, allowed=self._event_timeout)


def _key(event: Event) -> tuple[str | None, str]:
    return event.source_id, event.event_id
