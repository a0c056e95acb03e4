"""The ``system.*`` events about agents and channels."""

from __future__ import annotations

from functools import partial

from ..ipc.errors import Code
from ..ipc.event import Event, EventResponse
from .agents import (
    MAX_POLL_WAIT,
    Agent,
    AgentRegistry,
    Manager,
    Refusal,
    channels_known_to,
    check_may_add,
    check_may_take_out,
    known_to,
    members_known_to,
    no_such_agent,
    no_such_channel,
)
from .command import EVERY, Command, Given, agent_id_of, answered, once, who_is
from .events import Sender
from .operations import Operations

_CHANNEL = frozenset({"channel", "channel_id", "private", "agent_id"}) | EVERY
_INVITE = frozenset({"agent_group", "agent", "expires", "uses"}) | EVERY


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
            "system.invite": once(self._invite, "agents", keys=_INVITE),
            "system.list_invites": Command(self._list_invites, "agents"),
            "system.revoke_invite": once(self._revoke_invite, "agents", keys=frozenset({"invite_id"}) | EVERY),
            "system.poll_messages": once(self._poll),
            "system.subscribe_events": once(self._subscribe),
            "system.unsubscribe_events": once(
                self._unsubscribe, keys=frozenset({"subscription_id", "agent_id"}) | EVERY
            ),
            "system.create_channel": once(self._create_channel, for_mods="channels", keys=_CHANNEL),
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
        return sender.agent.rights.permissions if sender.agent is not None else frozenset()

    def has(self, sender: Sender, permission: str) -> bool:
        return sender.trusted or permission in self.permissions_of(sender)

    def _manager(self, sender: Sender) -> Manager | None:
        """Return what the sender may give to others; None: it does not manage agents."""
        return self._held_by(sender) if "agents" in self.permissions_of(sender) else None

    def _held_by(self, sender: Sender) -> Manager:
        return Manager(self.permissions_of(sender), sender.agent.rights if sender.agent is not None else None)

    def _subject(self, event: Event, sender: Sender) -> Agent:
        """Return the agent that a command is about: the payload's ``agent_id``, or the sender.

        Another agent than the sender needs the permission `agents`, and may do nothing that the
        sender may not.
        """
        agent = self._permitted(event, sender, "agents")
        self._check_rank(agent.agent_id, sender)
        return agent

    def _permitted(self, event: Event, sender: Sender, permission: str) -> Agent:
        """Return the agent that a command is about. Another one than the sender needs ``permission``."""
        agent_id = _named(event)
        if not self._is_own(agent_id, sender) and not self.has(sender, permission):
            raise Refusal(
                f"{who_is(sender, event)} may not use {event.event_name} for agent {agent_id!r}: "
                f"that needs the permission {permission!r}",
                code=Code.FORBIDDEN,
            )
        agent = self._agents.get(agent_id)
        if agent is None:
            raise no_such_agent(agent_id)
        return agent

    def _is_own(self, agent_id: str, sender: Sender) -> bool:
        return sender.agent is not None and sender.agent.agent_id == agent_id

    def _check_rank(self, agent_id: str, sender: Sender) -> None:
        """Raise `Refusal` if another agent may do what the sender may not."""
        agent = self._agents.get(agent_id)
        if agent is not None and not sender.trusted and not self._is_own(agent_id, sender):
            self._agents.check_rank(agent, self._held_by(sender))

    # -- agents

    async def _register(self, event: Event, sender: Sender) -> EventResponse:
        given, agent_id = Given(event), agent_id_of(event)
        return await self._network.add_agent(
            agent_id,
            event.payload.get("metadata") or {},
            group=given.text("agent_group"),
            password_hash=given.text("password_hash"),
            # The gateway has checked the secret of a returning agent, and wiped it from the event.
            retake=sender.agent is not None and sender.agent.agent_id == agent_id,
            trusted=sender.trusted,
            manages=self._manager(sender),
            address=sender.address,
            invite=given.text("invite"),
        )

    async def _unregister(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender)
        remove = partial(self._network.remove_agent, agent.agent_id, "unregistered")
        if sender.agent is agent:
            return await remove()
        return await self._network.audited("agent.remove", on=agent.agent_id, do=remove)

    async def _kick(self, event: Event, sender: Sender) -> EventResponse:
        target = Given(event).text("target_agent_id")
        if target is None:
            raise Refusal("target_agent_id: expected the id of the agent to kick")
        if sender.agent is not None and sender.agent.agent_id == target:
            raise Refusal("an agent cannot kick itself; use system.unregister_agent")
        self._check_rank(target, sender)
        kicked = await self._network.kick_agent(target, _name(event, sender))
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
            for agent in (self._agents if sender.agent is None else known_to(sender.agent, self._agents))
        ]
        return answered(event, f"{len(agents)} agents", agents=agents)

    async def _poll(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender)
        wait = Given(event).seconds("wait", MAX_POLL_WAIT)
        events = await self._agents.poll(agent, wait)
        messages = [received.to_dict() for received in events]
        losses = self._agents.take_losses(agent)
        more = {} if losses is None else {"dropped": losses.to_dict()}
        return answered(event, f"{len(messages)} events", messages=messages, **more)

    async def _subscribe(self, event: Event, sender: Sender) -> EventResponse:
        agent, given = self._subject(event, sender), Given(event)
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
        agent = self._subject(event, sender)
        subscription_id = Given(event).text("subscription_id")
        self._agents.unsubscribe(agent, subscription_id)
        if subscription_id is None:
            return answered(event, "unsubscribed from everything", agent_id=agent.agent_id)
        return answered(event, "unsubscribed", subscription_id=subscription_id, agent_id=agent.agent_id)

    async def _heartbeat(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender)
        self._agents.seen(agent)
        return answered(event, "noted", command="heartbeat", agent_id=agent.agent_id)

    # -- invites

    async def _invite(self, event: Event, sender: Sender) -> EventResponse:
        given, payload = Given(event), event.payload
        more = {key: payload[key] for key in ("expires", "uses") if payload.get(key) is not None}
        group, agent, manager = given.text("agent_group"), given.text("agent"), self._manager(sender)
        by = _name(event, sender)
        made = await self._network.make_invite(group=group, agent=agent, by=by, manager=manager, **more)
        return answered(event, str(made.message), **made.data) if made.success else made

    async def _list_invites(self, event: Event, sender: Sender) -> EventResponse:
        invites = self._network.list_invites()
        return answered(event, f"{len(invites)} invites", invites=invites)

    async def _revoke_invite(self, event: Event, sender: Sender) -> EventResponse:
        invite_id = Given(event).text("invite_id")
        if invite_id is None:
            raise Refusal("invite_id: expected the id of an invite, as system.list_invites shows it")
        revoked = await self._network.revoke_invite(invite_id, self._manager(sender))
        return answered(event, str(revoked.message), **revoked.data) if revoked.success else revoked

    # -- channels

    async def _create_channel(self, event: Event, sender: Sender) -> EventResponse:
        agent, given = self._permitted(event, sender, "channels"), Given(event)
        channel, private = given.channel(), given.flag("private")
        await self._agents.kept(lambda: self._agents.create(channel, agent.agent_id, private=private))
        return answered(event, f"channel {channel} made", channel_id=channel, agent_id=agent.agent_id, private=private)

    async def _add_member(self, event: Event, sender: Sender) -> EventResponse:
        agent_id, channel = _named(event), Given(event).channel()
        if sender.agent is not None and not self.has(sender, "channels"):
            check_may_add(sender.agent, agent_id, channel, self._agents)
        await self._agents.kept(lambda: self._agents.join(channel, agent_id))
        return _member_changed(event, channel, agent_id, "is a member of")

    async def _remove_member(self, event: Event, sender: Sender) -> EventResponse:
        agent_id, channel = _named(event), Given(event).channel()
        if sender.agent is not None and not self.has(sender, "channels"):
            check_may_take_out(sender.agent, agent_id, channel, self._agents)
        else:
            self._check_rank(agent_id, sender)
        await self._agents.kept(lambda: self._agents.leave(channel, agent_id))
        return _member_changed(event, channel, agent_id, "left")

    async def _get_members(self, event: Event, sender: Sender) -> EventResponse:
        channel = Given(event).channel()
        if sender.agent is not None:
            members = members_known_to(sender.agent, channel, self._agents)
        elif (found := self._agents.channel_members(channel)) is not None:
            members = found
        else:
            raise no_such_channel(channel)
        return answered(event, f"{len(members)} members", channel_id=channel, members=members)

    async def _remove_channel(self, event: Event, sender: Sender) -> EventResponse:
        channel = Given(event).channel()
        remove = partial(self._agents.kept, lambda: self._agents.remove_channel(channel))
        await self._network.audited("channel.remove", on=channel, do=remove)
        return answered(event, f"channel {channel} removed", channel_id=channel)

    async def _list_channels(self, event: Event, sender: Sender) -> EventResponse:
        agents = self._agents
        channels = agents.channels() if sender.agent is None else channels_known_to(sender.agent, agents)
        private = [channel for channel in channels if channel in agents.private]
        return answered(event, f"{len(channels)} channels", channels=channels, private=private)


def _name(event: Event, sender: Sender) -> str:
    """Return who asks, for others to read."""
    return sender.agent.agent_id if sender.agent is not None else str(event.source_id)


def _named(event: Event) -> str:
    """Return the id of the agent that a command is about."""
    return agent_id_of(event).removeprefix("agent:")


def _member_changed(event: Event, channel: str, agent_id: str, done: str) -> EventResponse:
    return answered(event, f"{agent_id} {done} {channel}", channel_id=channel, agent_id=agent_id)
