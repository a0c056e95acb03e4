"""`network.event_gateway`: events, inboxes, subscriptions and channels, by the names of OpenAgents."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ...ipc.event import EventResponse
from .core import Core
from .event import Event, as_ours, as_theirs
from .unknown import Named

EMPTY_CHANNELS = 10_000  # channels without members, which only the face knows; as many as the network may have


@dataclass(frozen=True, slots=True)
class EventSubscription:
    """A subscription of an agent, as `EventGateway.subscribe` returns it."""

    subscription_id: str
    agent_id: str
    event_patterns: list[str]
    channels: set[str]
    is_active: bool = True


class EventGateway(Named):
    """What programs ask of ``network.event_gateway``, also known as ``network.events``."""

    def __init__(self, core: Core) -> None:
        self._core = core
        # Channels of the network end with their last member. A program may make one without any.
        self._empty: dict[str, None] = {}

    # -- events

    async def process_event(self, event: Any, enable_delivery: bool = True) -> EventResponse:
        """Process an event from inside, which needs no secret.

        Sets the event's ``timestamp`` and ``source_agent_group``.

        Args:
            enable_delivery: if false, mods get the event and agents do not.

        Raises:
            InvalidEvent: the event does not follow the grammar.
        """
        sent = self._stamped(event)
        if not enable_delivery:
            sent = sent.twin()
            sent.visibility = "mod_only"
            sent.destination_id = sent.destination_id or "agent:broadcast"  # an event for nobody would fail
        return await self._core.process_event(sent)

    def _stamped(self, event: Any) -> Any:
        sent = as_ours(event)
        event.timestamp = int(time.time())
        agents, source = self._core.agents, sent.source_agent
        agent = agents.get(source) if agents is not None and source is not None else None
        event.source_agent_group = None if agent is None else agent.group
        return sent

    async def poll_events(self, agent_id: str) -> list[Event]:
        """Take the events out of an agent's inbox. Returns nothing for an agent that is not registered."""
        agents = self._core.agents
        if agents is None or agents.get(agent_id.removeprefix("agent:")) is None:
            return []
        return [as_theirs(event) for event in await self._core.poll_events(agent_id)]

    # -- subscriptions

    def subscribe(
        self, agent_id: str, event_patterns: list[str], channels: list[str] | None = None
    ) -> EventSubscription:
        """Subscribe a registered agent to events whose names match. Raises `ModvisorError`."""
        agent = self._core.agent(agent_id)
        made = self._core.change(lambda agents: agents.subscribe(agent, list(event_patterns), list(channels or ())))
        return EventSubscription(made.subscription_id, agent.agent_id, list(made.patterns), set(made.channels))

    def unsubscribe(self, subscription_id: str) -> bool:
        """End a subscription; returns False if there is none with this id."""
        for agent in self._core.agents or ():
            if subscription_id in agent.subscriptions:
                self._core.change(lambda agents, agent=agent: agents.unsubscribe(agent, subscription_id))
                return True
        return False

    def unsubscribe_agent(self, agent_id: str) -> None:
        """End all subscriptions of an agent."""
        for subscription in self.get_agent_subscriptions(agent_id):
            self.unsubscribe(subscription.subscription_id)

    def get_agent_subscriptions(self, agent_id: str) -> list[EventSubscription]:
        """Return the subscriptions of an agent."""
        agents = self._core.agents
        agent = agents.get(agent_id) if agents is not None else None
        if agent is None:
            return []
        return [
            EventSubscription(each.subscription_id, agent.agent_id, list(each.patterns), set(each.channels))
            for each in agent.subscriptions.values()
        ]

    # -- channels

    @property
    def channel_members(self) -> dict[str, list[str]]:
        """The channels with their members in joining order, as a copy."""
        return {name: self.get_channel_members(name) for name in self.list_channels()}

    def create_channel(self, channel_id: str) -> None:
        """Make a channel without members."""
        if channel_id not in self.list_channels():
            if len(self._empty) >= EMPTY_CHANNELS:
                raise ValueError(f"{EMPTY_CHANNELS} channels have no members, which is the most; remove some")
            self._empty[channel_id] = None

    def add_channel_member(self, channel_id: str, agent_id: str) -> None:
        """Make a registered agent a member of a channel, which is created if it is new. Raises `ModvisorError`."""
        agent = self._core.agent(agent_id)
        self._core.change(lambda agents: agents.join(channel_id, agent.agent_id))
        self._empty.pop(channel_id, None)

    def remove_channel_member(self, channel_id: str, agent_id: str) -> None:
        """End a membership; the channel stays. Raises ValueError if the agent is no member of the channel."""
        members = self.get_channel_members(channel_id)
        if channel_id not in self.list_channels():
            return
        if agent_id not in members:
            raise ValueError(f"agent {agent_id!r} is no member of channel {channel_id!r}")
        self._core.change(lambda agents: agents.leave(channel_id, agent_id))
        if len(members) == 1:
            self.create_channel(channel_id)

    def get_channel_members(self, channel_id: str) -> list[str]:
        """Return the agents in a channel, in joining order."""
        agents = self._core.agents
        return (agents.channel_members(channel_id) if agents is not None else None) or []

    def list_channels(self) -> list[str]:
        """Return the names of all channels."""
        agents = self._core.agents
        return list(dict.fromkeys([*(agents.channels() if agents is not None else ()), *self._empty]))

    def remove_channel(self, channel_id: str) -> None:
        """Remove a channel with its memberships, if it is there."""
        self._empty.pop(channel_id, None)
        if self._core.agents is not None and self.get_channel_members(channel_id):
            self._core.change(lambda agents: agents.remove_channel(channel_id))

    # -- figures

    def get_stats(self) -> dict[str, Any]:
        """Return how many events were processed, and how many agents have subscriptions."""
        subscribed = sum(bool(agent.subscriptions) for agent in self._core.agents or ())
        return {"total_events": self._core.counters.processed, "active_subscriptions": subscribed}
