"""The inboxes of agents: what gets in, how much an inbox holds, and how events come out of it.

Who subscribes to what is here, too. A full inbox makes room or refuses, as the rights of its agent say
(`rights`: how many events, how many bytes); all inboxes of guests have one bound together.

`Inboxes` knows the agents that are registered, whoever they are. How an agent registers, proves
itself and gets permissions is the other half: `registry.AgentRegistry`, built on this one.

Delivery is the hot path. An event is copied and measured once for all its receivers, and each
poll copies it again, so that no agent shares an event with another one.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Any

from ...ipc.address import AGENT, BROADCAST, CHANNEL, GROUP, Address, parse_address
from ...ipc.errors import Code, Unserializable
from ...ipc.event import Event
from ...ipc.messages import pack
from ...ipc.topic import check_pattern
from ..config import AgentsConfig, GroupConfig
from ..shares import has_share, source_of
from .agent import Agent, Arrival
from .channels import Channels, Commit, no_such_agent, no_such_channel
from .inboxes.inbox import Losses
from .inboxes.subscriptions import Subscription, SubscriptionIndex
from .rights.refusal import Refusal
from .streams import Stream

_SPARE = 10
"""When guests' mail is too much, 1 / 2**_SPARE of the bound is freed at once."""

MAX_POLL_WAIT = 60.0
"""Seconds that one poll may wait for an event. No key of the network file: it stands in the API's
description, so that a client can rely on it."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """How many inboxes took an event, and how many refused it because they were full."""

    reached: int
    full: int = 0


class Inboxes(Channels):
    """The registered agents, what they subscribe to, and the events that wait in each inbox.

    Arguments are as in `Channels`.
    """

    def __init__(
        self,
        config: AgentsConfig,
        groups: dict[str, GroupConfig],
        on_change: Callable[[str, dict[str, Any]], None],
        now: Callable[[], float] = time.monotonic,
        commit: Commit | None = None,
    ) -> None:
        super().__init__(config, groups, on_change, now, commit)
        self._subscribed = SubscriptionIndex()

    # -- subscriptions

    def subscribe(self, agent: Agent, patterns: list[str], channels: list[str]) -> Subscription:
        """Add a subscription. An agent with subscriptions gets only events that match one of them.

        Raises:
            InvalidEvent: a pattern or a channel does not follow the grammar.
            Refusal: overloaded: the agent, or all agents together, have as many as they may; or
                forbidden: no event of a pattern may reach the agent.
        """
        self._check_subscriptions(agent, len(patterns) * max(1, len(channels)))
        checked = tuple(map(check_pattern, patterns))
        _check_receives(agent, checked)
        names = [channel.removeprefix(f"{CHANNEL}:") for channel in channels]
        for name in names:
            parse_address(f"{CHANNEL}:{name}")
        subscription = Subscription(uuid.uuid4().hex, checked, frozenset(names))
        self._subscribe(agent, subscription)
        return subscription

    def _subscribe(self, agent: Agent, subscription: Subscription) -> None:
        agent.subscriptions[subscription.subscription_id] = subscription
        self._subscribed.add(agent.agent_id, subscription)

    def unsubscribe(self, agent: Agent, subscription_id: str | None = None) -> None:
        """End one subscription, or all of the agent's. Raises `Refusal` (not_found)."""
        ids = list(agent.subscriptions) if subscription_id is None else [subscription_id]
        for each in ids:
            subscription = agent.subscriptions.pop(each, None)
            if subscription is None:
                raise Refusal(f"agent {agent.agent_id!r} has no subscription {each!r}", code=Code.NOT_FOUND)
            self._subscribed.remove(agent.agent_id, subscription)

    def _check_subscriptions(self, agent: Agent, more: int) -> None:
        config, subscribed = self._config, self._subscribed
        held = sum(subscription.size for subscription in agent.subscriptions.values())
        for have, most, what in (
            (len(agent.subscriptions) + 1, agent.rights.subscriptions, "subscriptions ('agents.subscriptions')"),
            (held + more, config.patterns, "patterns in its subscriptions ('agents.patterns')"),
        ):
            if have > most:
                raise Refusal(
                    f"agent {agent.agent_id!r} may have at most {most} {what}; unsubscribe, or subscribe to a prefix "
                    "such as 'wiki.*'",
                    code=Code.OVERLOADED,
                )
        if subscribed.size + more > int(config.all_patterns * self._guest_share(agent)):
            raise Refusal(
                f"the agents of the network have {subscribed.size} patterns in their subscriptions, and there is no "
                f"room for {more} more ('agents.all_patterns')",
                code=Code.OVERLOADED,
            )

    # -- into inboxes

    def deliver(self, event: Event, destination: Address, source: str | None = None) -> Delivered:
        """Put an event into the inbox of each agent that it is for.

        Args:
            source: whose share of the inboxes the event takes; None: its sender's.

        The sender never receives its own channel, group or broadcast event. An event with the
        visibility `mod_only` reaches no inbox. A `restricted` event reaches only the agents in its
        `allowed_agents` (None: no agent).

        Raises:
            Refusal: no_such_agent, no_such_channel or no_such_group; inbox_full for a single agent.
        """
        if event.visibility == "mod_only":
            return Delivered(0)
        source = source_of(event) if source is None else source
        if destination.role == AGENT and destination.id != BROADCAST:
            delivered = self._deliver_to_one(event, destination.id, source)
        else:
            delivered = self._deliver_to_many(event, destination, source)
        self._hold_guests_to_bound()
        return delivered

    def tell(self, agent_id: str, event: Event) -> bool:
        """Put an event of the network's own into one inbox, whatever the agent subscribes to.

        Returns:
            False if the agent is gone or its inbox is full.
        """
        agent = self._agents.get(agent_id)
        took = agent is not None and self._put(agent, event, packed_size(event), source_of(event))
        self._hold_guests_to_bound()
        return took

    def _deliver_to_one(self, event: Event, agent_id: str, source: str) -> Delivered:
        agent = self._agents.get(agent_id)
        if agent is None:
            raise no_such_agent(agent_id)
        allowed = _allowed(event)
        if allowed is not None and agent_id not in allowed:
            return Delivered(0)
        if agent.subscriptions and agent_id not in self._subscribed.wanting(event.event_name, None):
            return Delivered(0)
        rights = agent.rights
        if rights in self._rules.deaf(event.event_name):
            return Delivered(0)
        if not self._put(agent, event.copy(), packed_size(event), source):
            raise Refusal(
                f"the inbox of agent {agent_id!r} is full ({rights.inbox_size} events, {rights.inbox_bytes} bytes)",
                code=Code.INBOX_FULL,
            )
        return Delivered(1)

    def _deliver_to_many(self, event: Event, destination: Address, source: str) -> Delivered:
        sender, allowed, reached, full = event.source_agent, _allowed(event), 0, 0
        channel = destination.id if destination.role == CHANNEL else None
        copy, size, item = event, 0, None
        wanting = self._subscribed.wanting(event.event_name, channel)
        most, most_bytes = self._rules.least_inbox
        receivers = self._receivers(destination)
        if deaf := self._rules.deaf(event.event_name):
            receivers = (agent for agent in receivers if agent.rights not in deaf)
        for agent in receivers:
            if (
                agent.agent_id == sender
                or (allowed is not None and agent.agent_id not in allowed)
                or (agent.subscriptions and agent.agent_id not in wanting)
            ):
                continue
            if item is None:  # the inboxes share this copy, and each poll copies it again
                copy, size = event.copy(), packed_size(event)
                item = copy, size, source
                most_bytes -= size
            inbox = agent.inbox
            # Nearly every receiver takes this branch. It does what `_put` does without the call:
            # a thousand inboxes then take a fifth of the time.
            if agent.arrival is None and 0 < len(inbox.events) < most and inbox.size <= most_bytes:
                inbox.events.append(item)
                inbox.size += size
                if inbox.mail is not None:
                    inbox.mail.enter(copy, size)
                reached += 1
            elif self._put(agent, copy, size, source):
                reached += 1
            else:
                full += 1
        return Delivered(reached, full)

    def _receivers(self, destination: Address) -> Iterable[Agent]:
        if destination.role == AGENT:
            return self._agents.values()
        if destination.role == GROUP:
            if destination.id not in self._groups:
                raise Refusal(f"no agent group {destination.id!r}", code=Code.NO_SUCH_GROUP)
            return (agent for agent in self._agents.values() if agent.group == destination.id)
        members = self._channels.get(destination.id)
        if members is None:
            raise no_such_channel(destination.id)
        return (agent for agent_id in members if (agent := self._agents.get(agent_id)) is not None)

    def _put(self, agent: Agent, event: Event, size: int, source: str) -> bool:
        """Put an event into an inbox; False if the inbox refuses it.

        A full inbox drops events of the source that takes up most of it, or refuses the new event,
        as `inbox_policy` says.
        """
        if not (self._has_room(agent, size, source) if self._rejects else self._make_room(agent, size, source)):
            _lose(agent, source)
            return False
        agent.inbox.append(event, size, source)
        if agent.arrival is not None:
            agent.arrival.set()
        return True

    def _hold_guests_to_bound(self) -> None:
        """Drop events that wait for guests while there are too many: the oldest events of the guest that holds the most."""
        mail, most = self._guests.mail, self._config.guest_inbox_bytes
        if mail.size <= most:
            return
        most -= most >> _SPARE  # so that not every event has to look for who holds the most
        heap = [(-agent.inbox.size, agent.agent_id) for agent in self._agents.values() if agent.inbox.mail is not None]
        heapify(heap)
        while mail.size > most and heap[0][0]:
            agent = self._agents[heap[0][1]]
            _lose(agent, agent.inbox.drop_oldest())
            heapreplace(heap, (-agent.inbox.size, agent.agent_id))

    @property
    def _rejects(self) -> bool:
        return self._config.inbox_policy == "reject"

    def _make_room(self, agent: Agent, size: int, source: str) -> bool:
        """Drop events until an event of this size fits; False if dropping would not help."""
        inbox, most, most_bytes = agent.inbox, agent.rights.inbox_size, agent.rights.inbox_bytes
        if size > most_bytes:
            return False
        while inbox.held >= most or inbox.size + size > most_bytes:
            if not inbox:  # what was pushed fills it
                return False
            _lose(agent, inbox.drop_of_heaviest(most, most_bytes, source, size))
        return True

    def _has_room(self, agent: Agent, size: int, source: str) -> bool:
        """Return whether an inbox that drops nothing takes an event of this source.

        See `shares`: one source can fill the inbox, and others find room all the same.
        """
        inbox, most, most_bytes = agent.inbox, agent.rights.inbox_size, agent.rights.inbox_bytes
        if inbox.held < most and inbox.size + size <= most_bytes:
            return True
        count, held = inbox.held_by(source)
        return has_share(count, inbox.held, 1, most) and has_share(held, inbox.size, size, most_bytes)

    # -- out of inboxes

    async def poll(self, agent: Agent, wait: float = 0.0, limit: int | None = None) -> list[Event]:
        """Take the oldest events out of an inbox, each as a copy.

        Waits at most `wait` seconds for the first event.

        Returns nothing if another session has taken over the agent's id meanwhile: the inbox
        belongs to the new session.
        """
        self.seen(agent)
        inbox = agent.inbox
        if not (inbox or (inbox.has_pushed and agent.stream is None)) and wait > 0:
            await self._arrival(agent, wait)
            self.seen(agent)
        if self._agents.get(agent.agent_id) is not agent:
            return []
        most = inbox.held if limit is None else limit
        # What a stream pushed that has ended may never have come.
        again = inbox.take_pushed(most) if inbox.has_pushed and agent.stream is None else []
        taken = [inbox.popleft() for _ in range(min(most - len(again), len(inbox)))]
        return [event.copy() for event in (*again, *taken)]

    def open_stream(self, agent: Agent, wake: Callable[[], None], cursor: str | None = None) -> Stream:
        """Begin to push the events of an agent to a connection. A former stream of the agent ends.

        Arguments are as in `Stream`.
        """
        self.seen(agent)
        return Stream(agent, self._agents.get, wake, cursor)

    def take_losses(self, agent: Agent) -> Losses | None:
        """Return what the inbox lost since the last call; None if it lost nothing."""
        if not agent.losses.count:
            return None
        losses, agent.losses = agent.losses, Losses()
        return losses

    async def _arrival(self, agent: Agent, wait: float) -> None:
        agent.arrival = agent.arrival or Arrival()
        agent.arrival.clear()
        agent.polling += 1
        try:
            async with asyncio.timeout(wait):
                await agent.arrival.wait()
        except TimeoutError:
            pass
        finally:
            agent.polling -= 1


def packed_size(event: Event) -> int:
    """Return about how many bytes an event takes: the size of its msgpack form."""
    data = event.to_dict()
    try:
        return len(pack(data))
    except Unserializable:  # no mod could get this event, but an agent in this process can
        return len(repr(data))


def _check_receives(agent: Agent, patterns: Iterable[str]) -> None:
    """Raise `Refusal` for a pattern none of whose events may reach the agent: it would wait in vain."""
    for pattern in patterns:
        if not agent.rights.receive.overlap(pattern) and not pattern.startswith("system."):
            raise Refusal(
                f"no event that matches {pattern!r} reaches agent {agent.agent_id!r}: {agent.rights.whose} may receive "
                f"{agent.rights.receive}",
                code=Code.FORBIDDEN,
            )


def _lose(agent: Agent, source: str) -> None:
    agent.dropped += 1
    agent.losses.add(source)


def _allowed(event: Event) -> frozenset[str] | None:
    """Return the ids of the only agents that may get the event, None for all agents."""
    if event.visibility != "restricted":
        return None
    return frozenset(agent.removeprefix(f"{AGENT}:") for agent in event.allowed_agents or ())
