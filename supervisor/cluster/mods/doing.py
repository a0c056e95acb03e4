"""Commands on mods of a cluster: asked for on any node, done by the node that has the mod.

The command is written into the mod's record (`desired`), the node that has the mod does it with its own
`ModCommands`, and writes there what came of it. A node that dies meanwhile is replaced: the next one
that has the mod finds the command and does it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import ALL_NODES, ModConfig, NetworkConfig, PlacementConfig, mod_config, with_changes
from ...fleet import Changes, Loading, ModElsewhere, ModRegistry
from ...lifecycle import Keeper
from ..link.errors import ClusterError
from ..nodes.session import Session
from .audiences import SharedAudiences
from .claims import NodeClaims
from .codes import Codes
from .desired import Command, Desired, Record
from .placement import allowed, chosen
from .placing import Placing
from .rolling import Rolling, code_of, why_failed
from .steps import LOAD, RELOAD, RESTART, REVERT, SWAP, UNLOAD
from .swapping import LeftToOthers, Swapping, runs_here
from .wanted import Wanted, override_of, swapped_for

logger = logging.getLogger("modvisor.cluster")

PAUSE = 0.5
"""Seconds between two tries to write down what a command has come to."""

NOWHERE = PlacementConfig(on=("",))
"""The placement of a mod that this node cannot read: it leaves the mod to others."""

Done = tuple[EventResponse, dict[str, Any]]
"""What came of a command, and what changes in the record of its mod."""


class Doing:
    """Asks for commands, and does those that are this node's.

    Attributes:
        apply_file: applies a changed network file on this node; assigned before the first one.
    """

    apply_file: Callable[[NetworkConfig, NetworkConfig], Awaitable[Changes]]

    def __init__(
        self,
        mods: ModRegistry,
        loading: Loading,
        desired: Desired,
        wanted: Wanted,
        claims: NodeClaims,
        session: Session,
        placing: Placing,
        tasks: TaskGroup,
        audiences: SharedAudiences,
        codes: Codes,
        swapping: Swapping,
        rolling: Rolling,
    ) -> None:
        self._mods = mods
        self._loading = loading
        self._desired = desired
        self._wanted = wanted
        self._claims = claims
        self._session = session
        self._placing = placing
        self._tasks = tasks
        self._codes = codes
        self._swapping = swapping
        self.set_audience = audiences.set_audience
        self.promote = audiences.promote
        self.rollback = audiences.rollback
        self._rolling = rolling
        self._one_version = rolling.one_version
        self._one_version.freed = self.look
        self._begun: set[str] = set()  # ids of commands
        self._do: dict[str, Callable[[str, dict[str, Any]], Awaitable[Done]]] = {
            LOAD: self._load,
            UNLOAD: self._unload,
            RELOAD: self._reload,
            RESTART: self._restart,
            SWAP: self._swap,
        }

    def reconfigure(self, old: NetworkConfig, new: NetworkConfig, /) -> Awaitable[Changes]:
        """Apply a changed network file, on this node."""
        return self.apply_file(old, new)

    # -- asking

    async def load(self, config: ModConfig) -> EventResponse:
        """Load a mod on the node that placement chooses."""
        if (refusal := self._mods.may_load(config)) is not None:
            return refusal
        args = {"path": config.path, "spec": config.spec}
        if not config.placement.has_copies:
            return await self._command(config.mod_id, LOAD, args, config.placement)
        wanted = {**self._as_wanted(args), "position": self._behind_all()}
        return await self._command(config.mod_id, LOAD, args, config.placement, wanted)

    async def unload(self, mod: str, timeout: float | None, *, cascade: bool) -> EventResponse:
        """Unload a mod, and with ``cascade`` first the mods that need it."""
        found = self._mods.named(mod)
        if isinstance(found, EventResponse):
            return found
        if not cascade and (refusal := self._loading.needed(found)) is not None:
            return refusal
        needed = self._loading.needing(found.mod_id)
        for mod_id in needed:
            response = await self._command(mod_id, UNLOAD, {"timeout": timeout})
            if not response.success:
                return response
        response = await self._command(found.mod_id, UNLOAD, {"timeout": timeout})
        if response.success and isinstance(response.data, dict):
            response.data["unloaded"] = [*needed, found.mod_id]
        return response

    async def reload(self, mod: str, config: dict[str, Any] | None, mod_path: str | None) -> EventResponse:
        return await self._on(mod, RELOAD, {"config": config, "mod_path": mod_path})

    async def restart(self, mod: str) -> EventResponse:
        return await self._on(mod, RESTART, {})

    async def swap(self, mod: str, config: ModConfig, *, alias: bool) -> EventResponse:
        args = {"path": config.path, "mod_id": config.mod_id, "spec": config.spec, "alias": alias}
        found = self._mods.named(mod)
        if isinstance(found, EventResponse):
            return found
        if not (config.placement.has_copies or found.config.placement.has_copies):
            return await self._command(found.mod_id, SWAP, args)
        if config.mod_id != found.mod_id or config.placement.copies != found.config.placement.copies:
            return _no_swap(found.mod_id)
        return await self._command(found.mod_id, RELOAD, {"entry": args})

    def reverted(self, keeper: Keeper, what: str) -> None:
        """Have all copies of a mod go back, because one here has gone back to the version before by itself.

        Of a mod that runs once, the record goes back.
        """
        mod_id, record = keeper.config.name, self._desired.records.get(keeper.config.name)
        if record is None or not self._wanted.is_exclusive(mod_id):
            return
        if keeper.config.replica is None:
            self._tasks.start_soon(self._went_back, mod_id, name=f"went-back-{mod_id}")
            return
        if keeper.mod_id in self._rolling.going_back:
            return
        reload = None if record.before is None else record.before["reload"]
        if record.command is not None and record.command.do == RELOAD and keeper.mod_id in record.steps:
            reload = record.command.id  # all go back when it is over
        args = {"why": f"copy {keeper.mod_id} has failed", "reload": reload}
        self._tasks.start_soon(self._command, mod_id, REVERT, args, name=f"revert-{mod_id}")

    async def _went_back(self, mod_id: str) -> None:
        """Record that a mod which runs once is wanted as it runs here: as before its reload."""
        session = self._session.id
        while self._session.id == session and runs_here(self._mods.get(mod_id)):
            try:
                await self._desired.edit(mod_id, lambda record: record.changed(**self._kept(mod_id)))
            except ClusterError as error:
                logger.warning("mod %s: that it has gone back is recorded later: %s", mod_id, error)
                await anyio.sleep(PAUSE)
            else:
                return

    async def _on(self, mod: str, do: str, args: dict[str, Any]) -> EventResponse:
        found = self._mods.named(mod)
        return found if isinstance(found, EventResponse) else await self._command(found.mod_id, do, args)

    async def _command(
        self,
        mod_id: str,
        do: str,
        args: dict[str, Any],
        placement: PlacementConfig | None = None,
        wanted: dict[str, Any] | None = None,
    ) -> EventResponse:
        """Write a command into the record of a mod, and wait for what comes of it.

        Args:
            wanted: what changes in the record with the command.
        """
        if not self.doers(mod_id, placement):
            text = f"mod {mod_id}: the {do} has nobody to do it: no node that is there may run the mod (placement.on)"
            return EventResponse.failure(Code.MOD_AWAY, text, mod_id=mod_id)
        if (why := await self._differs(mod_id, do, args)) is not None:
            return EventResponse.failure(Code.CONFLICT, f"mod {mod_id}: the {do} was not done: {why}", mod_id=mod_id)
        try:
            command = await self._desired.order(mod_id, do, args, self.is_over, **(wanted or {}))
            self.look()
            return await self._desired.outcome(command, mod_id, self.is_over)
        except ModvisorError as error:
            return EventResponse.failure(error.code, f"mod {mod_id}: the {do} was not done: {error}", mod_id=mod_id)

    async def _differs(self, mod_id: str, do: str, args: dict[str, Any]) -> str | None:
        """Return how the files differ of which several nodes are about to run a mod."""
        if do not in (LOAD, RELOAD):
            return None
        config = self._wanted.configs.get(mod_id) if do == RELOAD else self._config_of(mod_id, args)
        if config is None:
            return None
        path, given = args.get("mod_path"), args.get("config")
        config = config if path is None else with_changes(config, path=path, config=given)
        return await self._codes.compare(config, self.doers(mod_id, config.placement))

    # -- who does it

    def is_over(self, record: Record) -> bool:
        """Whether every node that had to do the command of a record has done it, or is gone."""
        if record.command is None:
            return True
        done = set(record.done or ())
        return bool(done) and (self._is_exclusive(record) or done.issuperset(self.doers(record.mod_id)))

    def _is_exclusive(self, record: Record) -> bool:
        return self._placement_of(record.mod_id).copies != ALL_NODES

    def _placement_of(self, mod_id: str) -> PlacementConfig:
        if (config := self._wanted.configs.get(mod_id)) is not None:
            return config.placement
        record = self._desired.records.get(mod_id)
        if record is not None and record.command is not None and record.command.do == LOAD:
            try:
                return self._config_of(mod_id, record.command.args).placement
            except (ModvisorError, KeyError, TypeError, ValueError) as error:  # this node lacks the mod, or is older
                logger.debug("mod %s cannot be read here from the command to load it: %s", mod_id, error)
                return NOWHERE
        return PlacementConfig()

    def _config_of(self, mod_id: str, args: dict[str, Any]) -> ModConfig:
        return mod_config(args["path"], base_dir=self._mods.base_dir, mod_id=mod_id, **(args["spec"] or {}))

    def config_of(self, mod_id: str, path: str, spec: dict[str, Any] | None) -> ModConfig:
        """Return the wanted config of a mod that another node asks about."""
        known = self._wanted.configs.get(mod_id)
        if known is not None and known.path == path:
            return known
        return self._config_of(mod_id, {"path": path, "spec": spec})

    def doers(self, mod_id: str, placement: PlacementConfig | None = None) -> list[str]:
        """Return the nodes that do a command on a mod: the one that has it, or should have it."""
        placement, places = placement or self._placement_of(mod_id), self._placing.duties.places()
        if placement.copies == ALL_NODES:
            return allowed(placement, places)
        if placement.has_copies:
            nodes = (self._claims.node_of(unit) for unit in self._wanted.units if unit.startswith(f"{mod_id}#"))
            return sorted({node for node in nodes if node is not None} | {*allowed(placement, places)})
        holder = self._claims.node_of(mod_id) or chosen(mod_id, placement, places)
        return [] if holder is None else [holder]

    # -- doing

    def look(self, *_: object) -> None:
        """Begin the commands that this node has to do."""
        for record in self._desired.records.values():
            command = record.command
            if command is None or command.id in self._begun or self.is_over(record):
                self._one_version.look(record)
                continue
            if self._placement_of(record.mod_id).has_copies:
                self._rolling.look(record)
                continue
            if self._session.node in (record.done or ()) or self._session.node not in self.doers(record.mod_id):
                continue
            if self._is_ready_for(record) and self._placing.reserve(record.mod_id):
                self._begun.add(command.id)
                self._tasks.start_soon(self._carry_out, command, record.mod_id, name=f"{command.do}-{record.mod_id}")

    def told(self, unit: str) -> None:
        """Follow a change of the status of a mod or copy."""
        if (record := self._desired.records.get(unit.partition("#")[0])) is not None:
            self._one_version.look(record)

    def _is_ready_for(self, record: Record) -> bool:
        """Whether the mod of a command is here, if it must be. The next node starts it first."""
        config = self._wanted.configs.get(record.mod_id)
        if record.command is None or record.command.do in (LOAD, UNLOAD) or config is None:
            return True
        return runs_here(self._mods.get(record.mod_id))

    async def _carry_out(self, command: Command, mod_id: str) -> None:
        try:
            try:
                if command.do in (RELOAD, RESTART) and self._wanted.is_uneven(mod_id):
                    raise ModvisorError("what is kept of its copies is not put together", code=Code.STATE_REFUSED)
                response, changes = await self._do[command.do](mod_id, command.args)
            except Exception as error:  # noqa: BLE001 - a command that fails must not end the node
                text = f"mod {mod_id}: the {command.do} failed: {why_failed(error)}"
                response, changes = EventResponse.failure(code_of(error), text, mod_id=mod_id), {}
            await self._answer(command, mod_id, response, changes)
            await self._swapping.answered(mod_id)
        except LeftToOthers:
            logger.warning("mod %s: the %s is left to the next node that has the mod", mod_id, command.do)
            await anyio.sleep(PAUSE)
        except ModvisorError as error:  # tried again, by whoever has the mod then
            logger.warning("mod %s: what came of the %s was not written: %s", mod_id, command.do, error)
            await anyio.sleep(PAUSE)
        finally:
            self._begun.discard(command.id)
            self._placing.free(mod_id)
        self.look()

    async def _answer(self, command: Command, mod_id: str, response: EventResponse, changes: dict[str, Any]) -> None:
        """Write down what a command has come to, which is done: nobody does it again while this node may say so.

        Raises:
            ClusterError: this node has lost its session, and with it the mod.
        """
        session = self._session.id
        while True:
            try:
                return await self._desired.answer(command, mod_id, response, **changes)
            except ClusterError as error:
                if session is None or self._session.id != session:
                    raise
                logger.warning("mod %s: what came of the %s is written later: %s", mod_id, command.do, error)
                await anyio.sleep(PAUSE)

    async def _load(self, mod_id: str, args: dict[str, Any]) -> Done:
        config = self._config_of(mod_id, args)
        response = await self._loading.load(config)
        if response.success and isinstance(response.data, dict):
            for brought in response.data.get("dependencies", ()):
                await self._keep(brought)
        return response, {**self._as_wanted(args), "position": self._behind_all()}

    async def _keep(self, mod_id: str) -> None:
        """Record a mod as wanted that was loaded because another mod requires it."""
        mod = self._mods.get(mod_id)
        if mod is not None and mod.config.spec is not None:
            args, position = {"path": mod.config.path, "spec": mod.config.spec}, self._behind_all()
            wanted = self._as_wanted(args)
            await self._desired.edit(mod_id, lambda record: record.changed(position=position, **wanted))

    def _behind_all(self) -> float:
        return 1 + max((record.position for record in self._desired.records.values()), default=0.0)

    @staticmethod
    def _as_wanted(args: dict[str, Any]) -> dict[str, Any]:
        return {"path": args["path"], "spec": args["spec"], "is_unloaded": False, "place_of": None}

    async def _unload(self, mod_id: str, args: dict[str, Any]) -> Done:
        mod = self._mods.get(mod_id)
        gone = {"is_unloaded": True, "path": None, "spec": None}
        if mod is None or isinstance(mod, ModElsewhere):  # its node is gone; nothing of it runs
            data = {"mod_id": mod_id, "mod_path": None if mod is None else mod.config.path}
            return EventResponse(True, f"mod {mod_id} unloaded", data), gone
        return await self._loading.commands.unload(mod_id, args["timeout"]), gone

    async def _reload(self, mod_id: str, args: dict[str, Any]) -> Done:
        response = await self._loading.commands.reload(mod_id, args["config"], args["mod_path"])
        if response.success:
            self._codes.accepted(mod_id)
        return response, self._kept(mod_id)

    async def _restart(self, mod_id: str, _args: dict[str, Any]) -> Done:
        return await self._loading.commands.restart(mod_id), {}

    def _kept(self, mod_id: str) -> dict[str, Any]:
        """Return how a mod is wanted from now on. For a mod of the file, the file says it, and what differs from it."""
        mod, entry = self._mods.get(mod_id), self._mods.file_entries().get(mod_id)
        if mod is not None and mod.config.from_file and entry is not None:
            return {"override": override_of(mod.config, entry)}
        if mod is None or mod.config.spec is None:
            return {}
        return {"path": mod.config.path, "spec": mod.config.spec}

    async def _swap(self, mod_id: str, args: dict[str, Any]) -> Done:
        new_id, record = args["mod_id"], self._desired.records.get(mod_id)
        command = None if record is None else record.command
        assert record is not None
        assert command is not None
        mod = self._mods.get(mod_id)
        if (new := swapped_for(record, self._desired.records)) is not None and not runs_here(mod):
            return await self._swapping.finish(mod_id, new), {"is_unloaded": True}
        config = self._config_of(new_id, args)
        if new_id == mod_id or mod is None or not mod.config.placement.is_exclusive:
            response = await self._loading.commands.swap(mod_id, config, alias=args["alias"])
        else:
            response = await self._swapping.swap(command, mod, config, lambda: self._in_place_of(record, args))
        if not response.success or new_id == mod_id:
            return response, self._kept(mod_id)
        if not config.placement.is_exclusive:
            wanted = self._in_place_of(record, args)
            await self._desired.edit(new_id, lambda record: record.changed(**wanted))
        return response, {"is_unloaded": True}

    def _in_place_of(self, record: Record, args: dict[str, Any]) -> dict[str, Any]:
        place = record.mod_id if record.place_of is None else record.place_of
        return self._as_wanted(args) | {"place_of": place, "position": record.position}


def _no_swap(mod_id: str) -> EventResponse:
    text = (
        f"mod {mod_id} is not swapped: a mod with copies can only take the place of itself, with as many copies. Load "
        "the other one beside it, and unload this one"
    )
    return EventResponse.failure(Code.CONFLICT, text, mod_id=mod_id)
