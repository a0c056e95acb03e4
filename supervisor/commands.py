"""The ``system.*`` events: what the network itself answers, and who may ask for it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext

from ..ipc.errors import Code, ModvisorError
from ..ipc.event import Event, EventResponse
from .agent_commands import AgentCommands
from .agents import AgentRegistry, Refusal
from .audit import acting
from .command import EVERY, Command, Given, answered, check_keys, failure, once, short_name, who_is
from .config import ENTRY_KEYS
from .events import Sender
from .operations import Operations

logger = logging.getLogger("modvisor.commands")

LOAD_KEYS = frozenset(ENTRY_KEYS) - {"path", "name", "id", "config", "version", "enabled", "required"}
"""The other keys of a mod's entry, which `Operations.load_mod` takes, too."""

_MOD = frozenset({"mod_id", "mod_path", "mod"}) | EVERY
_ENTRY = frozenset({"mod_id", "mod_path", "path", "config", "version"}) | EVERY
_SWAP = frozenset({"mod", "mod_path", "mod_id", "config", "alias"}) | EVERY


class SystemCommands:
    """The network's own commands, by event name. Every answer is a response, never an exception."""

    def __init__(self, network: Operations, agents: AgentRegistry) -> None:
        self._network = network
        self._about_agents = AgentCommands(network, agents)
        self._commands: dict[str, Command] = {
            **self._about_agents.commands,
            "system.list_mods": Command(self._list_mods, for_mods=None),
            "system.health_check": Command(self._health_check, for_mods=None),
            "system.mod.load": once(self._load, "mods", keys=_ENTRY | LOAD_KEYS),
            "system.mod.unload": once(self._unload, "mods", keys=_MOD | {"cascade"}),
            "system.mod.reload": once(self._reload, "mods", keys=_MOD | {"config"}),
            "system.mod.swap": once(self._swap, "mods", keys=_SWAP),
            "system.mod.audience": once(
                self._audience, "mods", keys=_MOD | {"percent", "groups", "agents", "everyone"}
            ),
            "system.mod.promote": once(self._promote, "mods", keys=_MOD),
            "system.mod.rollback": once(self._rollback, "mods", keys=_MOD),
            "system.mod.list": Command(self._list_loaded, "mods"),
            "system.mod.available": Command(self._list_available, "mods"),
        }

    async def __call__(self, event: Event, sender: Sender) -> EventResponse:
        command = self._commands.get(event.event_name)
        if command is None:
            known = ", ".join(map(short_name, self._commands))
            return failure(Code.UNKNOWN_EVENT, f"unknown command {event.event_name!r}; system.* knows {known}")
        try:
            self._check_permission(event, sender, command)
            check_keys(event, command)
            with _acting(event, sender):
                return await command.run(event, sender)
        except ModvisorError as error:
            if error.code in (Code.FORBIDDEN, Code.UNAUTHENTICATED, Code.TOO_MANY):
                self._network.note_refused(event, str(error), error.code, sender.address)
            return failure(error.code, str(error), **error.details)
        except Exception:  # a mistake of ours must not end the connection or the mod that asked
            logger.exception("%s from %s failed", event.event_name, event.source_id)
            return failure(
                Code.INTERNAL, f"{event.event_name} failed inside the network; the network's log has the traceback"
            )

    @property
    def repeated(self) -> frozenset[str]:
        """The commands that a retry does not run again; see `Command`."""
        return frozenset(name for name, command in self._commands.items() if command.is_repeated)

    # -- who may

    def _check_permission(self, event: Event, sender: Sender, command: Command) -> None:
        permission = command.permission
        if permission is None and sender.mod is not None:
            permission = command.for_mods
        if permission is None or self._about_agents.has(sender, permission):
            return
        where = "in its config" if sender.mod is not None else "of its agent group"
        raise Refusal(
            f"{who_is(sender, event)} may not use {event.event_name}: it needs the permission {permission!r} {where}",
            code=Code.FORBIDDEN,
        )

    # -- the network and its mods

    async def _health_check(self, event: Event, sender: Sender) -> EventResponse:
        return EventResponse(True, "healthy", self._network.health())

    async def _list_mods(self, event: Event, sender: Sender) -> EventResponse:
        mods = self._network.describe_mods()
        return answered(event, f"{len(mods)} mods", mods=mods)

    async def _load(self, event: Event, sender: Sender) -> EventResponse:
        given = Given(event)
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
        given = Given(event)
        cascade = given.flag("cascade")
        return await self._network.unload_mod(given.mod(), cascade=cascade)

    async def _reload(self, event: Event, sender: Sender) -> EventResponse:
        given = Given(event)
        mod, path = given.mod(), given.text("mod_path")
        # Without a mod_id, the path names the mod and is no new path.
        return await self._network.reload_mod(mod, None if path == mod else path, given.mapping("config"))

    async def _swap(self, event: Event, sender: Sender) -> EventResponse:
        given = Given(event)
        mod, path = given.text("mod"), given.text("mod_path")
        if mod is None or path is None:
            raise Refusal(
                "expected mod, the id or path of a loaded mod, and mod_path, such as 'modvisor.mods.workspace.wiki'"
            )
        alias, config, mod_id = given.flag("alias"), given.mapping("config"), given.text("mod_id")
        return await self._network.swap_mod(mod, path, config, mod_id=mod_id, alias=alias)

    async def _audience(self, event: Event, sender: Sender) -> EventResponse:
        given, payload = Given(event), event.payload
        mod, everyone = given.mod(), given.flag("everyone")
        audience = {key: payload[key] for key in ("percent", "groups", "agents") if payload.get(key) is not None}
        if not audience and not everyone:
            return self._network.get_audience(mod)
        return await self._network.set_audience(mod, everyone=everyone, **audience)

    async def _promote(self, event: Event, sender: Sender) -> EventResponse:
        return await self._network.promote_mod(Given(event).mod())

    async def _rollback(self, event: Event, sender: Sender) -> EventResponse:
        return await self._network.rollback_mod(Given(event).mod())

    async def _list_loaded(self, event: Event, sender: Sender) -> EventResponse:
        mods = self._network.get_loaded_mods()
        return answered(event, f"{len(mods)} mods", mods=mods)

    async def _list_available(self, event: Event, sender: Sender) -> EventResponse:
        mods = await self._network.available_mods()
        return answered(event, f"{len(mods)} mods could be loaded", mods=mods)


def _acting(event: Event, sender: Sender) -> AbstractContextManager[None]:
    """Name the sender for the audit. What is trusted is done by whoever sends it, such as an operator."""
    if sender.mod is not None:
        return acting(f"mod:{sender.mod.mod_id}")
    if sender.trusted:
        return nullcontext()
    return acting(str(event.source_id) if sender.agent is None else f"agent:{sender.agent.agent_id}", sender.address)
