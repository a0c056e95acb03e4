"""Commands on mods with copies: does the steps of the copies that are this node's. See `steps`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import ModConfig, is_allowed, mod_config, with_changes
from ...fleet import ModRegistry, part_of, unit_named
from ...lifecycle import DOWN, Keeper, Reloaded, ReloadFailed, State, replace_worker, revert
from ..nodes.session import Session
from .claims import NodeClaims
from .codes import Codes
from .desired import Command, Desired, Record
from .one_version import OneVersion, Versions
from .placing import Placing
from .statuses import Statuses
from .steps import DO, LOAD, RELOAD, RESTART, REVERT, SETTLE, UNDO, UNLOAD, Step, Turn, codes_of, outcome, turns
from .wanted import Wanted, override_of, units_of_config

logger = logging.getLogger("modvisor.cluster")

PAUSE = 1.0
"""Seconds until a step is tried again that could not be written down."""

Does = Callable[[Keeper | None, str, dict[str, Any]], Awaitable[EventResponse]]
"""Does a step with a copy that runs here, or whose holder is gone: its keeper, its id, the arguments of the command."""


class Rolling:
    """Does what commands ask of the copies here.

    Attributes:
        one_version: has the copies here run one version, between commands.
        going_back: copies that a command takes back to the version before.
    """

    def __init__(
        self,
        mods: ModRegistry,
        desired: Desired,
        wanted: Wanted,
        claims: NodeClaims,
        statuses: Statuses,
        session: Session,
        placing: Placing,
        codes: Codes,
        tasks: TaskGroup,
        versions: Versions,
    ) -> None:
        self._mods = mods
        self._desired = desired
        self._wanted = wanted
        self._claims = claims
        self._statuses = statuses
        self._session = session
        self._placing = placing
        self._codes = codes
        self._tasks = tasks
        self._begun: set[tuple[str, Turn]] = set()
        self.one_version = OneVersion(mods, desired, wanted, claims, statuses, placing, codes, versions, tasks)
        self.going_back: set[str] = set()
        self._do: dict[tuple[str, str], Does] = {
            (LOAD, DO): self._started,
            (LOAD, UNDO): self._end,
            (UNLOAD, DO): self._end,
            (RELOAD, DO): self._reload,
            (RELOAD, SETTLE): self._settle,
            (RELOAD, UNDO): self._revert,
            (RESTART, DO): self._restart,
            (REVERT, DO): self._revert,
        }

    # -- whose turn it is

    def look(self, record: Record) -> None:
        """Begin the steps of a command that are this node's."""
        command = record.command
        assert command is not None
        if record.mod_id not in self._wanted.configs:
            return
        for turn in self._turns(record):
            if (command.id, turn) in self._begun or not self._is_mine(command, turn):
                continue
            if self._placing.reserve(turn.unit):
                self._begun.add((command.id, turn))
                self._tasks.start_soon(self._carry_out, command, record.mod_id, turn, name=f"{command.do}-{turn.unit}")

    def _turns(self, record: Record) -> list[Turn]:
        assert record.command is not None
        units = [unit.mod_id for unit in units_of_config(self._wanted.configs[record.mod_id])]
        return turns(record.command.do, units, record.steps, self._token_of)

    def _token_of(self, unit: str) -> int | None:
        held = self._claims.held.get(unit)
        return None if held is None else held.revision

    def _is_mine(self, command: Command, turn: Turn) -> bool:
        """Whether this node has a copy, so that it does its step; what only ends a copy needs nobody who has it."""
        if turn.step == DO and command.do not in (UNLOAD, REVERT):
            keeper = unit_named(self._mods, turn.unit)
            is_up = isinstance(keeper, Keeper) and keeper.state is not State.STARTING
            return is_up and self._claims.mine(turn.unit) is not None
        if self._claims.node_of(turn.unit) is None:
            return self._placing.duties.target(turn.unit) == self._session.node
        return self._claims.mine(turn.unit) is not None

    # -- doing

    async def _carry_out(self, command: Command, mod_id: str, turn: Turn) -> None:
        unit = turn.unit
        try:
            found, token = unit_named(self._mods, unit), self._token_of(unit)
            keeper = found if isinstance(found, Keeper) else None
            answer = await self._answer(command, turn, keeper)
            await self._write(command, mod_id, turn, Step(turn.step, token or 0, self._session.node, answer.to_dict()))
        except ModvisorError as error:  # tried again, by whoever has the copy then
            logger.warning("mod %s: what came of the %s was not written: %s", unit, command.do, error)
            await anyio.sleep(PAUSE)
        finally:
            self._begun.discard((command.id, turn))
            self._placing.free(unit)
            record = self._desired.records.get(mod_id)
            if record is not None and record.command is not None and not record.done:
                self.look(record)

    async def _answer(self, command: Command, turn: Turn, keeper: Keeper | None) -> EventResponse:
        try:
            return await self._do[command.do, turn.step](keeper, turn.unit, command.args)
        except Exception as error:  # noqa: BLE001 - as in `Doing`
            details = error.details if isinstance(error, ReloadFailed) else {}
            text = f"{turn.unit} on node {self._session.node}: {why_failed(error)}"
            return EventResponse.failure(code_of(error), text, **details)

    async def _write(self, command: Command, mod_id: str, turn: Turn, step: Step) -> None:
        """Write a step down; whoever writes the last one says what came of the command."""

        def change(record: Record) -> Record | None:
            if record.command is None or record.command.id != command.id or record.done:
                return None
            former = record.steps.get(turn.unit)
            done = step if former is None or turn.step == DO else replace(step, answer=former.answer)
            return self._concluded(replace(record, steps={**record.steps, turn.unit: done}))

        await self._desired.edit(mod_id, change)

    def _concluded(self, record: Record) -> Record:
        assert record.command is not None
        if record.mod_id not in self._wanted.configs or self._turns(record):
            return record
        command, config = record.command, self._wanted.configs[record.mod_id]
        units = [unit.mod_id for unit in units_of_config(config)]
        answer = outcome(command.do, record.mod_id, config.path, units, record.steps)
        changes = self._changes(record, command, config, is_done=answer.success)
        record = record.changed(**changes) if changes else record
        return replace(record, done={self._session.node: answer.to_dict()}, steps={})

    def _changes(self, record: Record, command: Command, config: ModConfig, *, is_done: bool) -> dict[str, Any]:
        """Return what changes in the record of a mod."""
        if command.do == UNLOAD or (command.do == LOAD and not is_done):
            return {"is_unloaded": True, "path": None, "spec": None, "code": None, "before": None, "parts": None}
        if command.do == REVERT and _is_of(command, record) and record.before is not None:
            return {**{name: record.before[name] for name in _CHANGED}, "before": None}
        if command.do != RELOAD or not is_done:
            return {}
        code_before, code = codes_of(record.steps)
        before = {name: getattr(record, name) for name in _CHANGED} | {"code": code_before, "reload": command.id}
        return {**self._as_wanted(self._reloaded(config, command.args)), "code": code, "before": before}

    def _as_wanted(self, new: ModConfig) -> dict[str, Any]:
        """Return how a mod is wanted from now on. For a mod of the file, the file says it, and what differs from it."""
        entry = self._mods.file_entries().get(new.name)
        if new.from_file and entry is not None:
            return {"override": override_of(new, entry)}
        return {} if new.spec is None else {"path": new.path, "spec": new.spec}

    # -- the steps

    async def _started(self, keeper: Keeper | None, unit: str, _args: dict[str, Any]) -> EventResponse:
        """`Placing` has started it: say what came of it."""
        if keeper is None or keeper.state in DOWN:
            text = f"{unit} did not start on node {self._session.node}: {None if keeper is None else keeper.last_error}"
            return EventResponse.failure(Code.START_FAILED, text)
        manifest = keeper.manifest
        data = {} if manifest is None else {"version": manifest.version, "patterns": list(manifest.patterns)}
        return EventResponse(True, f"{unit} runs", {**data, "pid": None})

    async def _end(self, _keeper: Keeper | None, unit: str, args: dict[str, Any]) -> EventResponse:
        await self._placing.end_copy(unit, args.get("timeout"))
        await self._statuses.forget(unit)
        return EventResponse(True, f"{unit} unloaded", {})

    def _reloaded(self, config: ModConfig, args: dict[str, Any]) -> ModConfig:
        """Return the config that a reload gives to a mod or to a copy."""
        if (entry := args.get("entry")) is not None:
            new = mod_config(entry["path"], base_dir=self._mods.base_dir, mod_id=config.name, **(entry["spec"] or {}))
            return new if config.replica is None else part_of(new, config.replica)
        return with_changes(config, path=args.get("mod_path"), config=args.get("config"))

    async def _reload(self, keeper: Keeper | None, unit: str, args: dict[str, Any]) -> EventResponse:
        here = self._running(keeper, unit)
        config = self._reloaded(here.config, args)
        if not is_allowed(self._mods.config.allowed_mods, config.path):
            raise ModvisorError("the network's allowed_mods do not include it", code=Code.FORBIDDEN)
        before = self._codes.of(unit)
        answer = await self._replaced(here, config, from_snapshot=False)
        self._codes.accepted(unit)
        codes = [None if code is None else code.digest for code in (before, self._codes.of(unit))]
        return replace(answer, data={**(answer.data or {}), "codes": codes})

    async def _restart(self, keeper: Keeper | None, unit: str, _args: dict[str, Any]) -> EventResponse:
        here = self._running(keeper, unit)
        return await self._replaced(here, here.config, from_snapshot=True)

    async def _replaced(self, keeper: Keeper, config: ModConfig, *, from_snapshot: bool) -> EventResponse:
        async with self._placing.lock_of(keeper):
            done: Reloaded = await replace_worker(
                keeper,
                config,
                from_snapshot=from_snapshot,
                on_probation=not from_snapshot,
                tentative=not from_snapshot,
            )
        return EventResponse(True, f"{keeper.mod_id} was replaced", done.to_dict())

    async def _settle(self, keeper: Keeper | None, unit: str, args: dict[str, Any]) -> EventResponse:
        here = self._running(keeper, unit)
        await here.trial.settle(here.config.probation)
        return EventResponse(True, f"{unit} has settled", {})

    async def _revert(self, keeper: Keeper | None, unit: str, args: dict[str, Any]) -> EventResponse:
        if keeper is not None and keeper.probation is not None and self._may_revert(keeper, args):
            self.going_back.add(unit)
            try:
                async with self._placing.lock_of(keeper):
                    if keeper.probation is not None:
                        await revert(keeper, keeper.probation, args.get("why") or "another copy could not be reloaded")
            finally:
                self.going_back.discard(unit)
        return EventResponse(True, f"{unit} runs the version before", {})

    def _may_revert(self, keeper: Keeper, args: dict[str, Any]) -> bool:
        """Whether the version on probation is the one that has failed: it may have been reloaded since."""
        record = self._desired.records.get(keeper.config.name)
        command = None if record is None else record.command
        return record is None or command is None or command.do != REVERT or _is_of(command, record)

    def _running(self, keeper: Keeper | None, unit: str) -> Keeper:
        if keeper is None:
            raise ModvisorError(f"{unit} is about to start here", code=Code.MOD_AWAY)
        if self._wanted.is_uneven(keeper.config.name):
            raise ModvisorError(f"{unit} does not run: {keeper.last_error}", code=Code.STATE_REFUSED)
        return keeper


_CHANGED = ("path", "spec", "override", "code")
"""What a reload changes in the record of a mod."""


def code_of(error: Exception) -> str:
    """Return the code of what a command has failed with."""
    if isinstance(error, ModvisorError):
        return error.code
    return Code.BAD_INPUT if isinstance(error, (KeyError, TypeError, ValueError)) else Code.INTERNAL


def why_failed(error: Exception) -> str:
    """Return what a command has failed with, for people. What nobody expected is logged with its traceback."""
    if code_of(error) == Code.INTERNAL:
        logger.error("a command failed", exc_info=error)
        return repr(error)
    return str(error)


def _is_of(command: Command, record: Record) -> bool:
    """Whether a version that has failed is the one that the newest reload of the mod has brought."""
    return record.before is not None and record.before["reload"] == command.args.get("reload")
