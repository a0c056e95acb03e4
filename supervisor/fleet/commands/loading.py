"""Load and unload mods together with the mods that they require.

Required mods are loaded first, and a mod that others need is not unloaded. `sources.resolve` says
which mods to load; this file loads them in that order and undoes what was loaded in vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import ModConfig, NetworkConfig, mod_config
from ...journal import KeptMod
from ...lifecycle import State
from ...process import shielded
from ...progress import tell
from ...sources import Offer, Plan, Present, Unmet, available, facts_of, in_thread, plan, supplier
from ..mods.workers import Mod
from ..registry.dependents import names_of
from ..responses import failure
from .commands import ModCommands

Offers = Mapping[str, Sequence[Offer]]


class DependencyFailed(ModvisorError):
    """A mod was not started, because a mod that it requires was not."""

    code = Code.DEPENDENCY_FAILED


@dataclass(frozen=True, slots=True)
class _Choice:
    """How to load an offer: its path, and the version to ask for."""

    mod_path: str
    asked: str | None


class Loading:
    """Load and unload, for mods that require others."""

    def __init__(self, commands: ModCommands) -> None:
        self.commands = commands
        self._mods = commands.mods
        self._planning = anyio.Lock()  # two loads must not both load the mod that both require

    # -- load

    async def load(self, config: ModConfig) -> EventResponse:
        """Load a mod, after the mods that it requires and that are not loaded yet.

        If it fails, they are unloaded again. ``data``: as `ModCommands.load`, and ``dependencies``,
        the ids of the mods that were loaded with it.
        """
        if (refusal := self._mods.may_load(config)) is not None:
            return refusal
        mod = await self._as_loaded(config)
        if not mod.requires:
            return await self.commands.load(config)
        async with self._planning:
            try:
                await self._wait_for_loads({each.name for each in mod.requires})
                loaded = [each for each in self._mods.dependents.loaded() if each.mod_id != mod.mod_id]
                made = plan([mod], loaded, await self._offers([mod], loaded))
                self._check_suppliers([mod.requires, *(offer.requires for offer in made.offers.values())], loaded)
            except ModvisorError as error:
                return failure(config, error)
            return await self._load_in_order(config, mod, made)

    async def _load_in_order(self, config: ModConfig, mod: Present, made: Plan) -> EventResponse:
        brought: list[str] = []
        loaded = self._mods.dependents.loaded()
        met = (supplier(each, loaded) for each in mod.requires)
        self._mods.dependents.coming[mod.mod_id] = frozenset(made.offers) | {
            each.mod_id for each in met if each is not None
        }
        try:
            for name in made.order[:-1]:
                response = await self.commands.load(self._config_of(made.offers[name]))
                if not response.success:
                    await self._unload_again(brought)
                    return failure(config, _failed(mod.mod_id, name, response))
                brought.append(name)
            response = await self.commands.load(config)
            if not response.success:
                await self._unload_again(brought)
            elif isinstance(response.data, dict):
                response.data["dependencies"] = brought
            return response
        except BaseException:
            await shielded(self._unload_again(brought))
            raise
        finally:
            self._mods.dependents.coming.pop(mod.mod_id, None)

    async def _unload_again(self, brought: list[str]) -> None:
        """Unload mods that were loaded in vain, unless others need them by now."""
        for name in reversed(brought):
            if not [
                each for each in self._mods.dependents.required_by(name) if each not in self._mods.dependents.coming
            ]:
                await self.commands.unload(name)

    def _check_suppliers(self, all_requires: Iterable[Iterable[Any]], loaded: Sequence[Present]) -> None:
        """Refuse a loaded mod that is down for good.

        Events wait for a restart, but not for the end of a quarantine."""
        for requires in all_requires:
            for each in requires:
                met = supplier(each, loaded)
                mod = None if met is None else self._mods.find(met.mod_id)
                if mod is not None and mod.state in (State.FAILED, State.QUARANTINED, State.STOPPED):
                    text = f"it requires {each}, and mod {mod.mod_id} is {mod.state}: {mod.last_error}"
                    raise DependencyFailed(text, dependency=mod.mod_id)

    async def _wait_for_loads(self, names: set[str]) -> None:
        """Wait for loads under way of required mods, whose versions are not known before."""
        for mod in list(self._mods):
            if mod.state is State.STARTING and names & names_of(mod.config):
                async with mod.lock:
                    pass

    # -- unload

    async def unload(self, id_or_path: str, timeout: float | None = None, *, cascade: bool = False) -> EventResponse:
        """Unload a mod that no other mod needs.

        ``data``: as `ModCommands.unload`, and ``unloaded``, the ids of all mods that were unloaded.

        Args:
            cascade: unload the mods that need it first.
        """
        mod = self._mods.named(id_or_path)
        if isinstance(mod, EventResponse):
            return mod
        if not cascade and (refusal := self.needed(mod)) is not None:
            return refusal
        gone: list[str] = []
        order = self.needing(mod.mod_id)
        for mod_id in order:
            tell(f"draining and ending {mod_id}", len(gone), len(order) + 1)
            response = await self.commands.unload(mod_id, timeout)
            if response.success:
                gone.append(mod_id)
        tell(f"draining and ending {mod.mod_id}", len(gone), len(order) + 1 if order else None)
        response = await self.commands.unload(mod.mod_id, timeout)
        if isinstance(response.data, dict) and response.success:
            response.data["unloaded"] = [*gone, mod.mod_id]
        return response

    def needed(self, mod: Mod) -> EventResponse | None:
        """Return why a mod cannot be unloaded alone; None if it can."""
        needed = self._mods.dependents.required_by(mod.mod_id)
        if not needed:
            return None
        text = (
            f"mod {mod.mod_id} is needed by {', '.join(needed)}; unload {'them' if len(needed) > 1 else 'it'} "
            "first, or all together with 'cascade' (modvisor unload --cascade)"
        )
        return EventResponse.failure(Code.NEEDED, text, mod_id=mod.mod_id, mod_path=mod.config.path, needed_by=needed)

    def needing(self, mod_id: str) -> list[str]:
        """Return all mods that need a mod, directly or not, each before the mods that it needs."""
        needed, found = self._mods.dependents.dependents(), dict.fromkeys([mod_id])
        ordered: list[str] = []

        def visit(name: str) -> None:
            for each in needed.get(name, ()):
                if each not in found:
                    found[each] = None
                    visit(each)
                    ordered.append(each)

        visit(mod_id)
        return ordered

    def dependents_first(self, mod_ids: Sequence[str]) -> list[str]:
        """Return mods in the order in which they can be unloaded."""
        found: list[str] = []
        for mod_id in mod_ids:
            for each in (*self.needing(mod_id), mod_id):
                if each in mod_ids and each not in found:
                    found.append(each)
        return found

    # -- many at once

    async def start(self, kept: Iterable[KeptMod]) -> list[tuple[ModConfig, EventResponse]]:
        """Load the mods of the network file, and the mods that the previous run had loaded.

        Returns:
            the outcome of each entry of the file, or of the mod that took its place.
        """
        division = self.commands.records.divided(kept)
        instead, entries = division.instead, self._mods.file_entries()
        by_id = {mod.mod_id: mod for mod in instead.values()}  # the file may name one of them, too
        configured = {name: instead.get(name) or by_id.get(name, entry) for name, entry in entries.items()}
        wanted = {mod.mod_id: mod for mod in (*configured.values(), *division.others)}
        for config in wanted.values():
            self._mods.add(config)
        restored = [mod.mod_id for mod in wanted.values() if not mod.from_file]
        outcomes = await self.load_all(list(wanted.values()), restored=restored)
        return [(entries[name], outcomes[mod.mod_id]) for name, mod in configured.items()]

    async def load_all(self, configs: Sequence[ModConfig], restored: Iterable[str] = ()) -> dict[str, EventResponse]:
        """Load mods and the mods that they require, as many as possible at the same time.

        A mod whose dependency fails is not started.

        Returns:
            the outcome of every mod, by id.
        """
        wanted = [await self._as_loaded(config) for config in configs]
        if any(mod.requires or mod.optional for mod in wanted):
            wanted = [await self._as_loaded(config, with_version=True) for config in configs]
        ids = {mod.mod_id for mod in wanted}
        loaded = [mod for mod in self._mods.dependents.loaded() if mod.mod_id not in ids]
        offers = await self._offers(wanted, loaded)
        refused, made = plan_of(wanted, loaded, offers)
        by_id = {config.mod_id: config for config in configs}
        by_id |= {name: self._config_of(offer) for name, offer in made.offers.items()}
        for name in made.offers:
            self._mods.add(by_id[name])
        start = _OrderedStart(self.commands, frozenset(restored), made.after)
        for name, requires in [
            *((mod.mod_id, mod.requires) for mod in wanted),
            *((name, offer.requires) for name, offer in made.offers.items()),
        ]:
            met = [supplier(each, [*wanted, *loaded]) for each in requires]
            firsts = {each.name for each in requires} & made.offers.keys() | {each.mod_id for each in met if each} & ids
            start.required[name] = frozenset(firsts - {name})
        await start.run(by_id, refused)
        return start.outcomes

    async def _as_loaded(self, config: ModConfig, *, with_version: bool = False) -> Present:
        """Return a mod as it will be loaded, from its files.

        Mistakes in them are reported when it starts."""
        version = None
        try:
            settled, home = await self._mods.as_files_say(config)
            if with_version and home.folder is not None:
                named = config.path.partition(":")[2] or None
                said = await in_thread(facts_of, home.folder, named)
                version = settled.declared or said.version
        except ModvisorError:
            settled = config
        return Present(config.mod_id, names_of(config), version, settled.requires, settled.optional)

    # -- offers

    async def _offers(self, wanted: Sequence[Present], loaded: Sequence[Present]) -> Offers:
        """Return the mods that could be loaded, by name.

        Search for them only if a required mod is missing."""
        suppliers = [*wanted, *loaded]
        if all(supplier(each, suppliers) is not None for mod in wanted for each in mod.requires):
            return {}
        return await anyio.to_thread.run_sync(offers_in, self._mods.config)

    def _config_of(self, offer: Offer) -> ModConfig:
        choice: _Choice = offer.source
        version: dict[str, Any] = {} if choice.asked is None else {"version": choice.asked}
        return mod_config(choice.mod_path, base_dir=self._mods.base_dir, mod_id=offer.name, dependency=True, **version)


def offers_in(config: NetworkConfig) -> Offers:
    """Return the mods that a network could load, by name. Reads files, so call it in a thread."""
    offers: dict[str, list[Offer]] = {}
    for mod in available(config):
        if mod.problem is None and mod.name not in offers:  # the first that is found of each name
            offers[mod.name] = [
                Offer(mod.name, each.version, each.facts.requires, _Choice(mod.mod_path, each.asked))
                for each in mod.releases
                if each.facts.problem is None
            ]
    return offers


def plan_of(
    wanted: Sequence[Present], loaded: Sequence[Present], offers: Offers
) -> tuple[dict[str, ModvisorError], Plan]:
    """Return which of ``wanted`` cannot be loaded, and the plan for the others.

    The first ones go before the last."""
    try:
        return {}, plan(wanted, loaded, offers)
    except Unmet:
        pass
    refused: dict[str, ModvisorError] = {}
    accepted: list[Present] = []
    for mod in wanted:
        others = [each for each in wanted if each is not mod and each not in accepted]
        try:
            plan([*accepted, mod], [*others, *loaded], offers)
        except Unmet as error:
            refused[mod.mod_id] = error
        else:
            accepted.append(mod)
    others = [each for each in wanted if each.mod_id in refused]
    return refused, plan(accepted, [*others, *loaded], offers)


class _OrderedStart:
    """Loads mods at the same time, each after the mods that must come first.

    Attributes:
        required: by id, the mods without which a mod is not started.
    """

    def __init__(self, commands: ModCommands, restored: frozenset[str], after: Mapping[str, frozenset[str]]) -> None:
        self._commands = commands
        self._restored = restored
        self._after = after
        self._done: dict[str, asyncio.Event] = {}
        self.required: dict[str, frozenset[str]] = {}
        self.outcomes: dict[str, EventResponse] = {}

    async def run(self, configs: Mapping[str, ModConfig], refused: Mapping[str, ModvisorError]) -> None:
        self._done = {mod_id: asyncio.Event() for mod_id in configs}
        async with anyio.create_task_group() as tasks:
            for mod_id, config in configs.items():
                tasks.start_soon(self._load, config, refused.get(mod_id))

    async def _load(self, config: ModConfig, refusal: ModvisorError | None) -> None:
        mod_id, restored = config.mod_id, config.mod_id in self._restored
        if refusal is None:
            refusal = await self._wait(mod_id)
        if refusal is None:
            self.outcomes[mod_id] = await self._commands.load(config, restored=restored)
        else:
            self.outcomes[mod_id] = self._commands.not_started(config, refusal, restored=restored)
        self._done[mod_id].set()

    async def _wait(self, mod_id: str) -> ModvisorError | None:
        """Wait for the mods that come first. Returns an error if a required mod failed."""
        required = self.required.get(mod_id, frozenset())
        for first in sorted(self._after.get(mod_id, frozenset()) | required):
            await self._done[first].wait()
            if first in required and not self.outcomes[first].success:
                return _failed(mod_id, first, self.outcomes[first])
        return None


def _failed(mod_id: str, dependency: str, response: EventResponse) -> DependencyFailed:
    text = f"mod {mod_id}: its dependency {dependency} failed: {response.message}"
    return DependencyFailed(text, dependency=dependency, reason=response.error)
