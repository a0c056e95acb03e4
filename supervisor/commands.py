"""The ``system.*`` events: what the network itself answers, and who may ask for it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Never

from ..ipc.errors import Code, ModvisorError
from ..ipc.event import Event, EventResponse
from .agents import MAX_POLL_WAIT, Agent, AgentRegistry, Refusal
from .audit import acting
from .config import ENTRY_KEYS, hint
from .events import Sender
from .operations import Operations

logger = logging.getLogger("modvisor.commands")


class _Command(NamedTuple):
    """A command and the permission that its sender needs.

    Attributes:
        permission: what an agent's group or a mod must be granted. None: any authenticated agent
            may use the command.
        for_mods: what a mod needs if ``permission`` is None. A mod has no inbox or subscription of
            its own, so whatever it changes, it changes for others. None: the command only reads.
        keys: what its payload may hold; an unknown key is refused. None: it is ignored, because
            clients of other agent networks send more.
        is_repeated: whether a retry (an event with the same id) gets the first answer. Commands
            that only read are run again. A registration is, too: its answer holds a secret, which
            only a new proof may get.
    """

    run: Callable[[Event, Sender], Awaitable[EventResponse]]
    permission: str | None = None
    for_mods: str | None = "agents"
    keys: frozenset[str] | None = None
    is_repeated: bool = False


LOAD_KEYS = frozenset(ENTRY_KEYS) - {"path", "name", "id", "config", "version", "enabled", "required"}
"""The other keys of a mod's entry, which `Operations.load_mod` takes, too."""

_EVERY = frozenset({"request_id", "command"})  # what clients of other agent networks send with every command
_MOD = frozenset({"mod_id", "mod_path", "mod"}) | _EVERY
_ENTRY = frozenset({"mod_id", "mod_path", "path", "config", "version"}) | _EVERY
_SWAP = frozenset({"mod", "mod_path", "mod_id", "config", "alias"}) | _EVERY


def _once(*command: Any, keys: frozenset[str] | None = None, **more: Any) -> _Command:
    """Return a command that changes something, so that a retry must not run it again."""
    return _Command(*command, **more, keys=keys, is_repeated=True)


class SystemCommands:
    """The network's own commands, by event name. Every answer is a response, never an exception."""

    def __init__(self, network: Operations, agents: AgentRegistry) -> None:
        self._network = network
        self._agents = agents
        self._commands: dict[str, _Command] = {
            "system.register_agent": _Command(self._register),
            "system.unregister_agent": _once(self._unregister),
            "system.list_agents": _Command(self._list_agents, for_mods=None),
            "system.list_mods": _Command(self._list_mods, for_mods=None),
            "system.kick_agent": _once(self._kick, "agents"),
            "system.poll_messages": _once(self._poll),
            "system.subscribe_events": _once(self._subscribe),
            "system.unsubscribe_events": _once(
                self._unsubscribe, keys=frozenset({"subscription_id", "agent_id"}) | _EVERY
            ),
            "system.add_channel_member": _once(self._add_member, for_mods="channels"),
            "system.remove_channel_member": _once(self._remove_member, for_mods="channels"),
            "system.get_channel_members": _Command(self._get_members, for_mods=None),
            "system.remove_channel": _once(self._remove_channel, "channels"),
            "system.list_channels": _Command(self._list_channels, for_mods=None),
            "system.health_check": _Command(self._health_check, for_mods=None),
            "system.heartbeat": _Command(self._heartbeat),
            "system.ping_agent": _Command(self._heartbeat),
            "system.mod.load": _once(self._load, "mods", keys=_ENTRY | LOAD_KEYS),
            "system.mod.unload": _once(self._unload, "mods", keys=_MOD | {"cascade"}),
            "system.mod.reload": _once(self._reload, "mods", keys=_MOD | {"config"}),
            "system.mod.swap": _once(self._swap, "mods", keys=_SWAP),
            "system.mod.audience": _once(
                self._audience, "mods", keys=_MOD | {"percent", "groups", "agents", "everyone"}
            ),
            "system.mod.promote": _once(self._promote, "mods", keys=_MOD),
            "system.mod.rollback": _once(self._rollback, "mods", keys=_MOD),
            "system.mod.list": _Command(self._list_loaded, "mods"),
            "system.mod.available": _Command(self._list_available, "mods"),
        }

    async def __call__(self, event: Event, sender: Sender) -> EventResponse:
        command = self._commands.get(event.event_name)
        if command is None:
            known = ", ".join(map(_short, self._commands))
            return _failure(Code.UNKNOWN_EVENT, f"unknown command {event.event_name!r}; system.* knows {known}")
        try:
            self._check_permission(event, sender, command)
            _check_keys(event, command)
            with _acting(event, sender):
                return await command.run(event, sender)
        except ModvisorError as error:
            if error.code in (Code.FORBIDDEN, Code.UNAUTHENTICATED, Code.TOO_MANY):
                self._network.note_refused(event, str(error), error.code, sender.address)
            return _failure(error.code, str(error), **error.details)
        except Exception:
            logger.exception("%s from %s failed", event.event_name, event.source_id)
            return _failure(
                Code.INTERNAL, f"{event.event_name} failed inside the network; the network's log has the traceback"
            )

    @property
    def repeated(self) -> frozenset[str]:
        """The commands that a retry does not run again; see `_Command`."""
        return frozenset(name for name, command in self._commands.items() if command.is_repeated)

    # -- who may

    def _check_permission(self, event: Event, sender: Sender, command: _Command) -> None:
        permission = command.permission
        if permission is None and sender.mod is not None:
            permission = command.for_mods
        if permission is None or self._has(sender, permission):
            return
        where = "in its config" if sender.mod is not None else "of its agent group"
        raise Refusal(
            f"{_who(sender, event)} may not use {event.event_name}: it needs the permission {permission!r} {where}",
            code=Code.FORBIDDEN,
        )

    def _has(self, sender: Sender, permission: str) -> bool:
        return sender.trusted or permission in self._permissions_of(sender)

    def _permissions_of(self, sender: Sender) -> frozenset[str]:
        if sender.mod is not None:
            return sender.mod.permissions
        return self._agents.permissions_of(sender.agent) if sender.agent is not None else frozenset()

    def _subject(self, event: Event, sender: Sender, permission: str) -> Agent:
        """Return the agent that a command is about: the payload's ``agent_id``, or the sender.

        Another agent than the sender needs ``permission``.
        """
        agent_id = _agent_id(event).removeprefix("agent:")
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
        given, agent_id = _Given(event), _agent_id(event)
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
        target = _Given(event).text("target_agent_id")
        if target is None:
            raise Refusal("target_agent_id: expected the id of the agent to kick")
        if sender.agent is not None and sender.agent.agent_id == target:
            raise Refusal("an agent cannot kick itself; use system.unregister_agent")
        by = sender.agent.agent_id if sender.agent is not None else str(event.source_id)
        kicked = await self._network.kick_agent(target, by)
        return _answer(event, str(kicked.message), **kicked.data) if kicked.success else kicked

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
        return _answer(event, f"{len(agents)} agents", agents=agents)

    async def _poll(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        wait = _Given(event).seconds("wait", MAX_POLL_WAIT)
        events = await self._agents.poll(agent, wait)
        messages = [received.to_dict() for received in events]
        losses = self._agents.take_losses(agent)
        more = {} if losses is None else {"dropped": losses.to_dict()}
        return _answer(event, f"{len(messages)} events", messages=messages, **more)

    async def _subscribe(self, event: Event, sender: Sender) -> EventResponse:
        agent, given = self._subject(event, sender, "agents"), _Given(event)
        patterns = given.texts("event_patterns")
        if not patterns:
            raise Refusal("event_patterns: expected a list of at least one pattern, such as ['wiki.*']")
        channels = given.texts("channels")
        subscription = self._agents.subscribe(agent, patterns, channels)
        return _answer(
            event, f"subscribed to {len(patterns)} patterns",
            subscription_id=subscription.subscription_id, agent_id=agent.agent_id, event_patterns=patterns, channels=channels,
        )  # fmt: skip

    async def _unsubscribe(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        subscription_id = _Given(event).text("subscription_id")
        self._agents.unsubscribe(agent, subscription_id)
        if subscription_id is None:
            return _answer(event, "unsubscribed from everything", agent_id=agent.agent_id)
        return _answer(event, "unsubscribed", subscription_id=subscription_id, agent_id=agent.agent_id)

    async def _heartbeat(self, event: Event, sender: Sender) -> EventResponse:
        agent = self._subject(event, sender, "agents")
        self._agents.seen(agent)
        return _answer(event, "noted", command="heartbeat", agent_id=agent.agent_id)

    # -- channels

    async def _add_member(self, event: Event, sender: Sender) -> EventResponse:
        return await self._change_member(event, sender, self._agents.join, "is a member of")

    async def _remove_member(self, event: Event, sender: Sender) -> EventResponse:
        return await self._change_member(event, sender, self._agents.leave, "left")

    async def _change_member(
        self, event: Event, sender: Sender, change: Callable[[str, str], object], done: str
    ) -> EventResponse:
        agent, channel = self._subject(event, sender, "channels"), _Given(event).channel()
        await self._agents.kept(lambda: change(channel, agent.agent_id))
        return _answer(event, f"{agent.agent_id} {done} {channel}", channel_id=channel, agent_id=agent.agent_id)

    async def _get_members(self, event: Event, sender: Sender) -> EventResponse:
        channel = _Given(event).channel()
        members = self._agents.channel_members(channel)
        if members is None:
            raise Refusal(f"no channel {channel!r}", code=Code.NO_SUCH_CHANNEL)
        return _answer(event, f"{len(members)} members", channel_id=channel, members=members)

    async def _remove_channel(self, event: Event, sender: Sender) -> EventResponse:
        channel = _Given(event).channel()
        await self._agents.kept(lambda: self._agents.remove_channel(channel))
        return _answer(event, f"channel {channel} removed", channel_id=channel)

    async def _list_channels(self, event: Event, sender: Sender) -> EventResponse:
        channels = self._agents.channels()
        return _answer(event, f"{len(channels)} channels", channels=channels)

    # -- the network and its mods

    async def _health_check(self, event: Event, sender: Sender) -> EventResponse:
        return EventResponse(True, "healthy", self._network.health())

    async def _list_mods(self, event: Event, sender: Sender) -> EventResponse:
        mods = self._network.describe_mods()
        return _answer(event, f"{len(mods)} mods", mods=mods)

    async def _load(self, event: Event, sender: Sender) -> EventResponse:
        given = _Given(event)
        path = given.text("mod_path", "path")
        if path is None:
            raise Refusal("mod_path: expected text such as 'modvisor.mods.workspace.wiki'")
        more = {key: event.payload[key] for key in sorted(LOAD_KEYS) if event.payload.get(key) is not None}
        if more and not sender.trusted:  # they give rights, or take of the machine what the operator must grant
            raise Refusal(
                f"{', '.join(more)}: only the operator may set this; name the mod in the network file, or load it "
                "with 'modvisor load'",
                code=Code.FORBIDDEN,
            )
        if (version := given.text("version")) is not None:
            more["version"] = version
        return await self._network.load_mod(path, given.mapping("config"), mod_id=given.text("mod_id"), **more)

    async def _unload(self, event: Event, sender: Sender) -> EventResponse:
        given = _Given(event)
        cascade = given.flag("cascade")
        return await self._network.unload_mod(given.mod(), cascade=cascade)

    async def _reload(self, event: Event, sender: Sender) -> EventResponse:
        given = _Given(event)
        mod, path = given.mod(), given.text("mod_path")
        # Without a mod_id, the path names the mod and is no new path.
        return await self._network.reload_mod(mod, None if path == mod else path, given.mapping("config"))

    async def _swap(self, event: Event, sender: Sender) -> EventResponse:
        given = _Given(event)
        mod, path = given.text("mod"), given.text("mod_path")
        if mod is None or path is None:
            raise Refusal(
                "expected mod, the id or path of a loaded mod, and mod_path, such as 'modvisor.mods.workspace.wiki'"
            )
        alias, config, mod_id = given.flag("alias"), given.mapping("config"), given.text("mod_id")
        return await self._network.swap_mod(mod, path, config, mod_id=mod_id, alias=alias)

    async def _audience(self, event: Event, sender: Sender) -> EventResponse:
        given, payload = _Given(event), event.payload
        mod, everyone = given.mod(), given.flag("everyone")
        audience = {key: payload[key] for key in ("percent", "groups", "agents") if payload.get(key) is not None}
        if not audience and not everyone:
            return self._network.get_audience(mod)
        return await self._network.set_audience(mod, everyone=everyone, **audience)

    async def _promote(self, event: Event, sender: Sender) -> EventResponse:
        return await self._network.promote_mod(_Given(event).mod())

    async def _rollback(self, event: Event, sender: Sender) -> EventResponse:
        return await self._network.rollback_mod(_Given(event).mod())

    async def _list_loaded(self, event: Event, sender: Sender) -> EventResponse:
        mods = self._network.get_loaded_mods()
        return _answer(event, f"{len(mods)} mods", mods=mods)

    async def _list_available(self, event: Event, sender: Sender) -> EventResponse:
        mods = await self._network.available_mods()
        return _answer(event, f"{len(mods)} mods could be loaded", mods=mods)


def _check_keys(event: Event, command: _Command) -> None:
    """Refuse a key that the command does not know: a misspelt one would be ignored with success."""
    unknown = [] if command.keys is None else [key for key in event.payload if key not in command.keys]
    if unknown:
        raise Refusal("; ".join(f"{key}: unknown key; {hint(key, command.keys or ())}" for key in unknown))


class _Given:
    """The payload of a command, read field by field.

    A field that is not as expected is refused by name.

    Every reader raises `Refusal` (``bad_input``). None and empty text count as absent.
    """

    def __init__(self, event: Event) -> None:
        self._payload = event.payload

    def text(self, *names: str) -> str | None:
        """Return the first of these fields that is given."""
        for name in names:
            value = self._payload.get(name)
            if value is not None and value != "":
                return value if isinstance(value, str) else self._refuse(name, "text", value)
        return None

    def texts(self, name: str) -> list[str]:
        value = self._payload.get(name) or []
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        raise Refusal(f"{name}: expected a list of texts")

    def mapping(self, name: str) -> dict[str, Any] | None:
        value = self._payload.get(name)
        return value if value is None or isinstance(value, dict) else self._refuse(name, "a mapping", value)

    def flag(self, name: str) -> bool:
        value = self._payload.get(name, False)
        return value if isinstance(value, bool) else self._refuse(name, "true or false", value)

    def seconds(self, name: str, most: float) -> float:
        value = self._payload.get(name, 0)
        if type(value) in (int, float) and 0 <= value <= most:
            return float(value)
        raise Refusal(f"{name}: expected seconds from 0 to {most:g}, got {value!r}")

    def channel(self) -> str:
        channel = self.text("channel_id", "channel")
        if channel is None:
            raise Refusal("channel_id: expected the name of a channel")
        return channel.removeprefix("channel:")

    def mod(self) -> str:
        mod = self.text("mod_id", "mod_path", "mod")
        if mod is None:
            raise Refusal("mod_id: expected the id or path of a loaded mod")
        return mod

    @staticmethod
    def _refuse(name: str, expected: str, value: Any) -> Never:
        raise Refusal(f"{name}: expected {expected}, got {type(value).__name__}")


def _agent_id(event: Event) -> str:
    """Return the ``agent_id`` of a payload, or else the agent that sent the event."""
    agent_id = event.payload.get("agent_id", event.source_agent)
    if not isinstance(agent_id, str):
        raise Refusal("agent_id: expected the id of an agent")
    return agent_id


def _who(sender: Sender, event: Event) -> str:
    if sender.mod is not None:
        return f"mod {sender.mod.mod_id}"
    return f"agent {sender.agent.agent_id!r}" if sender.agent is not None else str(event.source_id)


def _acting(event: Event, sender: Sender) -> AbstractContextManager[None]:
    """Name the sender for the audit. What is trusted is done by whoever sends it, such as an operator."""
    if sender.mod is not None:
        return acting(f"mod:{sender.mod.mod_id}")
    if sender.trusted:
        return nullcontext()
    return acting(str(event.source_id) if sender.agent is None else f"agent:{sender.agent.agent_id}", sender.address)


def _answer(event: Event, message: str, **data: Any) -> EventResponse:
    """Return a response in the shape that clients of other agent networks expect.

    They look for ``type``, ``command`` and their request_id.
    """
    answer = {"type": "system_response", "command": _short(event.event_name), **data}
    if "request_id" in event.payload:
        answer["request_id"] = event.payload["request_id"]
    return EventResponse(True, message, answer)


def _short(event_name: str) -> str:
    return event_name.removeprefix("system.")


def _failure(code: str, message: str, /, **details: Any) -> EventResponse:
    return EventResponse(False, message, {**details, "error": str(code)})
