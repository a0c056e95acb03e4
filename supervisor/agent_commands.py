"""The ``system.*`` events about agents and channels."""

from __future__ import annotations

from collections.abc import Callable

from ..ipc.errors import Code
from ..ipc.event import Event, EventResponse
from .agents import MAX_POLL_WAIT, Agent, AgentRegistry, Refusal
from .command import EVERY, Command, Given, agent_id_of, answered, once, who_is
from .events import Sender
from .operations import Operations


class AgentCommands:
    """What agents ask about agents and channels, and what managers of either do.

    Attributes:
        commands: by event name.
    """

    def __init__(self, network: Operations, agents: AgentRegistry) -> None:
        self._network = network
        self._agents = agents
        self.commands: dict[str, Command] = {
            "system.register_agent": Command(self._register),
            "system.unregister_agent": once(self._unregister),
            "system.list_agents": Command(self._list_agents, for_mods=None),
            "system.kick_agent": once(self._kick, "agents"),
            "system.poll_messages": once(self._poll),
            "system.subscribe_events": once(self._subscribe),
            "system.unsubscribe_events": once(
                self._unsubscribe, keys=frozenset({"subscription_id", "agent_id"}) | EVERY
            ),
            "system.add_channel_member": once(self._add_member, for_mods="channels"),
            "system.remove_channel_member": once(self._remove_member, for_mods="channels"),
            "system.get_channel_members": Command(self._get_members, for_mods=None),
            "system.remove_channel": once(self._remove_channel, "channels"),
            "system.list_channels": Command(self._list_channels, for_mods=None),
            "system.heartbeat": Command(self._heartbeat),
            "system.ping_agent": Command(self._heartbeat),
        }

    # -- who may

    def permissions_of(self, sender: Sender) -> frozenset[str]:
        if sender.mod is not None:
            return sender.mod.permissions
        return self._agents.permissions_of(sender.agent) if sender.agent is not None else frozenset()

    def has(self, sender: Sender, permission: str) -> bool:
        return sender.trusted or permission in self.permissions_of(sender)

    def _subject(self, event: Event, sender: Sender, permission: str) -> Agent:
        """Return the agent that a command is about: the payload's ``agent_id``, or the sender.

        Another agent than the sender needs ``permission``.
        """
        agent_id = agent_id_of(event).removeprefix("agent:")
        if not self._has(sender, permission) and (sender.agent is None or sender.agent.agent_id != agent_id):
            raise Refusal(
                f"{who_is(sender, event)} may not use {event.event_name} for agent {agent_id!r}: "
                f"that needs the permission {permission!r}",
                code=Code.FORBIDDEN,
            )
        agent = self._agents.get(agent_id)
        if agent is None:
            raise Refusal(f"no agent {agent_id!r} is registered", code=Code.NO_SUCH_AGENT)
        return agent

    # -- agents

    async def _register(self, event: Event, sender: Sender) -> EventResponse:
        given, agent_id = Given(event), agent_id_of(event)
        permissions = self._permissions_of(sender)
        return await self._network.add_agent(
            agent_id,
            event.payload.get("metadata") or {},
            group=given.text("agent_group"),
            password_hash=given.text("password_hash"),
            # The gateway has checked the secret of a returning agent, and wiped it from the event.
            retake=sender.agent is not None and sender.agent.agent_id == agent_id,
            trusted=sender.trusted,
            manages=permissions if "agents" in permissions else None,
            address=sender.address,
        )

    async def _unregister(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        return await self._network.remove_agent(agent.agent_id, "unregistered")

    async def _kick(self, event: Event, sender: Sender) -> EventResponse:
        target = Given(event).text("target_agent_id")
        if target is None:
            raise Refusal("target_agent_id: expected the id of the agent to kick")
        if sender.agent is not None and sender.agent.agent_id == target:
            raise Refusal("an agent cannot kick itself; use system.unregister_agent")
        by = sender.agent.agent_id if sender.agent is not None else str(event.source_id)
        kicked = await self._network.kick_agent(target, by)
        return answered(event, str(kicked.message), **kicked.data) if kicked.success else kicked

    async def _list_agents(self, event: Event, sender: Sender) -> EventResponse:
        agents = [
            {
                "agent_id": agent.agent_id,
                "name": agent.metadata.get("name", agent.agent_id),
                "connected": True,
                "metadata": agent.metadata,
                "group": agent.group,
                "last_seen": agent.last_seen_at,
            }
            for agent in self._agents
        ]
        return answered(event, f"{len(agents)} agents", agents=agents)

    async def _poll(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        wait = Given(event).seconds("wait", MAX_POLL_WAIT)
        events = await self._agents.poll(agent, wait)
        messages = [received.to_dict() for received in events]
        losses = self._agents.take_losses(agent)
        more = {} if losses is None else {"dropped": losses.to_dict()}
        return answered(event, f"{len(messages)} events", messages=messages, **more)

    async def _subscribe(self, event: Event, sender: Sender) -> EventResponse:
        agent, given = self._subject(event, sender, "agents"), Given(event)
        patterns = given.texts("event_patterns")
        if not patterns:
            raise Refusal("event_patterns: expected a list of at least one pattern, such as ['wiki.*']")
        channels = given.texts("channels")
        subscription = self._agents.subscribe(agent, patterns, channels)
        return answered(
            event, f"subscribed to {len(patterns)} patterns",
            subscription_id=subscription.subscription_id, agent_id=agent.agent_id, event_patterns=patterns, channels=channels,
        )  # fmt: skip

    async def _unsubscribe(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        subscription_id = Given(event).text("subscription_id")
        self._agents.unsubscribe(agent, subscription_id)
        if subscription_id is None:
            return answered(event, "unsubscribed from everything", agent_id=agent.agent_id)
        return answered(event, "unsubscribed", subscription_id=subscription_id, agent_id=agent.agent_id)

    async def _heartbeat(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        self._agents.seen(agent)
        return answered(event, "noted", command="heartbeat", agent_id=agent.agent_id)

    # -- channels

    async def _add_member(self, event: Event, sender: Sender) -> EventResponse:
        return await self._change_member(event, sender, self._agents.join, "is a member of")

    async def _remove_member(self, event: Event, sender: Sender) -> EventResponse:
        return await self._change_member(event, sender, self._agents.leave, "left")

    async def _change_member(
        self, event: Event, sender: Sender, change: Callable[[str, str], object], done: str
    ) -> EventResponse:
        agent, channel = self._subject(event, sender, "channels"), Given(event).channel()
        await self._agents.kept(lambda: change(channel, agent.agent_id))
        return answered(event, f"{agent.agent_id} {done} {channel}", channel_id=channel, agent_id=agent.agent_id)

    async def _get_members(self, event: Event, sender: Sender) -> EventResponse:
        channel = Given(event).channel()
        members = self._agents.channel_members(channel)
        if members is None:
            raise Refusal(f"no channel {channel!r}", code=Code.NO_SUCH_CHANNEL)
        return answered(event, f"{len(members)} members", channel_id=channel, members=members)

    async def _remove_channel(self, event: Event, sender: Sender) -> EventResponse:
        channel = Given(event).channel()
        await self._agents.kept(lambda: self._agents.remove_channel(channel))
        return answered(event, f"channel {channel} removed", channel_id=channel)

    async def _list_channels(self, event: Event, sender: Sender) -> EventResponse:
        channels = self._agents.channels()
        return answered(event, f"{len(channels)} channels", channels=channels)
