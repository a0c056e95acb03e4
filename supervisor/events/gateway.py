"""The whole path of an event: who sends it, who is asked, who gets it, what the sender hears."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from ...ipc.address import AGENT, CHANNEL, GROUP, MOD, SYSTEM, Address
from ...ipc.errors import Code, FrameTooLarge, ModvisorError, Unserializable
from ...ipc.event import Event, EventResponse
from ...ipc.topic import matches
from ..agents import Agent, AgentRegistry, Delivered, Refusal
from ..calls import MAX_HOPS, Journey, NetworkCounters, Origin, Unanswered
from ..config import ModConfig, family_of
from ..fleet import Entry, Mod, ModRegistry, NotInAudience
from .answers import Answers, Memory

logger = logging.getLogger("modvisor.gateway")

MAX_TIMEOUT = 600.0
"""Seconds an event from an agent or a mod may ask for: an event that waits forever is a leak."""

LATE_ANSWER = "system.notification.late_answer"
"""What an agent finds in its inbox when a durable mod answers an event whose sender no longer waits. Payload: ``event_id``,
``event_name``, ``success``, ``message``, ``data``."""

# What anybody may ask without being registered.
_OPEN_COMMANDS = frozenset({"system.register_agent", "system.health_check"})


@dataclass(frozen=True, slots=True)
class Sender:
    """Who stands behind an event, as far as the network has made sure of it.

    Attributes:
        trusted: from inside, or the operator: may do anything.
        agent: the authenticated agent, if it is one; ``mod``: the mod whose worker sent it.
    """

    trusted: bool = False
    agent: Agent | None = None
    mod: ModConfig | None = None


_INSIDE = Sender(trusted=True)


class CommandHandler(Protocol):
    async def __call__(self, event: Event, sender: Sender) -> EventResponse: ...


class Gateway:
    """Takes events from agents, from mods and from inside, and sees each one to its answer.

    Args:
        event_timeout: seconds an event has unless it says otherwise.
        commands: handler of the ``system.*`` events.
    """

    def __init__(
        self,
        mods: ModRegistry,
        agents: AgentRegistry,
        commands: CommandHandler,
        counters: NetworkCounters,
        event_timeout: float,
    ) -> None:
        self._mods = mods
        self._agents = agents
        self._commands = commands
        self._counters = counters
        self._event_timeout = event_timeout
        self._answers = Answers()
        self._loop = asyncio.get_running_loop()
        self.taps: list[Callable[[tuple[Event, EventResponse]], None]] = []
        """Called with each finished event and its response, e.g. by ``modvisor events``; must not block."""

    # -- three doors

    def from_inside(self, event: Event) -> Coroutine[Any, Any, EventResponse]:
        """A trusted event: of the program that runs the network, or of its operator."""
        return self._process(Journey(event.twin(), self._deadline(event), is_shared=True), _INSIDE)

    async def from_outside(self, event: Event) -> EventResponse:
        """An event of somebody who must prove who it is."""
        source = event.source
        if event.event_name in _OPEN_COMMANDS:
            if source is not None and source.role != AGENT:
                return self._refused(event, Code.FORBIDDEN, f"{source} cannot be spoken for from outside")
            sender = Sender(agent=self._agents.authenticate(source.id, event.secret) if source else None)
        elif source is None or source.role != AGENT:
            who = "nobody" if source is None else str(source)
            return self._refused(event, Code.FORBIDDEN, f"events from outside come from agents, this one from {who}")
        else:
            agent = self._agents.authenticate(source.id, event.secret)
            if agent is None:
                return self._refused(
                    event, Code.UNAUTHENTICATED,
                    f"agent {source.id!r} is not registered or its secret is wrong; register and send the secret you get",
                )  # fmt: skip
            sender = Sender(agent=agent)
        event = event.copy()
        # What only the network may say of an event is wiped from what a stranger sends.
        event.via = event.cause = event.source_agent_group = None
        event.hops, event.attempt = 0, 1
        return await self._process(Journey(event, self._deadline(event, MAX_TIMEOUT)), sender)

    async def from_mod(self, event: Event, mod: ModConfig, cause: Origin | None) -> EventResponse:
        """An event a worker emitted, already stamped and checked (see `mod_requests`)."""
        deadline = self._deadline(event, MAX_TIMEOUT)
        if cause is not None and cause.hops >= MAX_HOPS:
            return self._refused(event, Code.LOOP, f"more than {MAX_HOPS} events caused one another; the chain was cut")
        event.hops = cause.hops + 1 if cause is not None else 0
        event.cause = cause.event_id if cause is not None else None
        journey = Journey(event, deadline, cause.journey if cause is not None else None)
        return await self._process(journey, Sender(mod=mod))

    def notify_mods(self, event: Event) -> None:
        """Tell every matching mod, whatever its audience; nobody waits for it, nobody's answer counts."""
        event.timestamp = time.time()
        data = event.to_dict()
        route = self._mods.router.route(event.event_name)
        for entry in route.asked:
            entry.target.notify(data)
        for entry in route.observers:
            entry.target.observe(data)

    # -- events that outlive their senders' patience

    async def replay(self, event: Event, keeper: Mod) -> EventResponse:
        """Give a kept event to its mod again, then to whom it goes from there. The window of retries does not count."""
        journey = Journey(event, self._deadline(event))
        try:
            answer = await keeper.ask_again(journey)
        except (Unanswered, FrameTooLarge, Unserializable) as problem:
            return self._finished(event, _problem_response(keeper.mod_id, problem))
        response, _ = await self._go_on(journey, keeper.mod_id, answer)
        return self._finished(event, response)

    async def late(self, journey: Journey, mod_id: str, outcome: EventResponse | Event | Unanswered | None) -> None:
        """A durable mod has come to an end with an event whose sender no longer waits: the answer goes to its inbox."""
        event = journey.event
        memory: Memory = False
        if isinstance(outcome, Unanswered):
            response = _problem_response(mod_id, outcome)
        else:
            rest = Journey(event, self._deadline(event), journey.parent)
            rest.versions = journey.versions
            response, memory = await self._go_on(rest, mod_id, outcome)
        self._answers.finish((event.source_id, event.event_id), response, remember=memory)
        self._tell_late(event, self._finished(event, response))

    async def _go_on(
        self, journey: Journey, mod_id: str, answer: EventResponse | Event | None
    ) -> tuple[EventResponse, Memory]:
        """The rest of the way of an event that mod ``mod_id`` has answered so."""
        destination = journey.event.destination
        if isinstance(answer, EventResponse) or (destination is not None and destination.role == MOD):
            return self._heard(journey, mod_id, answer)
        if answer is not None:
            journey = journey.with_event(_merged(journey.event, answer))
        journey.settle(family_of(mod_id), mod_id)
        return await self._walk(_Walk(journey, asked=1), after=mod_id)

    def _tell_late(self, event: Event, response: EventResponse) -> None:
        if event.source_agent is None:
            return  # a mod that asked and gave up has no inbox
        payload = {"event_id": event.event_id, **response.to_dict()}
        answer = Event(LATE_ANSWER, f"{SYSTEM}:{SYSTEM}", event.source_id, payload, response_to=event.event_id)
        if not self._agents.tell(event.source_agent, answer):
            logger.warning("the late answer to event %s could not be given to agent %s: it is gone, or its inbox is full",
                           event.event_id, event.source_agent)  # fmt: skip

    # -- the path

    async def _process(self, journey: Journey, sender: Sender) -> EventResponse:
        """From the door to the answer. To one mod the rest of the way is `Caller.ask`, then the pipe: no coroutine between."""
        event = journey.event
        self._counters.processed += 1
        event.timestamp = time.time()
        event.secret = None  # proven by now; nobody behind this line shall see it
        if event.source_agent_group is None and (source := event.source) is not None and source.role == AGENT:
            agent = self._agents.get(source.id)
            event.source_agent_group = agent.group if agent is not None else None
        if event.event_name.startswith("system."):
            journey.own()
            return self._finished(event, await self._commands(event, sender))
        key = (event.source_id, event.event_id)
        while not self._answers.begins(key):
            journey.own()
            repeated = await self._answers.repeated(key, journey.deadline)
            if repeated is not None:
                self._counters.repeated += 1
                repeated.event_name = event.event_name
                return repeated
        try:
            destination = event.destination
            mod: Mod | EventResponse | None = None
            if destination is not None and destination.role == MOD:
                mod = self._addressed(journey, destination.id)
            if self._mods.router.has_observers and not isinstance(mod, EventResponse):
                self._copy_to_observers(journey)
            if mod is None:
                response, memory = await self._walk(_Walk(journey))
            elif isinstance(mod, EventResponse):
                response, memory = mod, False
            else:
                try:
                    response, memory = self._heard(journey, mod.mod_id, await mod.ask(journey))
                except (Unanswered, FrameTooLarge, Unserializable) as problem:
                    response, memory = _problem_response(mod.mod_id, problem), False
        except BaseException:
            self._answers.finish(key, None)
            raise
        self._answers.finish(key, response, remember=memory)
        if self.taps:
            journey.own()
        return self._finished(event, response)

    def _heard(
        self, journey: Journey, mod_id: str, answer: EventResponse | Event | None
    ) -> tuple[EventResponse, Memory]:
        """What a mod has said to an event that ends with it, and what is to be remembered of that."""
        if isinstance(answer, EventResponse):
            self._counters.answered += 1
            return answer, journey.answer or True
        return _took(mod_id), True

    def _concluded(self, walk: _Walk) -> tuple[EventResponse, Memory]:
        """What the walk has come to: an answer, or a delivery."""
        if walk.response is not None:
            self._counters.answered += 1
            return walk.response, walk.journey.answer or True
        if walk.pending is not None:
            return _problem_response(*walk.pending), False
        return self._deliver(walk)

    async def _walk(self, walk: _Walk, after: str | None = None) -> tuple[EventResponse, Memory]:
        """Ask the matching mods in load order; the first response ends it, a changed event replaces the former. Then deliver.

        Args:
            after: id of the mod from behind which to go on.
        """
        journey = walk.journey
        event = journey.event
        entries, position = self._mods.router.route(event.event_name).asked, 0
        if after is not None:
            entries = self._after(after, event.event_name)
        while position < len(entries):
            entry = entries[position]
            position += 1
            if event.source_id == entry.address:
                continue
            if entry.split is not None and walk.journey.version_of(entry.split) != entry.mod_id:
                continue
            walk.asked += 1
            try:
                answer = await entry.target.ask(walk.journey)
            except Unanswered as problem:
                if problem.code == Code.PENDING:  # the mod has it, and the event goes on from there
                    walk.pending = entry.mod_id, problem
                    break
                walk.problems.append((entry.mod_id, problem))
                if self._loop.time() >= journey.deadline:
                    break
                continue
            except (FrameTooLarge, Unserializable) as error:
                return _failure(error.code, f"the event cannot be sent to a mod: {error}"), False
            if isinstance(answer, EventResponse):
                walk.response = answer
                break
            if answer is not None:
                event = _merged(event, answer)
                walk.journey = journey.with_event(event)
                entries, position = self._after(entry.mod_id, event.event_name), 0
        return self._concluded(walk)

    def _after(self, mod_id: str, event_name: str) -> tuple[Entry[Mod], ...]:
        """The route of a (possibly renamed) event from behind a mod on."""
        order = {keeper.mod_id: index for index, keeper in enumerate(self._mods)}
        here = order.get(mod_id, -1)
        route = self._mods.router.route(event_name)
        return tuple(later for later in route.asked if order.get(later.mod_id, -1) > here)

    def _addressed(self, journey: Journey, mod: str) -> Mod | EventResponse:
        """``mod:ID``: that mod alone, or why it cannot be asked."""
        event = journey.event
        keeper = self._mods.router.known(mod, event.event_name)
        if keeper is not None:
            return keeper
        try:
            keeper = self._mods.families.addressed(mod, self._mods.find(mod), journey)
        except NotInAudience as refusal:
            return _failure(refusal.code, str(refusal), **refusal.details)
        if keeper is None:
            loaded = ", ".join(keeper.mod_id for keeper in self._mods) or "none"
            return _failure(Code.NO_SUCH_MOD, f"no mod {mod!r} is loaded (loaded: {loaded})", mod=mod)
        unhandled = self._unhandled(keeper, event.event_name)
        if unhandled is not None:
            self._copy_to_observers(journey)
            return unhandled
        if keeper.manifest is not None and keeper.mod_id == mod and self._mods.families.split_of(mod) is None:
            self._mods.router.know(mod, event.event_name, keeper)
        return keeper

    @staticmethod
    def _unhandled(keeper: Mod, event_name: str) -> EventResponse | None:
        """The failure of an event that a mod is known to have no handler for."""
        manifest = keeper.manifest
        if manifest is None or any(matches(text, event_name) for text in manifest.patterns):
            return None
        handled = ", ".join(manifest.patterns[:20]) or "nothing"
        text = f"mod {keeper.mod_id} has no handler for {event_name!r}; it handles {handled}"
        return _failure(Code.UNKNOWN_EVENT, text, mod=keeper.mod_id)

    def _deliver(self, walk: _Walk) -> tuple[EventResponse, Memory]:
        """Nobody answered: to the inboxes it is addressed to. A mod's failure is told, whatever was delivered."""
        walk.journey.own()
        event = walk.journey.event
        destination = event.destination
        delivery: Delivered | None = None
        failure: EventResponse | None = None
        if destination is not None and destination.role in (AGENT, CHANNEL, GROUP):
            try:
                delivery = self._agents.deliver(event, destination)
            except Refusal as refusal:
                self._counters.inbox_dropped += refusal.code == Code.INBOX_FULL
                failure = _failure(refusal.code, str(refusal), delivered=0)
        if delivery is not None:
            self._counters.delivered += delivery.reached > 0
            self._counters.deliveries += delivery.reached
            self._counters.inbox_dropped += delivery.full
        reached = delivery.reached if delivery is not None else 0
        if walk.problems:
            mod_id, problem = walk.problems[0]
            response = _problem_response(mod_id, problem, delivered=reached)
            # Delivered once is delivered: a retry must not deliver it again.
            return response, reached > 0
        if failure is not None:
            return failure, False
        if delivery is not None:
            return EventResponse(True, f"delivered to {_agents(reached)}", {"delivered": reached}), True
        if walk.asked:
            return EventResponse(True, "no mod answered, and it is addressed to nobody", {"delivered": 0}), True
        text = f"no mod handles {event.event_name!r} and it is addressed to {_nobody(destination)}"
        return _failure(Code.UNKNOWN_EVENT, text), False

    def _copy_to_observers(self, journey: Journey) -> None:
        event = journey.event
        observers = self._mods.router.route(event.event_name).observers
        if observers:
            journey.own()
            data = event.to_dict()
            for entry in observers:
                if event.source_id == entry.address:
                    continue
                if entry.split is None or journey.version_of(entry.split) == entry.mod_id:
                    entry.target.observe(data)

    # -- helpers

    def _deadline(self, event: Event, most: float = math.inf) -> float:
        return self._loop.time() + (self._event_timeout if event.timeout is None else min(event.timeout, most))

    def _refused(self, event: Event, code: str, message: str) -> EventResponse:
        self._counters.refused += 1
        logger.warning("refused %s from %s: %s", event.event_name, event.source_id, message)
        return EventResponse(False, message, {"error": str(code)}, event.event_name)

    def _finished(self, event: Event, response: EventResponse) -> EventResponse:
        response.event_name = event.event_name
        if not response.success:
            self._counters.failed += 1
        if self.taps:
            for tap in self.taps:
                tap((event, response))
        return response


class _Walk:
    """What came of asking the mods: a response, or the event as it left them and what went wrong on the way."""

    __slots__ = ("asked", "journey", "pending", "problems", "response")

    def __init__(self, journey: Journey, asked: int = 0) -> None:
        self.journey = journey
        self.asked = asked
        self.response: EventResponse | None = None
        self.pending: tuple[str, Unanswered] | None = None  # a durable mod has accepted it and will answer later
        self.problems: list[tuple[str, Unanswered]] = []


def _merged(event: Event, changed: Event) -> Event:
    """The event a mod passed on in place of ``event``: its content may change, not who sent it or what it is part of."""
    merged = changed.copy()
    merged.event_id, merged.source_id, merged.timestamp = event.event_id, event.source_id, event.timestamp
    merged.source_agent_group, merged.via, merged.secret = event.source_agent_group, event.via, None
    merged.cause, merged.hops, merged.attempt = event.cause, event.hops, event.attempt
    if merged.event_name.startswith("system."):  # a mod cannot turn an event into a command
        merged.event_name = event.event_name
    return merged


def _problem_response(mod_id: str, problem: ModvisorError, **more: Any) -> EventResponse:
    return _failure(problem.code, str(problem), **{**problem.details, "mod": mod_id, **more})


def _took(mod_id: str) -> EventResponse:
    return EventResponse(True, f"mod {mod_id} took the event and answered nothing", {"delivered": 0, "mod": mod_id})


def _failure(code: str, message: str, **details: Any) -> EventResponse:
    return EventResponse(False, message, {**details, "error": str(code)})


def _agents(count: int) -> str:
    return "1 agent" if count == 1 else f"{count} agents"


def _nobody(destination: Address | None) -> str:
    return "nobody" if destination is None or destination.role == SYSTEM else str(destination)
