"""The loaded mods, in load order: load, unload and reload as commands that answer with a response, never an exception."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import EventResponse
from ...ipc.manifest import Manifest
from ...ipc.messages import Request
from ..calls import Late, Ledger
from ..config import (
    Audience,
    ConfigError,
    ModConfig,
    NetworkConfig,
    family_of,
    fingerprint,
    is_allowed,
    misfit,
    mod_config,
    settled,
    with_aliases,
    with_changes,
)
from ..journal import Journal, Kept, KeptMod, Quarantine, StateDir
from ..lifecycle import (
    COMING_BACK,
    DOWN,
    CancelHandler,
    Incarnation,
    Keeper,
    Probation,
    Recipe,
    Reloaded,
    ReloadFailed,
    Shared,
    StartFailed,
    State,
    replace_worker,
    revert,
    version_of,
)
from ..limits import Enforcement
from ..process import Launcher, shielded
from ..sources import Home, SnapshotStore, search_path
from .dependents import Dependents
from .families import Families
from .repartition import forget_workers, note_workers, part_what_was_kept
from .rolling_reload import roll
from .router import Entry, Router
from .workers import Mod, WorkerGroup, configs_of, pids_of

logger = logging.getLogger("modvisor.registry")

RECYCLE_INTERVAL = 10.0
"""Seconds between two replacements of a mod for its use of memory: one that needs as much from the start is not helped."""

_NOT_ALLOWED = ModvisorError("the network's allowed_mods do not include it", code=Code.FORBIDDEN)

MAX_RESPONSE_TEXT = 20_000  # a traceback with its log lines helps; a flood does not


class ModRegistry:
    """Keepers by mod id, in load order, with the routes that follow from them."""

    def __init__(
        self,
        config: NetworkConfig,
        configured: tuple[ModConfig, ...],
        state: StateDir,
        tasks: TaskGroup,
        on_request: Callable[[Keeper, Incarnation, Request], None],
        on_cancel: CancelHandler,
        late: Late,
        resources_of: Callable[[int], dict[str, Any] | None],
        enforcement: Enforcement,
        journal: Journal,
        ledger: Ledger,
        launcher: Launcher,
        snapshots: SnapshotStore,
    ) -> None:
        self._config = config
        self._configured = configured
        self.router: Router[Mod] = Router()
        self._keepers: dict[str, Mod] = {}
        self.families = Families(journal, self._rebuild_routes)
        self._promised: set[str] = set()  # ids that a swap under way is to bring
        self._closing = False
        self._journal = journal
        self._kept_in_quarantine: dict[str, Quarantine] = {}  # from the former run, until the mod is loaded
        self._unclean = False  # the former run was cut off: the last good versions are what ran
        self.dependents = Dependents(self)
        # called when a mod, its state or its version has changed
        self.listeners: list[Callable[[], None]] = [self.dependents.announce]
        self._recipe = Recipe(config, state, snapshots, enforcement)
        self._shared = Shared(self._recipe, launcher, journal, ledger, config.event_timeout, tasks, listener=self)
        # What a `Listener` is told or asked of events; the network's own, so that no hop is added.
        self.request = on_request
        self.cancelled = on_cancel
        self.late_answer = late
        self.resources_of = resources_of

    # -- looking up

    def __iter__(self):
        return iter(self._keepers.values())

    def __len__(self) -> int:
        return len(self._keepers)

    def find(self, id_or_path: str) -> Mod | None:
        """A mod, by id, alias or mod_path (the first loaded one of that path)."""
        keeper = self._keepers.get(id_or_path)
        if keeper is not None:
            return keeper
        keepers = self._keepers.values()
        for keeper in keepers:
            if id_or_path in keeper.config.aliases:
                return keeper
        return next((keeper for keeper in keepers if keeper.config.path == id_or_path), None)

    # -- commands

    async def load(self, config: ModConfig, *, restored: bool = False) -> EventResponse:
        """Load a mod. ``data`` on success: mod_id, mod_path, version, pid, patterns.

        Args:
            restored: it was loaded before the supervisor's own restart.
        """
        refusal = self.may_load(config, restored=restored)
        if refusal is not None:
            return refusal
        keeper = self._add(config)
        with _held(keeper.lock):  # without a wait: a load that is given up in one would leave the mod behind
            try:
                with _cancellable(keeper):
                    if (reason := self._stay_quarantined(keeper)) is not None:
                        keeper.is_member = True
                        self._rebuild_routes()
                        return failure(config, ModvisorError(reason, code=Code.MOD_AWAY))
                    if from_snapshot := await self._find_snapshots(keeper):
                        logger.warning("mod %s starts from its last good version, because the network did not end by itself; "
                                       "'modvisor reload %s' reads its files", config.mod_id, config.mod_id)  # fmt: skip
                    if isinstance(keeper, WorkerGroup):
                        await self._part_anew(keeper)
                    loaded = _loaded(keeper, await keeper.start(from_snapshot=from_snapshot))
                    if isinstance(keeper, WorkerGroup):
                        await note_workers(keeper, self._journal)
                    keeper.is_member = True  # with all its workers
                    self._rebuild_routes()
                    await self.remember(keeper)
                    return loaded
            except StartFailed as error:
                logger.warning("load of mod %s failed: %s", config.mod_id, error)
                if config.from_file or restored:  # it stays, with its reason in stats
                    keeper.is_member = True
                    self._rebuild_routes()
                else:
                    self._discard(keeper)
                return failure(config, error)
            except BaseException:  # the caller gave up, or something is wrong with us: the load did not happen
                await shielded(self._undo_load(keeper, restored))
                raise
            await shielded(self._undo_load(keeper, restored))
            error = ModvisorError("the load was cancelled by an unload or shutdown", code=Code.NOT_RUNNING)
            return failure(config, error)

    async def unload(self, id_or_path: str, timeout: float | None = None) -> EventResponse:
        """Drain and end a mod; a load or reload of it that is under way is cancelled."""
        keeper = self.find(id_or_path)
        if keeper is None:
            return self._no_such_mod(id_or_path)
        await self._unload(keeper, timeout)
        self._journal.forget_mod(keeper.mod_id, [worker.mod_id for worker in keeper.keepers])
        family = family_of(keeper.mod_id)
        if keeper.promoted or self.families.promotions(family):
            self.families.keep(family)
        await self._journal.committed()
        data = {"mod_id": keeper.mod_id, "mod_path": keeper.config.path}
        return EventResponse(True, f"mod {keeper.mod_id} unloaded", data)

    async def reload(
        self, id_or_path: str, config: dict[str, Any] | ModConfig | None = None, mod_path: str | None = None
    ) -> EventResponse:
        """Fresh code (and config, and path) for a mod, without losing an event; the old one stays if the new one fails."""
        keeper = self.find(id_or_path)
        if keeper is None:
            return self._no_such_mod(id_or_path)
        async with keeper.lock:
            if self._keepers.get(keeper.mod_id) is not keeper:
                return self._no_such_mod(id_or_path)
            try:
                wanted = (
                    config
                    if isinstance(config, ModConfig)
                    else with_changes(keeper.config, path=mod_path, config=config)
                )
            except ModvisorError as error:
                return failure(keeper.config, error)
            if not is_allowed(self._config.allowed_mods, wanted.path):
                return failure(wanted, _NOT_ALLOWED)
            with _cancellable(keeper):
                try:
                    done = await self._replace(keeper, wanted)
                except ReloadFailed as error:
                    logger.warning("reload of mod %s failed: %s", keeper.mod_id, error)
                    text = f"mod {keeper.mod_id} was not reloaded, {_left_of(keeper)}: {error}"
                    return failure(keeper.config, error, text)
                await self.remember(keeper)
                data = {"mod_id": keeper.mod_id, "mod_path": keeper.config.path, **done.to_dict()}
                return EventResponse(True, f"mod {keeper.mod_id} reloaded ({done.pause_ms:.1f} ms pause)", data)
        return failure(keeper.config, ModvisorError("the reload was cancelled by an unload", code=Code.NOT_RUNNING))

    async def restart(self, id_or_path: str) -> EventResponse:
        """A new incarnation of the last good version; a mod that is down comes back, a running one is replaced."""
        keeper = self.find(id_or_path)
        if keeper is None:
            return self._no_such_mod(id_or_path)
        async with keeper.lock:
            if self._keepers.get(keeper.mod_id) is not keeper:
                return self._no_such_mod(id_or_path)
            with _cancellable(keeper):
                try:
                    done = await self._replace(keeper, keeper.config, from_snapshot=True)
                except ReloadFailed as error:
                    return failure(keeper.config, error, f"mod {keeper.mod_id} was not restarted: {error}")
                data = {"mod_id": keeper.mod_id, "mod_path": keeper.config.path, **pids_of(keeper), **done.to_dict()}
                return EventResponse(True, f"mod {keeper.mod_id} restarted", data)
        return failure(keeper.config, ModvisorError("the restart was cancelled by an unload", code=Code.NOT_RUNNING))

    async def swap(self, id_or_path: str, config: ModConfig, *, alias: bool = False) -> EventResponse:
        """Another mod in the place of one, without losing an event; the old one stays if the new one fails.

        Args:
            alias: the former id (and its aliases) go on naming the new one.
        """
        keeper = self.find(id_or_path)
        if keeper is None:
            return self._no_such_mod(id_or_path)
        if config.mod_id == keeper.mod_id:
            return await self._reload_as(keeper, config)
        async with keeper.lock:
            if self._keepers.get(keeper.mod_id) is not keeper:
                return self._no_such_mod(id_or_path)
            if alias:
                config = with_aliases(config, {keeper.mod_id, *keeper.config.aliases})
            if "audience" not in config.given:  # it takes the place of the former one, for the same sources
                config = replace(config, audience=keeper.audience)
            if (refusal := self.may_load(config, instead_of=keeper)) is not None:
                return refusal
            former = keeper.config
            self._promised.add(config.mod_id)
            try:
                with _cancellable(keeper):
                    done = await self._replace(keeper, config)
                    await self.remember(keeper)
                    data = {
                        "mod_id": config.mod_id,
                        "mod_path": config.path,
                        "former_id": former.mod_id,
                        **done.to_dict(),
                    }
                    text = f"mod {former.mod_id} swapped for {config.mod_id} ({done.pause_ms:.1f} ms pause)"
                    return EventResponse(True, text, data)
            except ReloadFailed as error:
                logger.warning("swap of mod %s for %s failed: %s", former.mod_id, config.mod_id, error)
                text = f"mod {former.mod_id} was not swapped for {config.mod_id}, the old one stays: {error}"
                return failure(config, error, text)
            finally:
                self._promised.discard(config.mod_id)
        return failure(former, ModvisorError("the swap was cancelled by an unload", code=Code.NOT_RUNNING))

    async def _reload_as(self, keeper: Mod, config: ModConfig) -> EventResponse:
        """The same mod as another entry has it. Its audience stays unless the entry, which is not the file's, gives one."""
        regroups = "audience" in config.given and not config.from_file
        if regroups and (wrong := self.misfit(keeper.mod_id, config.audience)) is not None:
            return failure(config, ModvisorError(wrong, code=ConfigError.code))
        response = await self.reload(keeper.mod_id, config)
        if regroups and response.success:
            self.families.change({keeper: (config.audience, keeper.promoted)})
            await self.remember(keeper)
        return response

    def configured(self) -> list[ModConfig]:
        """The enabled mods of the network file, each with its place in the load order."""
        configs = [mod for mod in self._configured if mod.enabled]
        for mod in configs:
            self.place(mod)
        return configs

    def place(self, config: ModConfig) -> None:
        """Keep a place in the load order for a mod that is about to be loaded."""
        if config.mod_id not in self._keepers:
            self._add(config)

    def restore(self, kept: Kept) -> None:
        """What the journal kept of the former run: to be called before anything is loaded."""
        self._kept_in_quarantine = dict(kept.quarantines)
        self._unclean = not kept.clean
        self.families.restore(kept.families)

    def restored(self, kept: Iterable[KeptMod]) -> tuple[list[ModConfig], list[tuple[str, EventResponse]]]:
        """The mods that were loaded while the former run ran and that the file does not name, each with its place in the
        load order; and those whose entries cannot be read any more, with the reason."""
        configs: list[ModConfig] = []
        broken: list[tuple[str, EventResponse]] = []
        for mod in kept:
            if mod.mod_id in self._keepers:
                self._journal.drop_mod(mod.mod_id)  # for mods named in the file the file rules
                continue
            try:
                config = mod_config(mod.path, base_dir=self._config.base_dir, mod_id=mod.mod_id, **mod.spec)
            except ModvisorError as error:
                broken.append((mod.mod_id, EventResponse.failure(error.code, f"{mod.path}: {error}")))
            else:
                configs.append(config)
                self.place(config)
        return configs, broken

    def not_started(self, config: ModConfig, error: ModvisorError, *, restored: bool = False) -> EventResponse:
        """What becomes of a mod that is not even tried, because of ``error``; the failed response of its load."""
        if (refusal := self.may_load(config, restored=restored)) is not None:
            return refusal
        logger.warning("mod %s is not started: %s", config.mod_id, error)
        mod = self._add(config)
        for worker in mod.keepers:
            worker.not_started(str(error))
        if config.from_file or restored:  # it stays, with its reason in stats
            mod.is_member = True
            self._rebuild_routes()
        else:
            self._discard(mod)
        return failure(config, error)

    def as_files_say(self, config: ModConfig) -> tuple[ModConfig, Home]:
        """A mod with what its mod.yaml and its class say, and where it is; raises `ModvisorError`."""
        home = self._recipe.home_of(config)
        return settled(config, home.file, home.said), home

    def started(self) -> None:
        """What is loaded from now on is loaded anew, not restored."""
        self._unclean = False
        self.families.settle()

    async def start_launcher(self) -> None:
        """Get ready to start workers; raises OSError."""
        await self._shared.launcher.start()

    async def close_launcher(self) -> None:
        """Every mod has ended: nothing is left that starts workers."""
        await self._shared.launcher.close()

    def use_config(self, config: NetworkConfig) -> None:
        """Load by the rules of a changed network file from now on."""
        self._config = self._recipe.network = config

    async def close(self) -> None:
        """Unload every mod, all at once, newest first."""
        self._closing = True
        async with anyio.create_task_group() as tasks:
            for keeper in reversed(list(self._keepers.values())):
                tasks.start_soon(self._unload, keeper, None, True)

    async def _unload(self, keeper: Mod, timeout: float | None, keep_state: bool = False) -> None:
        if keeper.command is not None:
            keeper.command.cancel()
        async with keeper.lock:
            if self._keepers.get(keeper.mod_id) is keeper:  # else the load that was cancelled has cleared up
                # Shielded: half an unload would leave a process behind.
                await shielded(self._end(keeper, timeout, keep_state))

    # -- inside

    def may_load(
        self, config: ModConfig, instead_of: Mod | None = None, *, restored: bool = False
    ) -> EventResponse | None:
        """Why a mod cannot be loaded now; None if it can."""
        if self._closing:
            return failure(config, ModvisorError("the network is shutting down", code=Code.NOT_RUNNING))
        if not is_allowed(self._config.allowed_mods, config.path):
            return failure(config, _NOT_ALLOWED)
        if config.mod_id in self._promised:
            return failure(config, ModvisorError("a swap is bringing a mod of that id", code=Code.ALREADY_LOADED))
        is_checked = restored or config.from_file  # the file as a whole is, and may be in the middle of a change
        if not is_checked and (wrong := self.misfit(config.mod_id, config.audience, instead_of)) is not None:
            return failure(config, ModvisorError(wrong, code=ConfigError.code))
        if (taken := self._taken_alias(config, instead_of)) is not None:
            return failure(config, ModvisorError(taken, code=Code.ALREADY_LOADED))
        present = self._keepers.get(config.mod_id)
        if present is not None and (present.state is not State.STARTING or present.lock.statistics().locked):
            return EventResponse.failure(
                Code.ALREADY_LOADED,
                f"a mod with id {config.mod_id!r} is already loaded (from {present.config.path}, {present.state}); "
                "unload or reload it, or choose another id",
                mod_id=config.mod_id, mod_path=config.path,
            )  # fmt: skip
        return None

    def misfit(self, mod_id: str, audience: Audience | None, instead_of: Mod | None = None) -> str | None:
        """Why a mod cannot have an audience; None if it can."""
        others = {other.mod_id: other.audience for other in self._keepers.values() if other is not instead_of}
        return misfit(mod_id, audience, others, self._config.agent_groups)

    def _taken_alias(self, config: ModConfig, instead_of: Mod | None) -> str | None:
        """Why it cannot be called by the names it is to have; its own id is another matter."""
        for other in self._keepers.values():
            if other is instead_of or other.mod_id == config.mod_id:
                continue
            if config.mod_id in other.config.aliases:
                return f"the id {config.mod_id!r} is an alias of mod {other.mod_id}"
            if taken := config.aliases & {other.mod_id, *other.config.aliases}:
                return f"the alias {min(taken)!r} is taken by mod {other.mod_id}"
        return None

    async def _replace(self, keeper: Mod, config: ModConfig, *, from_snapshot: bool = False) -> Reloaded:
        """Reload, restart or swap a mod with one worker or with several."""
        if isinstance(keeper, Keeper) and config.workers is None:
            return await replace_worker(keeper, config, from_snapshot=from_snapshot, on_probation=not from_snapshot)
        if isinstance(keeper, WorkerGroup) and config.workers is not None:
            if all(worker.state in DOWN for worker in keeper.keepers):
                return await self._start_workers(keeper, config, from_snapshot=from_snapshot)
            former, former_id = [worker.mod_id for worker in keeper.keepers], keeper.mod_id
            done = await roll(keeper, config, self._keeper, from_snapshot=from_snapshot)
            for gone in former[config.workers :]:
                self._journal.drop_checkpoint(gone)
                self._journal.release(gone)
                await shielded(self._recipe.snapshots.forget(gone))
            if former_id != keeper.mod_id:
                forget_workers(former_id, self._journal)
            await note_workers(keeper, self._journal)
            self.changed()
            return done
        text = "a mod with 'workers' cannot take the place of one without, nor the other way round; unload it, and load it anew"
        raise ReloadFailed(text, code=Code.CONFLICT, step="start")

    async def _part_anew(self, mod: WorkerGroup) -> None:
        """What was kept of it when it had another number of workers. Raises `StartFailed`."""
        try:
            await part_what_was_kept(mod, self._journal)
        except StartFailed as error:
            for worker in mod.keepers:
                if worker.state is State.STARTING:
                    worker.not_started(str(error))
            raise

    async def _start_workers(self, mod: WorkerGroup, config: ModConfig, *, from_snapshot: bool) -> Reloaded:
        """Reload a mod none of whose workers is there."""
        before = version_of(mod.manifest)
        if config.workers != len(mod.keepers) or config.mod_id != mod.mod_id:
            for former in mod.become(config, [self._keeper(own) for own in configs_of(config)]):
                await former.unload()
            self.changed()
        else:
            mod.adopt(config)
        for worker in mod.keepers:
            await worker.stop_keeping()
        try:
            await self._part_anew(mod)
            for worker, own in zip(mod.keepers, configs_of(config), strict=True):
                worker.adopt(own)
            manifest = await mod.start(from_snapshot=from_snapshot, quarantined=True)
        except StartFailed as error:
            raise ReloadFailed.at_start(error) from None
        await note_workers(mod, self._journal)
        return Reloaded.from_down(before, manifest.version)

    def _stay_quarantined(self, keeper: Mod) -> str | None:
        """Those of its workers that were in quarantine when the former run ended stay in it; why, if all do."""
        kept = [(worker, self._quarantine_of(worker.config)) for worker in keeper.keepers]
        for worker, quarantine in kept:
            if quarantine is not None:
                worker.stay_quarantined(quarantine)
        reasons = [quarantine.reason for _, quarantine in kept if quarantine is not None]
        return reasons[0] if len(reasons) == len(kept) else None

    async def _find_snapshots(self, keeper: Mod) -> bool:
        """After an unclean end the last good versions are what ran; whether there are any of the mod."""
        for worker in keeper.keepers:
            snapshots, mod = self._recipe.snapshots, worker.config
            worker.has_snapshot = self._unclean and await snapshots.is_of(worker.mod_id, mod.path, mod.version)
        return any(worker.has_snapshot for worker in keeper.keepers)

    def _quarantine_of(self, config: ModConfig) -> Quarantine | None:
        """Why a mod was in quarantine when the former run ended, if its entry is still the same."""
        quarantine = self._kept_in_quarantine.pop(config.mod_id, None)
        if quarantine is None or quarantine.fingerprint == fingerprint(config):
            return quarantine
        self._journal.release(config.mod_id)
        return None

    async def remember(self, keeper: Mod) -> None:
        """A mod that the file does not name is loaded again when the supervisor starts again: from when we say it is loaded."""
        order = list(self._keepers.values())
        first = order.index(keeper)
        for position, each in enumerate(order[first:], first):  # those behind it may have moved
            if each is keeper or each.is_member:
                self._keep_entry(each, position)
        family = family_of(keeper.mod_id)
        if keeper.promoted or self.families.promotions(family):
            self.families.keep(family)
        await self._journal.committed()

    def _keep_entry(self, keeper: Mod, position: int) -> None:
        config = keeper.config
        if config.spec is not None:
            spec = {key: value for key, value in config.spec.items() if key != "audience"}
            if keeper.audience is not None:
                spec["audience"] = keeper.audience.to_plain()
            self._journal.keep_mod(KeptMod(config.mod_id, config.path, spec, position, keeper.loaded_at))

    async def _undo_load(self, keeper: Mod, restored: bool) -> None:
        """The load did not happen. What the former run had loaded is still to be tried by the next one."""
        await self._end(keeper)
        if not restored:
            self._journal.drop_mod(keeper.mod_id)

    def recycle(self, keeper: Keeper, reason: str) -> None:
        being_replaced = self._closing or self._mod_of(keeper).lock.statistics().locked
        now = asyncio.get_running_loop().time()
        if not being_replaced and now - keeper.recycled_at >= RECYCLE_INTERVAL:
            keeper.recycled_at = now
            self._shared.tasks.start_soon(self._recycle_now, keeper, reason, name=f"recycle-{keeper.mod_id}")

    async def _recycle_now(self, keeper: Keeper, reason: str) -> None:
        """A fresh process of the same version, state handed over; the old one stays if that fails."""
        mod = self._mod_of(keeper)
        async with mod.lock:
            if self._closing or keeper.incarnation is None:
                return
            with _cancellable(mod):
                try:
                    done = await replace_worker(keeper, keeper.config, from_snapshot=True, on_probation=False)
                except ReloadFailed as error:
                    logger.warning(
                        "mod %s (%s) could not be replaced by a fresh process: %s", keeper.mod_id, reason, error
                    )
                else:
                    keeper.counters.recycled += 1
                    logger.info("mod %s was replaced by a fresh process (%s): %.1f ms pause",
                                keeper.mod_id, reason, done.pause_ms)  # fmt: skip

    def revert(self, keeper: Keeper, probation: Probation, why: str) -> None:
        self._shared.tasks.start_soon(self._revert_now, keeper, probation, why, name=f"revert-{keeper.mod_id}")

    async def _revert_now(self, keeper: Keeper, probation: Probation, why: str) -> None:
        """The new version fails too often: the former one takes its place, as in a reload."""
        mod = self._mod_of(keeper)
        async with mod.lock:
            if self._closing or keeper.probation is not probation:  # another command has ended it
                return
            with _cancellable(mod):
                await revert(keeper, probation, why)

    def reverted(self, keeper: Keeper, what: str) -> None:
        """It is as before the reload: so it is after a restart of the network."""
        logger.error("mod %s: %s", keeper.mod_id, what)
        mod = self._mod_of(keeper)
        if isinstance(mod, WorkerGroup):  # its workers are of one version
            mod.go_back()
            self.changed()
            for other in mod.keepers:
                if other.probation is not None:
                    self.revert(other, other.probation, f"worker {keeper.mod_id} has failed")
        self._shared.tasks.start_soon(self.remember, mod, name=f"remember-{keeper.mod_id}")

    def check_needs(self, config: ModConfig) -> None:
        """Raise `ModvisorError` unless the mods that ``config`` requires are loaded."""
        if config.requires or config.optional:
            self.dependents.check(config)

    def admit(self, name: str, config: ModConfig, version: str) -> None:
        """Raise `ModvisorError` unless the mods that need ``name`` can do with this version of it."""
        self.dependents.admit(name, config, version)

    def _mod_of(self, keeper: Keeper) -> Mod:
        return next((mod for mod in self._keepers.values() if keeper in mod.keepers), keeper)

    def _make(self, config: ModConfig) -> Mod:
        if config.workers is None:
            return self._keeper(config)
        return WorkerGroup(config, [self._keeper(own) for own in configs_of(config)])

    def _keeper(self, config: ModConfig) -> Keeper:
        same = (
            worker.number for mod in self._keepers.values() for worker in mod.keepers if worker.mod_id == config.mod_id
        )
        return Keeper(config, self._recipe.log_of(config.mod_id), self._shared, max(same, default=0))

    def _add(self, config: ModConfig) -> Mod:
        keeper = self._keepers.get(config.mod_id)
        if keeper is None:
            keeper = self._make(config)
            keeper.promoted = self.families.promoted(config.mod_id)
            self._put_in_order(keeper)
        return keeper

    def _put_in_order(self, keeper: Mod) -> None:
        """At the end; a further version of a mod beside it, so that every source's version is asked at the same point."""
        order = list(self._keepers.values())
        family = family_of(keeper.mod_id)
        siblings = [place for place, other in enumerate(order) if family_of(other.mod_id) == family]
        order.insert(siblings[-1] + 1 if siblings else len(order), keeper)
        self._keepers = {each.mod_id: each for each in order}

    async def _end(self, keeper: Mod, timeout: float | None = None, keep_state: bool = False) -> None:
        """End a mod and forget it, or what there is by now of one whose load is not to be. Its caller holds the lock and
        shields this."""
        try:
            await keeper.unload(timeout, keep_state=keep_state, forget=True)
        finally:
            self._discard(keeper)

    def _discard(self, keeper: Mod) -> None:
        if self._keepers.get(keeper.mod_id) is keeper:
            del self._keepers[keeper.mod_id]
        keeper.close_log()
        self._rebuild_routes()

    def changed(self) -> None:
        """A mod may have come, gone, or become another."""
        if any(mod_id != keeper.mod_id for mod_id, keeper in self._keepers.items()):  # in the same order
            self._keepers = {keeper.mod_id: keeper for keeper in self._keepers.values()}
        self._rebuild_routes()

    def _rebuild_routes(self) -> None:
        self.families.arrange(self._keepers.values(), closing=self._closing)
        self.router.replace(map(self._entry, self._in_service()))
        for tell in self.listeners:
            tell()

    def _in_service(self) -> Iterator[Mod]:
        return (mod for mod in self._keepers.values() if mod.is_member and mod.state is not State.DRAINING)

    def _entry(self, keeper: Mod) -> Entry[Mod]:
        manifest, split = keeper.manifest, self.families.split_of(keeper.mod_id)
        patterns = self.families.stand_in(keeper) if manifest is None else manifest.patterns
        return Entry(keeper.mod_id, patterns, () if manifest is None else manifest.observes, keeper, split)

    @property
    def config(self) -> NetworkConfig:
        return self._config

    @property
    def base_dir(self) -> Path:
        return self._config.base_dir

    @property
    def own_folders(self) -> list[str]:
        """The folders of the network in which its mods' Python looks first."""
        return search_path(self._config)

    @property
    def search_path(self) -> list[str]:
        """All folders in which a mod may be found."""
        return self._recipe.search_path

    def _no_such_mod(self, id_or_path: str) -> EventResponse:
        loaded = ", ".join(self._keepers) or "none"
        return EventResponse.failure(
            Code.NO_SUCH_MOD, f"no mod {id_or_path!r} is loaded (loaded: {loaded})", mod=id_or_path
        )


@contextmanager
def _held(lock: anyio.Lock) -> Iterator[None]:
    """A lock that is known to be free."""
    lock.acquire_nowait()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _cancellable(keeper: Mod) -> Iterator[None]:
    """What runs in here is the keeper's command, which an unload or shutdown may cancel; the caller holds the lock."""
    with anyio.CancelScope() as keeper.command:
        try:
            yield
        finally:
            keeper.command = None


def _left_of(keeper: Mod) -> str:
    """After a reload that failed."""
    if keeper.incarnation is not None:
        return "the old one still serves"
    return "its restart goes on" if keeper.state in COMING_BACK else "the mod is down"


def _loaded(keeper: Mod, manifest: Manifest) -> EventResponse:
    return EventResponse(
        True,
        f"mod {keeper.mod_id} {manifest.version} loaded from {keeper.config.path}",
        {
            "mod_id": keeper.mod_id,
            "mod_path": keeper.config.path,
            "version": manifest.version,
            **pids_of(keeper),
            "patterns": list(manifest.patterns),
        },
    )


def failure(config: ModConfig, error: ModvisorError, message: str | None = None) -> EventResponse:
    """A failed response that names the mod, the cause and the place."""
    details = {key: _short(value) for key, value in error.details.items()}
    return EventResponse.failure(
        error.code, message or f"mod {config.mod_id}: {str(error).removeprefix(f'mod {config.mod_id}: ')}",
        **{**details, "mod_id": config.mod_id, "mod_path": config.path},
    )  # fmt: skip


def _short(value: Any) -> Any:
    return value[:MAX_RESPONSE_TEXT] if isinstance(value, str) else value
