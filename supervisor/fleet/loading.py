"""Load, unload and start mods with all that they require: those first, and none goes that others need."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import EventResponse
from ..config import ModConfig, mod_config
from ..journal import KeptMod
from ..lifecycle import State
from ..process import shielded
from ..sources import Offer, Plan, Present, Unmet, available, facts_of, plan, supplier
from .commands import ModCommands
from .dependents import names_of
from .responses import failure

Offers = Mapping[str, Sequence[Offer]]


class DependencyFailed(ModvisorError):
    """A mod was not started, because one that it requires was not."""

    code = Code.DEPENDENCY_FAILED


@dataclass(frozen=True, slots=True)
class _Choice:
    """What loads an offer."""

    mod_path: str
    asked: str | None


class Loading:
    """The commands of the registry, for mods that require others."""

    def __init__(self, commands: ModCommands) -> None:
        self.commands = commands
        self._mods = commands.mods
        self._planning = anyio.Lock()  # two loads must not both bring what both require

    # -- load

    async def load(self, config: ModConfig) -> EventResponse:
        """Load a mod, and first what it requires and is not loaded; ``data`` as `ModRegistry.load`, and ``dependencies``:
        the ids of those that were loaded with it. If it fails, they are unloaded again."""
        if (refusal := self._mods.may_load(config)) is not None:
            return refusal
        mod = self._as_present(config)
        if not mod.requires:
            return await self.commands.load(config)
        async with self._planning:
            try:
                await self._settled_down({each.name for each in mod.requires})
                present = [each for each in self._mods.dependents.present() if each.mod_id != mod.mod_id]
                made = plan([mod], present, await self._offers([mod], present))
                self._check_suppliers([mod.requires, *(offer.requires for offer in made.offers.values())], present)
            except ModvisorError as error:
                return failure(config, error)
            return await self._load_in_order(config, mod, made)

    async def _load_in_order(self, config: ModConfig, mod: Present, made: Plan) -> EventResponse:
        brought: list[str] = []
        present = self._mods.dependents.present()
        met = (supplier(each, present) for each in mod.requires)
        self._mods.dependents.coming[mod.mod_id] = frozenset(made.offers) | {
            each.mod_id for each in met if each is not None
        }
        try:
            for name in made.order[:-1]:
                response = await self.commands.load(self._config_of(made.offers[name]))
                if not response.success:
                    await self._take_back(brought)
                    return failure(config, _failed(mod.mod_id, name, response))
                brought.append(name)
            response = await self.commands.load(config)
            if not response.success:
                await self._take_back(brought)
            elif isinstance(response.data, dict):
                response.data["dependencies"] = brought
            return response
        except BaseException:
            await shielded(self._take_back(brought))
            raise
        finally:
            self._mods.dependents.coming.pop(mod.mod_id, None)

    async def _take_back(self, brought: list[str]) -> None:
        """What was loaded for nothing, unless others need it by now."""
        for name in reversed(brought):
            if not [
                each for each in self._mods.dependents.required_by(name) if each not in self._mods.dependents.coming
            ]:
                await self.commands.unload(name)

    def _check_suppliers(self, all_requires: Iterable[Iterable[Any]], present: Sequence[Present]) -> None:
        """What is loaded must not be down for good: its restart is waited for by events, its quarantine is not."""
        for requires in all_requires:
            for each in requires:
                met = supplier(each, present)
                mod = None if met is None else self._mods.find(met.mod_id)
                if mod is not None and mod.state in (State.FAILED, State.QUARANTINED, State.STOPPED):
                    text = f"it requires {each}, and mod {mod.mod_id} is {mod.state}: {mod.last_error}"
                    raise DependencyFailed(text, dependency=mod.mod_id)

    async def _settled_down(self, names: set[str]) -> None:
        """Wait for loads under way of mods that are required: before, their versions are not known."""
        for mod in list(self._mods):
            if mod.state is State.STARTING and names & names_of(mod.config):
                async with mod.lock:
                    pass

    # -- unload

    async def unload(self, id_or_path: str, timeout: float | None = None, *, cascade: bool = False) -> EventResponse:
        """Unload a mod that nobody needs; ``data`` as `ModRegistry.unload`, and ``unloaded``: the ids of all that went.

        Args:
            cascade: those who need it go first.
        """
        mod = self._mods.find(id_or_path)
        if mod is None:
            return await self.commands.unload(id_or_path, timeout)
        if not cascade and (needed := self._mods.dependents.required_by(mod.mod_id)):
            text = (
                f"mod {mod.mod_id} is needed by {', '.join(needed)}; unload {'them' if len(needed) > 1 else 'that one'} "
                "first, or all together with 'cascade' (modvisor unload --cascade)"
            )
            return EventResponse.failure(
                Code.NEEDED, text, mod_id=mod.mod_id, mod_path=mod.config.path, needed_by=needed
            )
        gone: list[str] = []
        for mod_id in self._dependents(mod.mod_id):
            response = await self.commands.unload(mod_id, timeout)
            if response.success:
                gone.append(mod_id)
        response = await self.commands.unload(mod.mod_id, timeout)
        if isinstance(response.data, dict) and response.success:
            response.data["unloaded"] = [*gone, mod.mod_id]
        return response

    def _dependents(self, mod_id: str) -> list[str]:
        """All who need it, directly or not, each before what it needs."""
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
        """In the order in which they can be unloaded."""
        found: list[str] = []
        for mod_id in mod_ids:
            for each in (*self._dependents(mod_id), mod_id):
                if each in mod_ids and each not in found:
                    found.append(each)
        return found

    # -- many at once

    async def start(
        self, kept: Iterable[KeptMod]
    ) -> tuple[list[tuple[ModConfig, EventResponse]], list[tuple[str, EventResponse]]]:
        """Load the mods of the network file, and those that were loaded while the former run ran; the outcomes of either."""
        configured = self._mods.configured()
        restored, broken = self.commands.records.restored(kept)
        outcomes = await self.load_all([*configured, *restored], restored={mod.mod_id for mod in restored})
        return (
            [(mod, outcomes[mod.mod_id]) for mod in configured],
            [*broken, *((mod.mod_id, outcomes[mod.mod_id]) for mod in restored)],
        )

    async def load_all(self, configs: Sequence[ModConfig], restored: Iterable[str] = ()) -> dict[str, EventResponse]:
        """Load them, and what they require, at the same time as far as that goes; one whose dependency fails is not started.

        Returns:
            the outcomes, by id, of all that were to be loaded.
        """
        wanted = [self._as_present(config) for config in configs]
        if any(mod.requires or mod.optional for mod in wanted):
            wanted = [self._as_present(config, with_version=True) for config in configs]
        ids = {mod.mod_id for mod in wanted}
        present = [mod for mod in self._mods.dependents.present() if mod.mod_id not in ids]
        offers = await self._offers(wanted, present)
        refused, made = _plan_of(wanted, present, offers)
        by_id = {config.mod_id: config for config in configs}
        by_id |= {name: self._config_of(offer) for name, offer in made.offers.items()}
        for name in made.offers:
            self._mods.place(by_id[name])
        start = _Start(self.commands, frozenset(restored), made.after)
        for name, requires in [
            *((mod.mod_id, mod.requires) for mod in wanted),
            *((name, offer.requires) for name, offer in made.offers.items()),
        ]:
            met = [supplier(each, [*wanted, *present]) for each in requires]
            firsts = {each.name for each in requires} & made.offers.keys() | {each.mod_id for each in met if each} & ids
            start.required[name] = frozenset(firsts - {name})
        await start.run(by_id, refused)
        return start.outcomes

    def _as_present(self, config: ModConfig, *, with_version: bool = False) -> Present:
        """As its files say it will be. Mistakes in them are told when it starts."""
        version = None
        try:
            settled, home = self._mods.as_files_say(config)
            if with_version and home.folder is not None:
                version = settled.declared or facts_of(home.folder, config.path.partition(":")[2] or None).version
        except ModvisorError:
            settled = config
        return Present(config.mod_id, names_of(config), version, settled.requires, settled.optional)

    # -- what there is

    async def _offers(self, wanted: Sequence[Present], present: Sequence[Present]) -> Offers:
        """The mods that could be loaded, by name; nothing is looked for unless something is lacking."""
        there = [*wanted, *present]
        if all(supplier(each, there) is not None for mod in wanted for each in mod.requires):
            return {}
        offers: dict[str, list[Offer]] = {}
        for mod in await anyio.to_thread.run_sync(available, self._mods.config):
            if mod.problem is None and mod.name not in offers:  # the nearest of that name
                offers[mod.name] = [
                    Offer(mod.name, each.version, each.facts.requires, _Choice(mod.mod_path, each.asked))
                    for each in mod.releases
                    if each.facts.problem is None
                ]
        return offers

    def _config_of(self, offer: Offer) -> ModConfig:
        choice: _Choice = offer.source
        version: dict[str, Any] = {} if choice.asked is None else {"version": choice.asked}
        return mod_config(choice.mod_path, base_dir=self._mods.base_dir, mod_id=offer.name, dependency=True, **version)


def _plan_of(
    wanted: Sequence[Present], present: Sequence[Present], offers: Offers
) -> tuple[dict[str, ModvisorError], Plan]:
    """What to load, and which of ``wanted`` cannot be: as few as possible, those that come last."""
    try:
        return {}, plan(wanted, present, offers)
    except Unmet:
        pass
    refused: dict[str, ModvisorError] = {}
    accepted: list[Present] = []
    for mod in wanted:
        others = [each for each in wanted if each is not mod and each not in accepted]
        try:
            plan([*accepted, mod], [*others, *present], offers)
        except Unmet as error:
            refused[mod.mod_id] = error
        else:
            accepted.append(mod)
    others = [each for each in wanted if each.mod_id in refused]
    return refused, plan(accepted, [*others, *present], offers)


class _Start:
    """Mods that are loaded at the same time, each after some of the others.

    Attributes:
        required: those without which it is not started.
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
        """For those it comes after; why it is not to be started, if one that it requires was not."""
        required = self.required.get(mod_id, frozenset())
        for first in sorted(self._after.get(mod_id, frozenset()) | required):
            await self._done[first].wait()
            if first in required and not self.outcomes[first].success:
                return _failed(mod_id, first, self.outcomes[first])
        return None


def _failed(mod_id: str, dependency: str, response: EventResponse) -> DependencyFailed:
    text = f"mod {mod_id}: its dependency {dependency} failed: {response.message}"
    return DependencyFailed(text, dependency=dependency, reason=response.error)
