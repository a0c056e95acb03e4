"""Decides which mods may join a network, and makes the routes of the mods that did.

`load_order` knows which mods there are and their order. The registry starts nothing: `commands` loads,
replaces and unloads the mods, `upkeep` acts on them by itself, `restored` is what the journal keeps
of them. Each puts its mods in and takes them out here. After every change of a mod the routes are
made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ....ipc.messages import Request
from ...calls import Caller, Late, Ledger
from ...cell import OnRefused, spare_cell
from ...config import (
    Audience,
    ConfigError,
    ModConfig,
    NetworkConfig,
    Redaction,
    is_allowed,
    misfit,
    with_bundled_permissions,
)
from ...journal import Journal, KeptMod, StateDir
from ...lifecycle import CancelHandler, Incarnation, Keeper, LeaseOf, Probation, Recipe, Shared, Spares, State
from ...limits import Enforcement
from ...process import Launcher
from ...sources import Home, SnapshotStore, search_path
from ..mods.workers import Mod, WorkerGroup, configs_of
from ..responses import NOT_ALLOWED, failure
from .dependents import Dependents
from .families import Families
from .kept import kept_entry
from .load_order import LoadedMods
from .router import Entry, Router


class Upkeep(Protocol):
    """Acts on a mod when its keeper asks for it; see `Listener`."""

    def recycle(self, keeper: Keeper, reason: str) -> None: ...
    def revert(self, keeper: Keeper, probation: Probation, why: str) -> None: ...
    def reverted(self, keeper: Keeper, what: str) -> None: ...


class ModRegistry(LoadedMods):
    """The mods in load order, with the routes that follow from them, and what may join them.

    Attributes:
        reserved_ids: ids that a swap under way will bring.
        is_starting: the mods of the file and of the previous run are being loaded.
        is_closing: the network is shutting down; nothing may be loaded.
        listeners: called when a mod, its state or its version has changed.
        spares: the workers that wait for a mod.
        upkeep: set before the first mod is loaded.
        code_notes: by the id of a mod or copy, what differs about the code that runs here; for people.
        told_reverted: called when a worker has gone back to its previous version by itself, with what happened.
    """

    def __init__(
        self,
        config: NetworkConfig,
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
        caller: type[Caller] = Caller,
    ) -> None:
        super().__init__()
        self._config = config
        self.router: Router[Mod] = Router()
        self.families = Families(journal, self.rebuild_routes)
        self.reserved_ids: set[str] = set()
        self.code_notes: Mapping[str, str] = {}
        self.is_starting = True
        self.is_closing = False
        self.dependents = Dependents(self)
        self.listeners: list[Callable[[], None]] = [self.dependents.announce]
        self.upkeep: Upkeep
        self.told_reverted: Callable[[Keeper, str], None] = lambda keeper, what: None
        self._reading = anyio.Lock(fast_acquire=True)
        self.spares = Spares(launcher, enforcement, config.spares, spare_cell(config))
        self._recipe = Recipe(config, state, snapshots, enforcement, self.spares)
        self._shared = Shared(self._recipe, launcher, journal, ledger, config.event_timeout, tasks, self, caller)
        # Called with every event, so these are the network's own, without a hop; see `Listener`.
        self.request = on_request
        self.cancelled = on_cancel
        self.late_answer = late
        self.resources_of = resources_of

    def tell_refused_hosts(self, listener: OnRefused) -> None:
        """Call ``listener`` with mod, host and reason when a mod may not reach a host."""
        self._recipe.on_refused = listener

    def lease_by(self, lease_of: LeaseOf) -> None:
        """Have the workers of a mod live by the lease that ``lease_of`` returns for its config, if it returns one."""
        self._recipe.lease_of = lease_of

    # -- what may be loaded

    def may_load(
        self, config: ModConfig, instead_of: Mod | None = None, *, restored: bool = False
    ) -> EventResponse | None:
        """Return why a mod cannot be loaded now; None if it can."""
        if self.is_closing:
            return failure(config, ModvisorError("the network is shutting down", code=Code.NOT_RUNNING))
        if not is_allowed(self._config.allowed_mods, config.path):
            return failure(config, NOT_ALLOWED)
        if config.mod_id in self.reserved_ids:
            return failure(config, ModvisorError("a swap is bringing a mod with this id", code=Code.ALREADY_LOADED))
        # The network file is checked as a whole, and may be in the middle of a change.
        is_checked = restored or config.from_file
        if not is_checked and (wrong := self.misfit(config.mod_id, config.audience, instead_of)) is not None:
            return failure(config, ModvisorError(wrong, code=ConfigError.code))
        if (taken := self.taken_name(config, instead_of)) is not None:
            return failure(config, ModvisorError(taken, code=Code.ALREADY_LOADED))
        return self.already_loaded(config)

    def misfit(self, mod_id: str, audience: Audience | None, instead_of: Mod | None = None) -> str | None:
        """Return why a mod cannot have an audience; None if it can."""
        others = {mod.mod_id: mod.audience for mod in self if mod is not instead_of}
        return misfit(mod_id, audience, others, self._config.agent_groups)

    # -- order

    def file_entries(self) -> dict[str, ModConfig]:
        """Return the enabled mods of the network file by id, in its order."""
        return {mod.mod_id: with_bundled_permissions(mod) for mod in self._config.mods if mod.enabled}

    def add(self, config: ModConfig) -> Mod:
        """Return the mod with this id; a new one is put in order."""
        if (mod := self.get(config.mod_id)) is None:
            mod = self.make(config)
            self.put(mod)
        return mod

    def put(self, mod: Mod) -> None:
        """Put a mod that was made elsewhere in order."""
        mod.promoted = self.families.promoted(mod.mod_id)
        self._insert(mod)

    def exchange(self, old: Mod, new: Mod) -> None:
        """Put a mod in the place of the one with its id, because it comes to run here or goes elsewhere."""
        new.audience, new.promoted, new.is_member = old.audience, old.promoted, old.is_member
        self._exchange(old, new)
        self.rebuild_routes()

    def put_in_order(self, mod_ids: Sequence[str], but: Container[str] = ()) -> bool:
        """Order the mods as a start would: the mods of the file in its order, then the others.

        Returns:
            whether the order of the mods has changed, not counting those of ``but``.
        """
        before, now = self._arrange(mod_ids)
        if before != now:
            self.rebuild_routes()
        return [each for each in before if each not in but] != [each for each in now if each not in but]

    def take_in(self, mod: Mod) -> None:
        """Make a mod part of the network: it stays, even if it does not serve."""
        mod.is_member = True
        self.rebuild_routes()

    def discard(self, mod: Mod) -> None:
        """Forget a mod that has ended."""
        self._remove(mod)
        mod.close_log()
        self.rebuild_routes()

    def make(self, config: ModConfig) -> Keeper | WorkerGroup:
        """Return what runs a mod. It is not part of the network yet."""
        if config.workers is None:
            return self.make_worker(config)
        return WorkerGroup(config, [self.make_worker(own) for own in configs_of(config)])

    def make_worker(self, config: ModConfig) -> Keeper:
        """Return a keeper that goes on with the incarnation numbers of its id."""
        same = (worker.number for mod in self for worker in mod.keepers if worker.mod_id == config.mod_id)
        return Keeper(config, self._recipe.log_of(config.mod_id), self._shared, max(same, default=0))

    # -- routes
    def changed(self) -> None:
        """Follow a change of a mod, whose id may have changed."""
        self._follow_ids()
        self.rebuild_routes()

    def rebuild_routes(self) -> None:
        """Have the families split and the routes made anew, and tell the listeners."""
        self.families.arrange(self, closing=self.is_closing)
        self.router.replace(lambda: map(self._entry, self._in_service()), self._has_observers())
        for tell in self.listeners:
            tell()

    def _has_observers(self) -> bool:
        for mod in self._mods.values():  # no generators: a start asks this several times with each mod
            manifest = mod.manifest if mod.is_member else None
            if manifest is not None and manifest.observes and mod.state is not State.DRAINING:
                return True
        return False

    def _in_service(self) -> Iterator[Mod]:
        return (mod for mod in self if mod.is_member and mod.state is not State.DRAINING)

    def _entry(self, mod: Mod) -> Entry[Mod]:
        manifest, split = mod.manifest, self.families.split_of(mod.mod_id)
        patterns = self.families.patterns_of_siblings(mod) if manifest is None else manifest.patterns
        # Another framework calls its mods by their paths.
        host = (mod.keepers[0].config if mod.keepers else mod.config).host
        path = None if host is None else mod.config.path
        return Entry(mod.mod_id, patterns, () if manifest is None else manifest.observes, mod, split, path)

    # -- what keepers tell and ask (`Listener`)

    def recycle(self, keeper: Keeper, reason: str) -> None:
        """Replace a worker by a fresh process of the same version, soon."""
        self.upkeep.recycle(keeper, reason)

    def revert(self, keeper: Keeper, probation: Probation, why: str) -> None:
        """Replace the version on probation by the previous one, soon."""
        self.upkeep.revert(keeper, probation, why)

    def reverted(self, keeper: Keeper, what: str) -> None:
        """Follow up after the previous version has taken over again."""
        self.upkeep.reverted(keeper, what)
        self.told_reverted(keeper, what)

    def entry_of(self, keeper: Keeper, config: ModConfig) -> KeptMod | None:
        """Return what the journal must keep of a mod that becomes ``config``; None if nothing."""
        if keeper not in self:  # a worker of several: its mod is kept when all of them have followed
            return None
        return kept_entry(config, config.audience, list(self).index(keeper), keeper.loaded_at)

    def check_needs(self, config: ModConfig) -> None:
        """Raise `ModvisorError` unless the mods that ``config`` requires are loaded."""
        if config.requires or config.optional:
            self.dependents.check(config)

    def admit(self, name: str, config: ModConfig, version: str) -> None:
        """Raise `ModvisorError` unless the mods that need ``name`` can work with this version."""
        self.dependents.admit(name, config, version)

    # -- the network file

    def use_config(self, config: NetworkConfig) -> None:
        """Follow the rules of a changed network file from now on."""
        self._config = self._recipe.network = config
        self.spares.want(config.spares)
        self.redaction.use(config.redact)

    @property
    def redaction(self) -> Redaction:
        """What is masked in logs and reports."""
        return self._recipe.redaction

    @property
    def tokens(self) -> dict[str, int]:
        """The fencing tokens of the mods that run here, by id; see `Recipe`."""
        return self._recipe.tokens

    @property
    def config(self) -> NetworkConfig:
        return self._config

    @property
    def base_dir(self) -> Path:
        return self._config.base_dir

    @property
    def own_folders(self) -> list[str]:
        """Return the folders of the network in which its mods' Python looks first."""
        return search_path(self._config)

    @property
    def search_path(self) -> list[str]:
        """Return all folders in which a mod may be found."""
        return self._recipe.search_path

    async def as_files_say(self, config: ModConfig) -> tuple[ModConfig, Home]:
        """Return a mod with what its files say, and where they are; raises `ModvisorError`."""
        async with self._reading:  # so that loads keep the order in which they were asked for
            return await self._recipe.read_home(config)

    # -- the launcher

    async def start_launcher(self) -> None:
        """Get ready to start workers; raises OSError."""
        await self._shared.launcher.start()

    async def close_launcher(self) -> None:
        """End the spare workers and what starts workers, after every mod has ended."""
        await self.spares.close()
        await self._shared.launcher.close()
