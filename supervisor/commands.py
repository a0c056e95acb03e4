"""``system.*`` events: what the network itself answers, and who may ask for it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from ..ipc.errors import Code, InvalidEvent, ModvisorError
from ..ipc.event import Event, EventResponse
from .agents import MAX_POLL_WAIT, Agent, AgentRegistry, Refusal
from .events import Sender
from .operations import Operations

logger = logging.getLogger("modvisor.commands")


class _Command(NamedTuple):
    """``permission`` is what an agent's group (or a mod) needs; None: anybody who is authenticated."""

    run: Callable[[Event, Sender], Awaitable[EventResponse]]
    permission: str | None = None


class SystemCommands:
    """The network's own commands, by event name. Every answer is a response, also to a mistake of ours; never raises."""

    def __init__(self, network: Operations, agents: AgentRegistry) -> None:
        self._network = network
        self._agents = agents
        self._commands: dict[str, _Command] = {
            "system.register_agent": _Command(self._register),
            "system.unregister_agent": _Command(self._unregister),
            "system.list_agents": _Command(self._list_agents),
            "system.list_mods": _Command(self._list_mods),
            "system.poll_messages": _Command(self._poll),
            "system.subscribe_events": _Command(self._subscribe),
            "system.unsubscribe_events": _Command(self._unsubscribe),
            "system.add_channel_member": _Command(self._add_member),
            "system.remove_channel_member": _Command(self._remove_member),
            "system.get_channel_members": _Command(self._get_members),
            "system.remove_channel": _Command(self._remove_channel, "channels"),
            "system.list_channels": _Command(self._list_channels),
            "system.health_check": _Command(self._health_check),
            "system.heartbeat": _Command(self._heartbeat),
            "system.ping_agent": _Command(self._heartbeat),
            "system.mod.load": _Command(self._load, "mods"),
            "system.mod.unload": _Command(self._unload, "mods"),
            "system.mod.reload": _Command(self._reload, "mods"),
            "system.mod.swap": _Command(self._swap, "mods"),
            "system.mod.audience": _Command(self._audience, "mods"),
            "system.mod.promote": _Command(self._promote, "mods"),
            "system.mod.rollback": _Command(self._rollback, "mods"),
            "system.mod.list": _Command(self._list_loaded, "mods"),
            "system.mod.available": _Command(self._list_available, "mods"),
        }

    async def __call__(self, event: Event, sender: Sender) -> EventResponse:
        command = self._commands.get(event.event_name)
        if command is None:
            known = ", ".join(name.removeprefix("system.") for name in self._commands)
            return _failure(Code.UNKNOWN_EVENT, f"unknown command {event.event_name!r}; system.* knows {known}")
        try:
            self._check_permission(event, sender, command.permission)
            return await command.run(event, sender)
        except ModvisorError as error:
            if error.code in (Code.FORBIDDEN, Code.UNAUTHENTICATED):
                self._network.note_refused(event, str(error))
            return _failure(error.code, str(error), **error.details)
        except Exception:
            logger.exception("%s from %s failed", event.event_name, event.source_id)
            return _failure(
                Code.INTERNAL, f"{event.event_name} failed inside the network; the network's log has the traceback"
            )

    # -- who may

    def _check_permission(self, event: Event, sender: Sender, permission: str | None) -> None:
        if sender.mod is not None and permission is None and event.event_name not in _READING:
            # A mod has nothing of its own to poll or to leave: whatever it changes, it changes for others.
            permission = _MOD_PERMISSION.get(event.event_name, "agents")
        if permission is None or self._has(sender, permission):
            return
        who = _who(sender, event)
        raise Refusal(
            f"{who} may not use {event.event_name}: it needs the permission {permission!r} "
            + ("in its config" if sender.mod is not None else "of its agent group"),
            code=Code.FORBIDDEN,
        )

    def _has(self, sender: Sender, permission: str) -> bool:
        return sender.trusted or permission in self._permissions_of(sender)

    def _permissions_of(self, sender: Sender) -> frozenset[str]:
        if sender.mod is not None:
            return sender.mod.permissions
        return self._agents.permissions_of(sender.agent) if sender.agent is not None else frozenset()

    def _subject(self, event: Event, sender: Sender, permission: str) -> Agent:
        """The agent a command is about: the payload's ``agent_id`` or the sender; another one needs ``permission``."""
        agent_id = event.payload.get("agent_id", event.source_agent)
        if not isinstance(agent_id, str):
            raise Refusal("agent_id: expected the id of an agent")
        agent_id = agent_id.removeprefix("agent:")
        if not self._has(sender, permission) and (sender.agent is None or sender.agent.agent_id != agent_id):
            raise Refusal(
                f"{_who(sender, event)} may not use {event.event_name} for agent {agent_id!r}: "
                f"that needs the permission {permission!r}",
                code=Code.FORBIDDEN,
            )
        agent = self._agents.get(agent_id)
        if agent is None:
            raise Refusal(f"no agent {agent_id!r} is registered", code=Code.NO_SUCH_AGENT)
        return agent

    # -- agents

    async def _register(self, event: Event, sender: Sender) -> EventResponse:
        payload = event.payload
        agent_id = payload.get("agent_id", event.source_agent)
        if not isinstance(agent_id, str):
            raise Refusal("agent_id: expected text")
        permissions = self._permissions_of(sender)
        return self._network.add_agent(
            agent_id,
            payload.get("metadata") or {},
            group=_text(payload, "agent_group"),
            password_hash=_text(payload, "password_hash"),
            # The secret of a returning agent was checked by the gateway and is wiped from the event by now.
            retake=sender.agent is not None and sender.agent.agent_id == agent_id,
            trusted=sender.trusted,
            manages=permissions if "agents" in permissions else None,
        )

    async def _unregister(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        return self._network.remove_agent(agent.agent_id, "unregistered")

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
        return _system(event, "list_agents", f"{len(agents)} agents", agents=agents)

    async def _poll(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        wait = event.payload.get("wait", 0)
        if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait <= MAX_POLL_WAIT:
            raise Refusal(f"wait: expected seconds from 0 to {MAX_POLL_WAIT:g}, got {wait!r}")
        events = await self._agents.poll(agent, float(wait))
        messages = [received.to_dict() for received in events]
        return _system(event, "poll_messages", f"{len(messages)} events", messages=messages)

    async def _subscribe(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        patterns = _texts(event.payload, "event_patterns")
        if not patterns:
            raise Refusal("event_patterns: expected a list of at least one pattern, such as ['wiki.*']")
        channels = _texts(event.payload, "channels")
        subscription = self._agents.subscribe(agent, patterns, channels)
        return _system(
            event, "subscribe_events", f"subscribed to {len(patterns)} patterns",
            subscription_id=subscription.subscription_id, agent_id=agent.agent_id, event_patterns=patterns, channels=channels,
        )  # fmt: skip

    async def _unsubscribe(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        subscription_id = _text(event.payload, "subscription_id")
        if subscription_id is None:
            agent.subscriptions.clear()
            return _system(event, "unsubscribe_events", "unsubscribed from everything", agent_id=agent.agent_id)
        if agent.subscriptions.pop(subscription_id, None) is None:
            raise Refusal(f"agent {agent.agent_id!r} has no subscription {subscription_id!r}", code=Code.NOT_FOUND)
        return _system(
            event, "unsubscribe_events", "unsubscribed", subscription_id=subscription_id, agent_id=agent.agent_id
        )

    async def _heartbeat(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        self._agents.seen(agent)
        return _system(event, "heartbeat", "noted", agent_id=agent.agent_id)

    # -- channels

    async def _add_member(self, event: Event, sender: Sender) -> EventResponse:
        agent, channel = self._subject(event, sender, "channels"), _channel(event.payload)
        self._agents.join(channel, agent.agent_id)
        return _system(
            event,
            "add_channel_member",
            f"{agent.agent_id} is a member of {channel}",
            channel_id=channel,
            agent_id=agent.agent_id,
        )

    async def _remove_member(self, event: Event, sender: Sender) -> EventResponse:
        agent, channel = self._subject(event, sender, "channels"), _channel(event.payload)
        self._agents.leave(channel, agent.agent_id)
        return _system(
            event,
            "remove_channel_member",
            f"{agent.agent_id} left {channel}",
            channel_id=channel,
            agent_id=agent.agent_id,
        )

    async def _get_members(self, event: Event, sender: Sender) -> EventResponse:
        channel = _channel(event.payload)
        members = self._agents.channel_members(channel)
        if members is None:
            raise Refusal(f"no channel {channel!r}", code=Code.NO_SUCH_CHANNEL)
        return _system(event, "get_channel_members", f"{len(members)} members", channel_id=channel, members=members)

    async def _remove_channel(self, event: Event, sender: Sender) -> EventResponse:
        channel = _channel(event.payload)
        self._agents.remove_channel(channel)
        return _system(event, "remove_channel", f"channel {channel} removed", channel_id=channel)

    async def _list_channels(self, event: Event, sender: Sender) -> EventResponse:
        channels = self._agents.channels()
        return _system(event, "list_channels", f"{len(channels)} channels", channels=channels)

    # -- the network and its mods

    async def _health_check(self, event: Event, sender: Sender) -> EventResponse:
        return EventResponse(True, "healthy", self._network.health())

    async def _list_mods(self, event: Event, sender: Sender) -> EventResponse:
        mods = self._network.describe_mods()
        return _system(event, "list_mods", f"{len(mods)} mods", mods=mods)

    async def _load(self, event: Event, sender: Sender) -> EventResponse:
        payload = event.payload
        path = _text(payload, "mod_path") or _text(payload, "path")
        if path is None:
            raise Refusal("mod_path: expected text such as 'modvisor.mods.workspace.wiki'")
        version = _text(payload, "version")
        more = {} if version is None else {"version": version}
        return await self._network.load_mod(
            path, config=_mapping(payload, "config"), mod_id=_text(payload, "mod_id"), **more
        )

    async def _unload(self, event: Event, sender: Sender) -> EventResponse:
        cascade = event.payload.get("cascade", False)
        if not isinstance(cascade, bool):
            raise Refusal(f"cascade: expected true or false, got {type(cascade).__name__}")
        return await self._network.unload_mod(_mod(event.payload), cascade=cascade)

    async def _reload(self, event: Event, sender: Sender) -> EventResponse:
        payload = event.payload
        mod = _mod(payload)
        path = _text(payload, "mod_path")  # names the mod, unless something else does
        return await self._network.reload_mod(mod, None if path == mod else path, _mapping(payload, "config"))

    async def _swap(self, event: Event, sender: Sender) -> EventResponse:
        payload = event.payload
        mod, path = _text(payload, "mod"), _text(payload, "mod_path")
        if mod is None or path is None:
            raise Refusal("expected mod, the one that is loaded, and mod_path, such as 'modvisor.mods.workspace.wiki'")
        alias = payload.get("alias", False)
        if not isinstance(alias, bool):
            raise Refusal(f"alias: expected true or false, got {type(alias).__name__}")
        config, mod_id = _mapping(payload, "config"), _text(payload, "mod_id")
        return await self._network.swap_mod(mod, path, config, mod_id=mod_id, alias=alias)

    async def _audience(self, event: Event, sender: Sender) -> EventResponse:
        payload = event.payload
        mod, everyone = _mod(payload), payload.get("everyone", False)
        if not isinstance(everyone, bool):
            raise Refusal(f"everyone: expected true or false, got {type(everyone).__name__}")
        given = {key: payload[key] for key in ("percent", "groups", "agents") if payload.get(key) is not None}
        if not given and not everyone:
            return self._network.get_audience(mod)
        return await self._network.set_audience(mod, everyone=everyone, **given)

    async def _promote(self, event: Event, sender: Sender) -> EventResponse:
        return await self._network.promote_mod(_mod(event.payload))

    async def _rollback(self, event: Event, sender: Sender) -> EventResponse:
        return await self._network.rollback_mod(_mod(event.payload))

    async def _list_loaded(self, event: Event, sender: Sender) -> EventResponse:
        mods = self._network.get_loaded_mods()
        return _system(event, "mod.list", f"{len(mods)} mods", mods=mods)

    async def _list_available(self, event: Event, sender: Sender) -> EventResponse:
        mods = await self._network.available_mods()
        return _system(event, "mod.available", f"{len(mods)} mods could be loaded", mods=mods)


# Commands a mod may use without a permission: they change nothing.
_READING = frozenset({
    "system.list_agents", "system.list_mods", "system.get_channel_members", "system.list_channels", "system.health_check",
})  # fmt: skip
# What a mod needs for the others that agents may use for themselves.
_MOD_PERMISSION = {"system.add_channel_member": "channels", "system.remove_channel_member": "channels"}


def _who(sender: Sender, event: Event) -> str:
    if sender.mod is not None:
        return f"mod {sender.mod.mod_id}"
    return f"agent {sender.agent.agent_id!r}" if sender.agent is not None else str(event.source_id)


def _system(event: Event, command: str, message: str, **data: Any) -> EventResponse:
    """An answer in the shape other agent networks give: clients look for ``type``, ``command`` and their request_id."""
    answer = {"type": "system_response", "command": command, **data}
    if "request_id" in event.payload:
        answer["request_id"] = event.payload["request_id"]
    return EventResponse(True, message, answer)


def _failure(code: str, message: str, /, **details: Any) -> EventResponse:
    return EventResponse(False, message, {**details, "error": str(code)})


def _text(payload: dict[str, Any], key: str) -> str | None:
    value = payload.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidEvent(f"{key}: expected text, got {type(value).__name__}", code=Code.BAD_INPUT)
    return value


def _texts(payload: dict[str, Any], key: str) -> list[str]:
    value = payload.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidEvent(f"{key}: expected a list of texts", code=Code.BAD_INPUT)
    return value


def _mapping(payload: dict[str, Any], key: str) -> dict[str, Any] | None:
    value = payload.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidEvent(f"{key}: expected a mapping, got {type(value).__name__}", code=Code.BAD_INPUT)
    return value


def _channel(payload: dict[str, Any]) -> str:
    channel = _text(payload, "channel_id") or _text(payload, "channel")
    if channel is None:
        raise Refusal("channel_id: expected the name of a channel")
    return channel.removeprefix("channel:")


def _mod(payload: dict[str, Any]) -> str:
    mod = _text(payload, "mod_id") or _text(payload, "mod_path") or _text(payload, "mod")
    if mod is None:
        raise Refusal("mod_id: expected the id or path of a loaded mod")
    return mod
