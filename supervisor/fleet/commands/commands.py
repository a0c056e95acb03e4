"""Load, unload, reload, restart and swap: commands on one mod that answer with a response.

A command never raises for a mod's failure. Commands on one mod wait for one another; an unload or a
shutdown cancels the command that is under way.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import ConfigError, ModConfig, is_allowed, with_aliases, with_changes
from ...journal import Journal, JournalError
from ...lifecycle import (
    DOWN,
    Keeper,
    Reloaded,
    ReloadFailed,
    StartFailed,
    State,
    replace_worker,
    version_of,
)
from ...process import shielded
from ...sources import SnapshotStore
from ..claims import Rights
from ..mods.workers import Mod, WorkerGroup, configs_of, pids_of
from ..registry.kept import in_place_of, kept_entry
from ..registry.registry import ModRegistry
from ..responses import NOT_ALLOWED, OTHER_COPIES, failure, loaded, still_there
from .repartition import hand_on_count, keep_count, repartition
from .restored import ModRecords
from .rolling_reload import rolling_reload

logger = logging.getLogger("modvisor.registry")


class ModCommands:
    """The commands on one mod of a registry; see `loading` for mods that need others."""

    def __init__(self, mods: ModRegistry, records: ModRecords, journal: Journal, snapshots: SnapshotStore) -> None:
        self.mods = mods
        self.records = records
        self._journal = journal
        self._snapshots = snapshots
        self.rights = Rights(mods.tokens)

    # -- load

    async def load(self, config: ModConfig, *, restored: bool = False) -> EventResponse:
        """Load a mod. ``data`` on success: mod_id, mod_path, version, pid, patterns.

        Args:
            restored: the previous run of the network had loaded it.
        """
        if (refusal := self.mods.may_load(config, restored=restored)) is not None:
            return self._refused(config, refusal, restored)
        mod = self.mods.add(config)
        self.records.recall_crashes(mod)
        with _held(mod.lock):  # no wait here: a load that is given up while it waits would leave the mod behind
            try:
                with cancellable(mod):
                    return await self._load(mod, config, restored)
            except StartFailed as error:
                response = self._not_loaded(mod, config, error, restored)
                if mod not in self.mods:
                    await self.rights.give_back(config.mod_id)
                return response
            except JournalError as error:
                await shielded(self._undo_load(mod, restored))
                return failure(config, error, f"mod {config.mod_id} was not loaded: {error}")
            except BaseException:  # the caller gave up, or the fault is ours
                await shielded(self._undo_load(mod, restored))
                raise
            await shielded(self._undo_load(mod, restored))
        error = ModvisorError("the load was cancelled by an unload or shutdown", code=Code.NOT_RUNNING)
        return failure(config, error)

    async def _load(self, mod: Mod, config: ModConfig, restored: bool) -> EventResponse:
        """Raises `StartFailed`, `JournalError`."""
        await self.rights.take(config.mod_id)
        if (reason := self.records.stay_quarantined(mod)) is not None:
            self.mods.take_in(mod)
            return failure(config, ModvisorError(reason, code=Code.MOD_AWAY))
        if from_snapshot := await self.records.find_snapshots(mod):
            logger.warning(
                "mod %s starts from its last good version, because the network did not end by itself; "
                "'modvisor reload %s' reads its files",
                config.mod_id,
                config.mod_id,
            )
        if not restored:
            await self.records.check_room(config)
        if isinstance(mod, WorkerGroup):
            await repartition(mod, self._journal)
        response = loaded(mod, await mod.start(from_snapshot=from_snapshot))
        if isinstance(mod, WorkerGroup):
            await keep_count(mod, self._journal)
        self.mods.take_in(mod)  # now that all its workers serve
        if restored or config.from_file:  # they come back at the next start as they are
            await self.records.remember_soon(mod)
        else:
            await self.records.remember(mod)
        return response

    def not_started(self, config: ModConfig, error: ModvisorError, *, restored: bool = False) -> EventResponse:
        """Fail the load of a mod that is not even tried, because of ``error``."""
        if (refusal := self.mods.may_load(config, restored=restored)) is not None:
            return self._refused(config, refusal, restored)
        mod = self.mods.add(config)
        self.records.recall_crashes(mod)
        for worker in mod.keepers:
            worker.not_started(str(error))
        return self._not_loaded(mod, config, error, restored)

    def _refused(self, config: ModConfig, refusal: EventResponse, restored: bool) -> EventResponse:
        """Fail a load that was refused. A mod that had its place in the order already is not left starting."""
        mod = self.mods.get(config.mod_id)
        if mod is not None and mod.config is config and mod.state is State.STARTING and not mod.is_member:
            for worker in mod.keepers:
                worker.not_started(str(refusal.message))
            self._not_loaded(mod, config, ModvisorError(str(refusal.message)), restored)
        else:
            self._tell(config, str(refusal.message))
        return refusal

    def _tell(self, config: ModConfig, why: str) -> None:
        """Log that a mod did not start, unless the network fails to start for it and says so itself."""
        if not (self.mods.is_starting and config.required):
            logger.error("mod %s did not start: %s", config.mod_id, why.removeprefix(f"mod {config.mod_id}: "))

    def _not_loaded(self, mod: Mod, config: ModConfig, error: ModvisorError, restored: bool) -> EventResponse:
        """A mod of the network file or of the previous run stays, with its reason in stats."""
        self._tell(config, str(error))
        if config.from_file or restored:
            self.mods.take_in(mod)
        else:
            self.mods.discard(mod)
        return failure(config, error)

    async def _undo_load(self, mod: Mod, restored: bool) -> None:
        """End a mod whose load was given up.

        The next run tries again what the previous one had loaded."""
        await self._end(mod)
        if not restored:
            self.records.drop(mod)

    # -- unload

    async def unload(self, id_or_path: str, timeout: float | None = None) -> EventResponse:
        """Drain and end a mod; a command on it that is under way is cancelled."""
        mod = self.mods.named(id_or_path)
        if isinstance(mod, EventResponse):
            return mod
        try:
            await self.records.check_room(mod.config)
        except JournalError as error:
            return failure(mod.config, error, f"mod {mod.mod_id} was not unloaded: {error}")
        try:
            try:
                await self._unload(mod, timeout)
            finally:  # also if the caller gives up just as it has ended: the next start must not bring it back
                forgotten = self.records.forget_if_gone(mod)
            await forgotten
        except JournalError as error:
            text = f"mod {mod.mod_id} was unloaded, and the next start of the network would load it again: {error}"
            return failure(mod.config, error, text)
        return EventResponse(True, f"mod {mod.mod_id} unloaded", {"mod_id": mod.mod_id, "mod_path": mod.config.path})

    async def close(self) -> None:
        """Unload every mod, all at once, newest first."""
        self.mods.is_closing = True
        async with anyio.create_task_group() as tasks:
            for mod in reversed(list(self.mods)):
                tasks.start_soon(self._unload, mod, None, True)

    async def _unload(self, mod: Mod, timeout: float | None, keep_state: bool = False) -> None:
        if mod.command is not None:
            mod.command.cancel()
        async with mod.lock:
            if mod in self.mods:  # the cancelled load may have ended it
                # Shielded: half an unload would leave a process behind.
                await shielded(self._end(mod, timeout, keep_state))

    async def _end(self, mod: Mod, timeout: float | None = None, keep_state: bool = False) -> None:
        """End a mod, loaded or half loaded, and forget it.

        The caller holds the lock and shields this."""
        try:
            await mod.unload(timeout, keep_state=keep_state, forget=True)
        finally:
            self.mods.discard(mod)
            await self.rights.give_back(mod.mod_id)

    # -- replace

    async def reload(
        self, id_or_path: str, config: dict[str, Any] | ModConfig | None = None, mod_path: str | None = None
    ) -> EventResponse:
        """Run a mod with fresh code (and config, and path), without losing an event.

        The old version stays if the new one fails.
        """

        async def do(mod: Mod) -> EventResponse:
            try:
                wanted = (
                    config if isinstance(config, ModConfig) else with_changes(mod.config, path=mod_path, config=config)
                )
            except ModvisorError as error:
                return failure(mod.config, error)
            return await self._reload(mod, wanted)

        return await self._commanded(id_or_path, "reload", do, lambda mod: f"reloaded, {still_there(mod)}")

    async def _reload(self, mod: Mod, config: ModConfig) -> EventResponse:
        """Raises `ReloadFailed`, `JournalError`."""
        if not is_allowed(self.mods.config.allowed_mods, config.path):
            return failure(config, NOT_ALLOWED)
        if config != mod.config:
            await self.records.check_room(config)
        done = await self._replace(mod, config)
        await self.records.remember(mod)
        data = {"mod_id": mod.mod_id, "mod_path": mod.config.path, **done.to_dict()}
        return EventResponse(True, f"mod {mod.mod_id} reloaded ({done.pause_ms:.1f} ms pause)", data)

    async def restart(self, id_or_path: str) -> EventResponse:
        """Start a new incarnation of the last good version.

        A mod that is down comes back, a running one is replaced."""

        async def do(mod: Mod) -> EventResponse:
            done = await self._replace(mod, mod.config, from_snapshot=True)
            data = {"mod_id": mod.mod_id, "mod_path": mod.config.path, **pids_of(mod), **done.to_dict()}
            return EventResponse(True, f"mod {mod.mod_id} restarted", data)

        return await self._commanded(id_or_path, "restart", do, lambda _mod: "restarted")

    async def swap(self, id_or_path: str, config: ModConfig, *, alias: bool = False) -> EventResponse:
        """Put another mod in the place of one, without losing an event.

        The old one stays if the new one fails.

        Args:
            alias: the old id (and its aliases) go on naming the mod.
        """
        mod = self.mods.named(id_or_path)
        if not isinstance(mod, EventResponse) and mod.mod_id == config.mod_id:
            return await self._reload_as(mod, config)
        return await self._commanded(
            id_or_path,
            "swap",
            lambda mod: self._swap(mod, config, alias),
            lambda _mod: f"swapped for {config.mod_id}, the old one stays",
            instead=config,
        )

    async def _swap(self, mod: Mod, config: ModConfig, alias: bool) -> EventResponse:
        """Raises `ReloadFailed`, `JournalError`."""
        old_id = mod.mod_id
        if alias:
            config = with_aliases(config, {old_id, *mod.config.aliases})
        if "audience" not in config.given:  # the new mod serves the same sources
            config = replace(config, audience=mod.audience)
        if not config.from_file:
            config = in_place_of(config, mod.config, self.mods.file_entries())
        if (refusal := self.mods.may_load(config, instead_of=mod)) is not None:
            return refusal
        await self.records.check_room(mod.config, config)
        self.mods.reserved_ids.add(config.mod_id)
        try:
            try:
                await self.rights.take(config.mod_id)
            except StartFailed as error:
                raise ReloadFailed.at_start(error) from None
            done = await self._replace(mod, config)
            await self.records.remember(mod)
        finally:
            self.mods.reserved_ids.discard(config.mod_id)
            await self.rights.give_back(config.mod_id if mod.mod_id == old_id else old_id)
        data = {"mod_id": config.mod_id, "mod_path": config.path, "former_id": old_id, **done.to_dict()}
        text = f"mod {old_id} swapped for {config.mod_id} ({done.pause_ms:.1f} ms pause)"
        return EventResponse(True, text, data)

    async def _reload_as(self, mod: Mod, config: ModConfig) -> EventResponse:
        """Reload a mod as another entry has it.

        Its audience stays, unless an entry that is not the network file's gives one.
        """
        regroups = "audience" in config.given and not config.from_file
        if regroups and (wrong := self.mods.misfit(mod.mod_id, config.audience)) is not None:
            return failure(config, ModvisorError(wrong, code=ConfigError.code))
        if not config.from_file:
            config = in_place_of(config, mod.config, self.mods.file_entries())
        elif (place := mod.config.instead_of) is not None and place.mod_id != config.mod_id:
            config = replace(config, instead_of=place)
        response = await self.reload(mod.mod_id, config)
        if regroups and response.success:
            before = mod.audience
            self.mods.families.change({mod: (config.audience, mod.promoted)})
            try:
                await self.records.remember(mod)
            except JournalError as error:
                self.mods.families.change({mod: (before, mod.promoted)})
                return failure(config, error, f"mod {mod.mod_id} was reloaded, and its audience stays: {error}")
        return response

    async def _commanded(
        self,
        id_or_path: str,
        command: str,
        do: Callable[[Mod], Awaitable[EventResponse]],
        not_done: Callable[[Mod], str],
        *,
        instead: ModConfig | None = None,
    ) -> EventResponse:
        """Run a command on a mod when no other command on it is under way.

        Args:
            do: may raise `ReloadFailed`.
            not_done: what the mod was not, if it did; for people.
            instead: the mod that a failed response is about, if not the one that was found.
        """
        mod = self.mods.named(id_or_path)
        if isinstance(mod, EventResponse):
            return mod
        async with mod.lock:
            if mod not in self.mods:
                return self.mods.no_such_mod(id_or_path)
            old = mod.config
            with cancellable(mod):
                try:
                    return await do(mod)
                except ReloadFailed as error:
                    text = f"mod {old.mod_id} was not {not_done(mod)}: {error}"
                    logger.warning("%s", text)
                    return failure(instead or mod.config, error, text)
                except JournalError as error:
                    what = (
                        "and the next start of the network undoes it"
                        if mod.config is not old
                        else "and it was not done"
                    )
                    text = f"mod {old.mod_id}: the {command} cannot be kept, {what}: {error}"
                    return failure(mod.config, error, text)
        return failure(old, ModvisorError(f"the {command} was cancelled by an unload", code=Code.NOT_RUNNING))

    async def _replace(self, mod: Mod, config: ModConfig, *, from_snapshot: bool = False) -> Reloaded:
        """Replace the workers of a mod; raises `ReloadFailed`."""
        if not isinstance(mod, Keeper | WorkerGroup) or self._other_copies(mod, config):
            raise ReloadFailed(OTHER_COPIES, code=Code.CONFLICT, step="start")
        if isinstance(mod, Keeper) and config.workers is None:
            return await replace_worker(mod, config, from_snapshot=from_snapshot, on_probation=not from_snapshot)
        if isinstance(mod, WorkerGroup) and config.workers is not None:
            return await self._replace_workers(mod, config, from_snapshot)
        text = (
            "a mod with 'workers' cannot take the place of a mod without, nor the other way round; "
            "unload it, and load it anew"
        )
        raise ReloadFailed(text, code=Code.CONFLICT, step="start")

    def _other_copies(self, mod: Mod, config: ModConfig) -> bool:
        """Whether a mod is to have another number of copies in its cluster."""
        return self.mods.config.cluster is not None and config.placement.copies != mod.config.placement.copies

    async def _replace_workers(self, group: WorkerGroup, config: ModConfig, from_snapshot: bool) -> Reloaded:
        if all(worker.state in DOWN for worker in group.keepers):
            return await self._start_workers(group, config, from_snapshot)
        old_id, old_workers = group.mod_id, [worker.mod_id for worker in group.keepers]
        done = await rolling_reload(group, config, self.mods.make_worker, from_snapshot=from_snapshot)
        for worker_id in old_workers[config.workers :]:
            self._journal.drop_checkpoint(worker_id)
            self._journal.release(worker_id)
            await shielded(self._snapshots.forget(worker_id))
        if old_id != group.mod_id:
            self._hand_on(old_id, group)
        await keep_count(group, self._journal)
        self.mods.changed()
        return done

    async def _start_workers(self, group: WorkerGroup, config: ModConfig, from_snapshot: bool) -> Reloaded:
        """Start a mod whose workers are all down."""
        before, previous = version_of(group.manifest), group.config
        await self._adopt(group, config)
        try:
            await repartition(group, self._journal)
            for worker, own in zip(group.keepers, configs_of(config), strict=True):
                worker.adopt(own)
            manifest = await group.start(from_snapshot=from_snapshot, quarantined=True)
        except StartFailed as error:
            await self._adopt(group, previous)
            for worker in group.keepers:
                if worker.state is State.STARTING:  # made anew
                    worker.not_started(str(error))
            raise ReloadFailed.at_start(error) from None
        await keep_count(group, self._journal)
        return Reloaded.from_down(before, manifest.version)

    async def _adopt(self, group: WorkerGroup, config: ModConfig) -> None:
        """Have the workers of ``config``, and stop their restarts."""
        old_id, count = group.mod_id, len(group.keepers)
        if config.workers != count or config.mod_id != old_id:
            for old in group.become(config, [self.mods.make_worker(own) for own in configs_of(config)]):
                await old.unload()
            if config.mod_id != old_id:
                for index in range(count):
                    self._journal.hand_on(f"{old_id}#{index}", f"{config.mod_id}#{index}")
                self._hand_on(old_id, group)
            self.mods.changed()
        else:
            group.adopt(config)
        for worker in group.keepers:
            await worker.stop_keeping()

    def _hand_on(self, old_id: str, group: WorkerGroup) -> None:
        """Have the journal keep under the id of a group what it has kept under its former one."""
        position = list(self.mods).index(group)
        entry = kept_entry(group.config, group.audience, position, group.loaded_at)
        hand_on_count(old_id, group.mod_id, self._journal)
        self._journal.hand_on(old_id, group.mod_id, entry)


@contextmanager
def cancellable(mod: Mod) -> Iterator[None]:
    """Run a mod's command, which an unload or a shutdown may cancel. The caller holds the lock."""
    with anyio.CancelScope() as mod.command:
        try:
            yield
        finally:
            mod.command = None


@contextmanager
def _held(lock: anyio.Lock) -> Iterator[None]:
    """Hold a lock that is known to be free."""
    lock.acquire_nowait()
    try:
        yield
    finally:
        lock.release()
