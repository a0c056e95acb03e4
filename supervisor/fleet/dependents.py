"""Who needs whom among the mods that are loaded: asked when one is to go or to become another, and told to those concerned."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ...ipc import messages
from ...ipc.address import MOD, InvalidId, mod_id_of
from ...ipc.errors import Code, ModvisorError
from ..config import ModConfig, Requirement
from ..lifecycle import Incarnation, Keeper, State
from ..sources import Present, circle_of, in_a_circle, supplier, unmet
from .workers import Mod

logger = logging.getLogger("modvisor.dependents")

READY, AWAY, RELOADED = "ready", "away", "reloaded"

Status = tuple[str, tuple[int, ...]] | None
"""Which mod meets a demand, and by which of its incarnations; None: none that serves."""


def names_of(config: ModConfig) -> frozenset[str]:
    """By which others may require it: its id, its aliases, the last part of its path."""
    try:
        return frozenset({config.name, mod_id_of(config.path), *config.aliases})
    except InvalidId:  # a path that gives no id; it has one of its own
        return frozenset({config.name, *config.aliases})


class Dependents:
    """The loaded mods as those that need them see them.

    Attributes:
        coming: loads under way, and the mods they count on.
    """

    def __init__(self, mods: Iterable[Mod]) -> None:
        self._mods = mods
        self._told: dict[tuple[str, str], tuple[Incarnation, Status, str]] = {}
        self.coming: dict[str, frozenset[str]] = {}

    def present(self) -> list[Present]:
        """What is loaded, in load order."""
        return [_present(mod) for mod in self._mods if mod.state is not State.DRAINING]

    def dependents(self) -> dict[str, list[str]]:
        """By mod, those that would lack something without it."""
        there = self.present()
        down = {mod.mod_id for mod in self._mods if mod.state is State.FAILED}
        found: dict[str, list[str]] = {}
        for mod in there:
            for each in () if mod.mod_id in down else mod.requires:
                met = [other for other in there if other.meets(each)]
                if len(met) == 1 and met[0] is not mod:
                    found.setdefault(met[0].mod_id, []).append(mod.mod_id)
        for mod_id, firsts in self.coming.items():
            for first in firsts:
                found.setdefault(first, []).append(mod_id)
        return {mod_id: list(dict.fromkeys(others)) for mod_id, others in found.items()}

    def required_by(self, mod_id: str) -> list[str]:
        """Ids of the mods that would lack something without that one."""
        return self.dependents().get(mod_id, [])

    def check(self, config: ModConfig) -> None:
        """Before a mod starts from its files; raises `Unmet` if something it requires is not loaded, or requires it."""
        present = self.present()
        there = [mod for mod in present if mod.mod_id != config.name]
        if missing := [each for each in config.requires if supplier(each, there) is None]:
            raise unmet(config.name, missing, there)
        if (circle := circle_of(config.name, config.requires, present)) is not None:
            raise in_a_circle(circle)

    def admit(self, former: str, config: ModConfig, version: str) -> None:
        """Before another version, or another mod, takes the place of one.

        Raises:
            ModvisorError: ``needed``: those who require the former one cannot do with it.
        """
        there = self.present()
        new = Present(config.name, names_of(config), version)
        then = [new if mod.mod_id == former else mod for mod in there]
        losers = [
            (mod.mod_id, str(each))
            for mod in there
            if mod.mod_id != former
            for each in mod.requires
            if supplier(each, there) is not None and supplier(each, then) is None
        ]
        if losers:
            wants = ", ".join(f"{mod_id} requires {each}" for mod_id, each in losers)
            raise ModvisorError(
                f"{wants}, and this is {config.name} {version}; load it beside the other one, under an id of its own",
                code=Code.NEEDED, needed_by=sorted({mod_id for mod_id, _ in losers}),
            )  # fmt: skip

    def answering(self, config: ModConfig, destination: str) -> str:
        """The mod that a mod means by ``mod:NAME``: of what it requires or uses, the one that meets that."""
        name = destination.removeprefix(f"{MOD}:")
        for each in (*config.requires, *config.optional):
            if each.name == name and (found := supplier(each, self.present())) is not None:
                return f"{MOD}:{found.mod_id}"
        return destination

    # -- telling

    def announce(self) -> None:
        """Something has changed: tell each worker what it does not know of the mods it requires or uses.

        Called in the midst of a change: nothing is awaited, and nothing raised.
        """
        asking = [mod for mod in self._mods if _needs(mod)]
        if not asking and not self._told:
            return
        serving = {mod.mod_id: status for mod in self._mods if (status := _status(mod)) is not None}
        there = self.present()
        workers = [worker for mod in asking for worker in mod.keepers]
        ids = {worker.mod_id for worker in workers}
        self._told = {key: told for key, told in self._told.items() if key[0] in ids}
        for worker in workers:
            if worker.state is State.READY and worker.incarnation is not None:
                for each in (*worker.config.requires, *worker.config.optional):
                    self._tell(worker, worker.incarnation, each, there, serving)

    def _tell(
        self,
        worker: Keeper,
        incarnation: Incarnation,
        requirement: Requirement,
        there: list[Present],
        serving: dict[str, tuple[int, ...]],
    ) -> None:
        found = supplier(requirement, [mod for mod in there if mod.mod_id in serving])
        now: Status = None if found is None else (found.mod_id, serving[found.mod_id])
        key = worker.mod_id, requirement.name
        before, former, by = self._told.get(key, (None, None, requirement.name))
        if before is incarnation and former == now:
            return
        if now is None:
            what = AWAY
        else:
            what, by = RELOADED if before is incarnation and former is not None else READY, now[0]
        self._told[key] = incarnation, now, by
        try:
            incarnation.pipe.notify(messages.DEPENDENCY, {"mod_id": by, "what": what})
        except ModvisorError as error:
            logger.warning("mod %s was not told that %s is %s: %s", worker.mod_id, by, what, error)


def _present(mod: Mod) -> Present:
    config, manifest = _config(mod), mod.manifest
    version = None if manifest is None else manifest.version
    return Present(mod.mod_id, names_of(mod.config), version, config.requires, config.optional)


def _config(mod: Mod) -> ModConfig:
    """As its worker runs it: with what its mod.yaml and its class say."""
    return mod.keepers[0].config


def _needs(mod: Mod) -> bool:
    config = _config(mod)
    return bool(config.requires or config.optional)


def _status(mod: Mod) -> tuple[int, ...] | None:
    """The incarnations that serve; None unless all of its workers do."""
    numbers: list[Any] = [None if each.incarnation is None else each.incarnation.number for each in mod.keepers]
    return tuple(numbers) if mod.state is State.READY and None not in numbers else None
