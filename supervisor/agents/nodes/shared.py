"""The agents of a network of several nodes: where each of them is at home, and how events get there.

Each agent has a *home*, the node where it last connected. Only its home holds its inbox and its
subscriptions, lets it expire, and pushes events.

An event that is delivered here goes into the inboxes of the agents that are at home here. For the
others it leaves as one parcel (`Elsewhere.carry`); their homes look at subscriptions and at the room
in each inbox (`receive`).

A network of one node has no such registry, and its deliveries cost what they cost before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from ....ipc.address import CHANNEL, Address
from ....ipc.event import Event
from ...config import AgentsConfig, GroupConfig
from ...shares import source_of
from ..agent import Agent, Arrival
from ..delivery import Delivered, packed_size
from ..inboxes.inbox import Inbox
from ..inboxes.subscriptions import Subscription
from ..registry import end_polls
from .given import Given, Key
from .mirrored import MirroredAgents
from .moving import Luggage, packed_up, unpack_into
from .parcels import Parcel, Receipt
from .store import AgentStore


class SharedAgents(MirroredAgents):
    """All agents and channels of a network, and the inboxes of those that are at home at this node.

    Args:
        make_inbox: makes the inbox of an agent that is at home here; None: an ordinary one.

    Other arguments are as in `MirroredAgents`.

    Attributes:
        arriving: the agents whose inboxes are on their way here, by id, with their former homes.
        outcome: what comes of the part of the newest delivery that went to other nodes.
    """

    def __init__(
        self,
        node: str,
        config: AgentsConfig,
        groups: dict[str, GroupConfig],
        store: AgentStore,
        now: Callable[[], float] = time.monotonic,
        make_inbox: Callable[[str], Inbox] | None = None,
    ) -> None:
        super().__init__(node, config, groups, store, now)
        self._make_inbox = make_inbox
        self._given = Given()
        self._parcel: Parcel | None = None
        self.arriving: dict[str, str | None] = {}
        self.outcome: asyncio.Future[Receipt] | None = None

    # -- homes

    def settle_here(self, agent: Agent) -> None:
        """Note that this node is the home of an agent now, as the store has it. Its inbox is still to come."""
        self.arriving[agent.agent_id] = agent.home
        agent.home = self.node
        self._prepare(agent)

    def _enroll(self, agent: Agent) -> None:
        present = self._agents.get(agent.agent_id)
        if agent.home == self.node:
            if present is not None and present.home != self.node:
                self.arriving[agent.agent_id] = present.home
            self._prepare(agent)
        elif present is not None and present.registered_at != agent.registered_at:
            self.arriving.pop(agent.agent_id, None)
        super()._enroll(agent)

    def _mirror_home(self, agent: Agent, home: str | None, *, is_parked: bool) -> None:
        if home == agent.home:
            return
        former, agent.home = agent.home, home
        if home == self.node:  # written by an earlier run of this node, or by this one, which did not hear that it was
            self.arriving[agent.agent_id] = former
            self._prepare(agent)
            return
        if agent.stream is not None:
            agent.stream.give_way(is_moved=is_parked)
        end_polls(agent)

    def is_home(self, agent: Agent) -> bool:
        return agent.home == self.node

    def _prepare(self, agent: Agent) -> None:
        """Give an agent that is at home here an inbox, and have every event pass `_put`."""
        if self._make_inbox is not None and type(agent.inbox) is Inbox:  # nothing was at home here yet
            former, agent.inbox = agent.inbox, self._make_inbox(agent.agent_id)
            agent.inbox.count_in(former.mail)
        agent.arrival = agent.arrival or Arrival()

    def kick(self, agent_id: str) -> Agent | None:
        agent = super().kick(agent_id)
        if agent is not None:
            self.elsewhere.kicked(agent_id)
        return agent

    def keep_away(self, agent_id: str) -> None:
        """Keep an id away that another node has kicked."""
        self._kicked.note(agent_id)

    def _drop(self, agent_id: str) -> Agent | None:
        agent = super()._drop(agent_id)
        if agent is not None:
            self.arriving.pop(agent_id, None)
            self.elsewhere.left(agent)
        return agent

    # -- signs of life

    def seen(self, agent: Agent) -> None:
        super().seen(agent)
        if agent.home != self.node:
            self.elsewhere.seen(agent)

    def expired(self) -> list[str]:
        return [agent_id for agent_id in super().expired() if self._sees_to(self._agents[agent_id])]

    def _sees_to(self, agent: Agent) -> bool:
        home = agent.home
        if home is None or not self.elsewhere.is_there(home):
            return self.elsewhere.is_first
        return home == self.node

    def lost(self, node: str) -> None:
        """Begin to count the time anew in which the agents of a node that is gone must come back."""
        for agent in self._agents.values():
            if agent.home == node:
                agent.last_seen = self._now()

    # -- into inboxes

    def deliver(self, event: Event, destination: Address, source: str | None = None) -> Delivered:
        self._parcel = self._parcel_of(event, source)
        return self._sent(super().deliver, event, destination, source)

    def tell(self, agent_id: str, event: Event) -> bool:
        self._parcel = self._parcel_of(event, None)
        self._parcel.is_told = True
        return self._sent(lambda: Delivered(int(super(SharedAgents, self).tell(agent_id, event)))).reached > 0

    def key_of(self, event: Event) -> Key:
        """Return what tells an event from every other one, on each node alike."""
        agent = self.by_source.get(event.source_id)
        return agent.owner if agent is not None else event.source_id or "", event.event_id

    def _parcel_of(self, event: Event, source: str | None) -> Parcel:
        return Parcel(self.key_of(event), event, 0, source_of(event) if source is None else source)

    def _sent(self, deliver: Callable[..., Delivered], *arguments: Any) -> Delivered:
        """Deliver here, and send off what is for other nodes. Those do not count as reached yet."""
        self.outcome, parcel = None, self._parcel
        assert parcel is not None
        try:
            delivered = deliver(*arguments)
        finally:
            self._parcel = None
        if not parcel.to:
            return delivered
        self.outcome = self.elsewhere.carry(parcel)
        return Delivered(delivered.reached - sum(map(len, parcel.to.values())), delivered.full)

    def _put(self, agent: Agent, event: Event, size: int, source: str) -> bool:
        parcel = self._parcel
        assert parcel is not None
        if agent.home == self.node:
            return self._put_here(agent, parcel.key, event, size, source)
        parcel.event, parcel.size = event, size
        parcel.to.setdefault(agent.home or "", []).append(agent.agent_id)
        return True

    def _put_here(self, agent: Agent, key: Key, event: Event, size: int, source: str) -> bool:
        if self._given.has(key, agent.agent_id):
            return True
        if not super()._put(agent, event, size, source):
            return False
        self._given.note(key, agent.agent_id)
        return True

    def receive(self, parcel: Parcel, ids: Collection[str]) -> Receipt:
        """Put a parcel into the inboxes of agents that are at home here."""
        receipt, event = Receipt(), parcel.event
        destination = event.destination
        channel = destination.id if destination is not None and destination.role == CHANNEL else None
        wanting = self._subscribed.wanting(event.event_name, channel)
        for agent_id in ids:
            agent = self._agents.get(agent_id)
            if agent is None:
                receipt.gone.append(agent_id)
            elif agent.home != self.node:
                receipt.away.append(agent_id)
            elif not parcel.is_told and agent.subscriptions and agent_id not in wanting:
                continue
            elif self._put_here(agent, parcel.key, event, parcel.size or packed_size(event), parcel.source):
                receipt.reached += 1
            else:
                receipt.full += 1
        self._hold_guests_to_bound()
        return receipt

    # -- moving

    async def bring_home(self, agent: Agent) -> None:
        if agent.home != self.node or agent.agent_id in self.arriving:
            await self.elsewhere.bring(agent)

    async def poll(self, agent: Agent, wait: float = 0.0, limit: int | None = None) -> list[Event]:
        await self.bring_home(agent)
        return await super().poll(agent, wait, limit)

    def has_got(self, agent: Agent) -> bool:
        """Return whether an agent got an event here of late."""
        return bool(self._given.lately(agent.agent_id))

    def give_away(self, agent: Agent) -> Luggage:
        """Return what an agent takes along to the node that was its home after this one.

        It may be at home here again already. Then this comes back from there, before the agent takes events.
        """
        luggage = packed_up(agent, self._given.lately(agent.agent_id))
        self.unsubscribe(agent)
        if agent.home == self.node:
            return luggage
        self.arriving.pop(agent.agent_id, None)
        if agent.stream is not None:
            agent.stream.give_way()
        end_polls(agent)
        return luggage

    def take_in(self, agent: Agent, luggage: Luggage) -> None:
        """Give an agent what it took along from another node."""
        self.arriving.pop(agent.agent_id, None)
        for subscription in unpack_into(agent, luggage):
            self._resubscribe(agent, subscription)
        for owner, event_id in luggage["given"]:
            self._given.note((owner, event_id), agent.agent_id)
        if agent.inbox:
            end_polls(agent)

    def _resubscribe(self, agent: Agent, subscription: Subscription) -> None:
        if subscription.subscription_id not in agent.subscriptions:
            self._subscribe(agent, subscription)
