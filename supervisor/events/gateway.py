"""The way of an event through the network, from its sender to the response.

1. A door (`from_inside`, `from_outside`, `from_mod`) makes sure of the sender.
2. `_process` stamps the event. A ``system.*`` event is a command, and its answer is the response.
3. A retry gets the first answer: it is neither asked about nor delivered again.
4. Observers get their copies.
5. If the event is for ``mod:ID``, that mod alone is asked (`_addressed`). If not, the mods that
   match it are asked in load order, until one of them answers (`_walk`).
6. If no mod has answered, the event goes to the inboxes of its destination (`_deliver`).
7. `_finished` counts the response and shows it to the taps.

Events that outlive their sender's patience (`replay`, `late`) enter this way behind the mod that
had them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ...ipc.address import AGENT, CHANNEL, GROUP, MOD, SYSTEM
from ...ipc.errors import Code, FrameTooLarge, ModvisorError, Unserializable
from ...ipc.event import Event, EventResponse
from ...ipc.topic import matches
from ..agents import AgentRegistry, Refusal, RefusalLog
from ..calls import MAX_HOPS, Answer, Journey, NetworkCounters, Origin, Unanswered
from ..config import ModConfig, family_of
from ..fleet import Entry, Mod, ModRegistry, NotInAudience
from . import replies
from .answers import Answers, Key, Memory
from .senders import INSIDE, Sender, authenticated
from .walk import Walk
from .ways import Ways

logger = logging.getLogger("modvisor.gateway")

MAX_TIMEOUT = 600.0
"""Seconds that an event of an agent or a mod may ask for: an event that waits forever is a leak."""

LATE_ANSWER = "system.notification.late_answer"
"""The event that brings an agent a durable mod's answer when the agent's request has timed out.

Payload: ``event_id``, ``event_name``, ``success``, ``message``, ``data``."""

_PROBLEMS = (Unanswered, FrameTooLarge, Unserializable)  # of one mod with one event

CommandHandler = Callable[[Event, Sender], Awaitable[EventResponse]]


class Gateway:
    """Takes events from agents, from mods and from inside, and sees each of them to its response.

    Args:
        commands: answers the ``system.*`` events.
        event_timeout: seconds that an event has unless it says otherwise.
        refusals: the log of what is refused.
        repeated: the ``system.*`` events that change something: a retry gets the first answer.

    Attributes:
        taps: called with each finished event and its response, e.g. by ``modvisor events``. Must
            not block.
        answers: to events of late, for retries.
        ways: records which mods are asked; None: nobody watches.
    """

    def __init__(
        self,
        mods: ModRegistry,
        agents: AgentRegistry,
        commands: CommandHandler,
        counters: NetworkCounters,
        event_timeout: float,
        refusals: RefusalLog | None = None,
        repeated: frozenset[str] = frozenset(),
    ) -> None:
        self._mods = mods
        self._agents = agents
        self._commands = commands
        self._counters = counters
        self._event_timeout = event_timeout
        self.answers = self._answers = Answers()
        self._loop = asyncio.get_running_loop()
        self._refusals = refusals or RefusalLog()
        self._repeated_commands = repeated
        self.taps: list[Callable[[tuple[Event, EventResponse]], None]] = []
        self.ways: Ways | None = None

    # -- the doors

    def from_inside(self, event: Event) -> Coroutine[Any, Any, EventResponse]:
        """Take a trusted event from the program that runs the network, or from its operator."""
        timeout = self._event_timeout if event.timeout is None else event.timeout
        return self._process(Journey(event.__copy__(), self._loop.time() + timeout, is_shared=True), INSIDE)

    async def from_outside(self, event: Event, address: str | None = None, *, keep: bool = True) -> EventResponse:
        """Take an event from an agent, which must prove who it is.

        Args:
            address: the name under which the sender's address is counted; None: it is not counted.
            keep: leave the caller's event as it is.
        """
        try:
            sender = authenticated(event, self._agents, address)
        except ModvisorError as refusal:
            return self._refused(event, refusal.code, str(refusal), address, **refusal.details)
        if keep:
            event = event.copy()
        # A stranger cannot say what only the network knows of an event.
        event.via = event.cause = event.source_agent_group = None
        event.hops, event.attempt = 0, 1
        return await self._process(Journey(event, self._deadline(event, MAX_TIMEOUT)), sender)

    async def from_mod(self, event: Event, mod: ModConfig, cause: Origin | None) -> EventResponse:
        """Take an event from a worker. `mod_requests` has checked and stamped it."""
        deadline, parent = self._deadline(event, MAX_TIMEOUT), None
        event.hops, event.cause = 0, None
        if cause is not None:
            if cause.hops >= MAX_HOPS:
                text = f"more than {MAX_HOPS} events caused one another; the chain was cut"
                return self._refused(event, Code.LOOP, text)
            event.hops, event.cause, parent = cause.hops + 1, cause.event_id, cause.journey
        return await self._process(Journey(event, deadline, parent), Sender(mod=mod))

    def _deadline(self, event: Event, most: float = math.inf) -> float:
        return self._loop.time() + (self._event_timeout if event.timeout is None else min(event.timeout, most))

    def _refused(
        self, event: Event, code: str, message: str, address: str | None = None, **details: Any
    ) -> EventResponse:
        self._counters.refused += 1
        self._refusals.note_event(event, message, code, address)
        return EventResponse(False, message, {"error": str(code), **details}, event.event_name)

    # -- the way

    async def _process(self, journey: Journey, sender: Sender) -> EventResponse:
        """See an event from its door to its response.

        The usual event is for one mod, which is asked here: from here to that mod there is
        `Caller.ask`, then the pipe. Each coroutine in between would cost a twentieth of the event.
        """
        event, counters, answers = journey.event, self._counters, self._answers
        counters.processed += 1
        event.timestamp = time.time()
        if event.secret is not None:  # the door has checked it, and no receiver may see it
            event.secret = None
        name, owner = event.event_name, event.source_id
        if (agent := self._agents.by_source.get(owner)) is not None:
            owner = agent.owner
            event.source_agent_group = event.source_agent_group or agent.group
        key = (owner, event.event_id)
        if name.startswith("system."):
            return await self._commanded(key, journey, sender)
        journey.owner = owner
        if not answers.begins(key) and (repeated := await self._repeated(key, journey)) is not None:
            return repeated
        try:
            mod = self._mods.router.usual.get((event.destination_id, name))
            if mod is None:
                mod = self._addressed(journey)
            if mod is None:
                response, memory = await self._walk(Walk(journey))
            elif isinstance(mod, EventResponse):
                response, memory = mod, False
            else:  # the usual event
                try:
                    response, memory = await mod.ask(journey), journey.answer or True
                    if type(response) is EventResponse:
                        counters.answered += 1
                    else:
                        response = replies.taken(mod.mod_id)
                except _PROBLEMS as problem:
                    response, memory = replies.problem_of(mod.mod_id, problem), False
        except BaseException:
            answers.finish(key, None)
            raise
        answers.finish(key, response, remember=memory)
        if self.taps:
            journey.own()
            if self.ways is not None and mod is not None and not isinstance(mod, EventResponse):
                self.ways.addressed(mod, event, response, is_problem=memory is False)
        elif response.success:
            response.event_name = name
            return response
        return self._finished(event, response)

    async def _commanded(self, key: Key, journey: Journey, sender: Sender) -> EventResponse:
        """Have the network answer a ``system.*`` event; a retry of a change gets the first answer."""
        journey.own()
        event = journey.event
        if event.event_name not in self._repeated_commands:
            return self._finished(event, await self._commands(event, sender))
        if not self._answers.begins(key) and (repeated := await self._repeated(key, journey)) is not None:
            return repeated
        try:
            response = await self._commands(event, sender)
        except BaseException:
            self._answers.finish(key, None)
            raise
        self._answers.finish(key, response, remember=response.success)
        return self._finished(event, response)

    def _finished(self, event: Event, response: EventResponse) -> EventResponse:
        response.event_name = event.event_name
        if not response.success:
            self._counters.failed += 1
        for tap in self.taps:
            tap((event, response))
        return response

    async def _repeated(self, key: Key, journey: Journey) -> EventResponse | None:
        """Return the answer to the first event with this key.

        None if the first sender gave up: this event is the first now.
        """
        while True:
            journey.own()
            repeated = await self._answers.repeated(key, journey.deadline)
            if repeated is not None:
                self._counters.repeated += 1
                repeated.event_name = journey.event.event_name
                return repeated
            if self._answers.begins(key):
                return None

    def _copy_to_observers(self, journey: Journey) -> None:
        event = journey.event
        observers = self._mods.router.route(event.event_name).observers
        if not observers:
            return
        journey.own()
        data = event.to_dict()
        for entry in observers:
            if event.source_id in entry.addresses:
                continue
            if entry.split is None or journey.version_of(entry.split) == entry.mod_id:
                entry.target.observe(data)

    # -- one mod

    def _addressed(self, journey: Journey) -> Mod | EventResponse | None:
        """Return the one mod that an event is for, or a failure that says why there is none.

        None: the event is for all mods that match. Observers get their copies here.
        """
        destination = journey.event.destination
        mod = None
        if destination is not None and destination.role == MOD:
            mod = self._mod_named(journey, destination.id)
        if self._mods.router.has_observers and not isinstance(mod, EventResponse):
            self._copy_to_observers(journey)
        return mod

    def _mod_named(self, journey: Journey, name: str) -> Mod | EventResponse:
        """Return the mod that ``mod:NAME`` means for this event, or a failure that says why not."""
        event_name, router = journey.event.event_name, self._mods.router
        mod = router.known.get((journey.event.destination_id, event_name))
        if mod is not None:
            return mod
        try:
            mod = self._mods.families.addressed(name, self._mods.find(name), journey)
        except NotInAudience as refusal:
            return replies.failure(refusal.code, str(refusal), **refusal.details)
        if mod is None:
            return replies.no_such_mod(name, [mod.mod_id for mod in self._mods])
        manifest = mod.manifest
        if manifest is None:  # it has never been ready, and may have a handler
            return mod
        if not any(matches(pattern, event_name) for pattern in manifest.patterns):
            self._copy_to_observers(journey)
            return replies.no_handler(mod.mod_id, event_name, manifest.patterns)
        is_its_name = mod.mod_id == name or mod.config.path == name
        if is_its_name and self._mods.families.split_of(mod.mod_id) is None:
            router.know(journey.event.destination_id, event_name, mod)
        return mod

    def _heard(self, journey: Journey, mod_id: str, answer: Answer) -> tuple[EventResponse, Memory]:
        """Return the response to an event that ends at this mod, and what to remember of it."""
        if type(answer) is EventResponse:
            self._counters.answered += 1
            return answer, journey.answer or True
        return replies.taken(mod_id), True

    # -- all mods that match

    async def _walk(self, walk: Walk, after: str | None = None) -> tuple[EventResponse, Memory]:
        """Ask the matching mods in load order, until one of them answers. If none does, deliver.

        A mod that returns an event changes the event for the mods behind it, and for delivery.

        Args:
            after: start behind the mod with this id.
        """
        journey = walk.journey
        event = journey.event
        route = self._mods.router.route(event.event_name).asked
        entries = iter(route if after is None else self._after(after, event.event_name))
        while (entry := next(entries, None)) is not None:
            if event.source_id in entry.addresses:
                continue
            if entry.split is not None and journey.version_of(entry.split) != entry.mod_id:
                continue
            walk.asked += 1
            try:
                answer = await (entry.target.ask(journey) if self.ways is None else self.ways.asked(entry, journey))
            except Unanswered as problem:
                if problem.code == Code.PENDING:  # accepted: the event goes on from there later
                    return replies.problem_of(entry.mod_id, problem), False
                walk.problems.append((entry.mod_id, problem))
                if self._loop.time() >= journey.deadline:
                    break
                continue
            except (FrameTooLarge, Unserializable) as error:
                return replies.unsendable(error), False
            if isinstance(answer, EventResponse):
                self._counters.answered += 1
                return answer, journey.answer or True
            if answer is not None:
                event = replies.merged(event, answer)
                walk.journey = journey = journey.with_event(event)
                entries = iter(self._after(entry.mod_id, event.event_name))
        return self._deliver(walk)

    def _after(self, mod_id: str, event_name: str) -> tuple[Entry[Mod], ...]:
        """Return the mods behind a mod in load order that match the event, which may be renamed."""
        order = {mod.mod_id: index for index, mod in enumerate(self._mods)}
        here = order.get(mod_id, -1)
        route = self._mods.router.route(event_name)
        return tuple(later for later in route.asked if order.get(later.mod_id, -1) > here)

    # -- no mod has answered

    def _deliver(self, walk: Walk) -> tuple[EventResponse, Memory]:
        """Deliver the event to the inboxes of its destination.

        The failure of a mod is told all the same.
        """
        walk.journey.own()
        event = walk.journey.event
        first = walk.journey.first.event
        # An agent that floods inboxes through a mod takes its own share, not the mod's.
        share = str(first.source) if first.source_agent is not None else None
        reached, refusal = self._to_inboxes(event, share)
        if walk.problems:
            mod_id, problem = walk.problems[0]
            # A retry must not deliver the event again.
            return replies.problem_of(mod_id, problem, delivered=reached or 0), bool(reached)
        if refusal is not None:
            return replies.failure(refusal.code, str(refusal), delivered=0), False
        if reached is not None:
            return replies.delivered(reached), True
        if walk.asked:
            return replies.passed_on(), True
        return replies.unknown_event(event.event_name, event.destination), False

    def _to_inboxes(self, event: Event, share: str | None) -> tuple[int | None, Refusal | None]:
        """Return how many inboxes got the event, or why none could. None twice: it is for none."""
        destination = event.destination
        if destination is None or destination.role not in (AGENT, CHANNEL, GROUP):
            return None, None
        try:
            delivered = self._agents.deliver(event, destination, share)
        except Refusal as refusal:
            self._counters.inbox_dropped += refusal.code == Code.INBOX_FULL
            return None, refusal
        self._counters.delivered += delivered.reached > 0
        self._counters.deliveries += delivered.reached
        self._counters.inbox_dropped += delivered.full
        return delivered.reached, None

    # -- events whose senders no longer wait

    async def replay(self, event: Event, mod: Mod) -> EventResponse:
        """Give a dead letter's event to its mod again, and then to where it goes from there.

        The remembered answers do not count: the event is asked about again.
        """
        journey = Journey(event, self._deadline(event))
        try:
            answer = await mod.ask_again(journey)
        except _PROBLEMS as problem:
            return self._finished(event, replies.problem_of(mod.mod_id, problem))
        response, _ = await self._go_on(journey, mod.mod_id, answer)
        return self._finished(event, response)

    async def late(self, journey: Journey, mod_id: str, outcome: Answer | Unanswered) -> None:
        """Deliver a durable mod's answer to the sender's inbox when the sender stopped waiting."""
        event = journey.event
        agent = self._agents.get(event.source_agent) if event.source_agent is not None else None
        if agent is not None and journey.owner in (None, event.source_id):  # kept by a version that knew no owners
            journey.owner = agent.owner
        memory: Memory = False
        if isinstance(outcome, Unanswered):
            response = replies.problem_of(mod_id, outcome)
        else:
            rest = Journey(event, self._deadline(event), journey.parent)
            rest.versions, rest.owner = journey.versions, journey.owner
            response, memory = await self._go_on(rest, mod_id, outcome)
        self._answers.finish(journey.key, response, remember=memory)
        self._tell_late(journey, self._finished(event, response))

    async def _go_on(self, journey: Journey, mod_id: str, answer: Answer) -> tuple[EventResponse, Memory]:
        """Take an event the rest of its way, behind the mod that gave this answer."""
        destination = journey.event.destination
        if isinstance(answer, EventResponse) or (destination is not None and destination.role == MOD):
            return self._heard(journey, mod_id, answer)
        if answer is not None:
            journey = journey.with_event(replies.merged(journey.event, answer))
        journey.settle(family_of(mod_id), mod_id)
        return await self._walk(Walk(journey, asked=1), after=mod_id)

    def _tell_late(self, journey: Journey, response: EventResponse) -> None:
        event = journey.event
        if event.source_agent is None:
            return  # a mod has no inbox
        agent = self._agents.get(event.source_agent)
        if agent is not None and agent.owner != journey.owner:
            return  # another owner has the id now, and the answer is none of its business
        payload = {"event_id": event.event_id, **response.to_dict()}
        answer = Event(LATE_ANSWER, f"{SYSTEM}:{SYSTEM}", event.source_id, payload, response_to=event.event_id)
        if not self._agents.tell(event.source_agent, answer):
            logger.warning("agent %s did not get the late answer to event %s: it is gone, or its inbox is full",
                           event.source_agent, event.event_id)  # fmt: skip

    # -- notifications

    def notify_mods(self, event: Event) -> None:
        """Tell every matching mod, whatever its audience. No answer is waited for."""
        event.timestamp = time.time()
        data = event.to_dict()
        route = self._mods.router.route(event.event_name)
        for entry in route.asked:
            entry.target.notify(data)
        for entry in route.observers:
            entry.target.observe(data)
