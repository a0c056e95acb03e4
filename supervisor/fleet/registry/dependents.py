"""Which loaded mods need which others.

Others ask before a mod goes or is replaced. The workers of a mod are told when a mod that it
requires or uses has come, gone or changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ....ipc import messages
from ....ipc.address import MOD, InvalidId, mod_id_of
from ....ipc.errors import Code, ModvisorError
from ...config import ModConfig, Requirement
from ...lifecycle import Incarnation, Keeper, State
from ...sources import Present, circle_of, in_a_circle, supplier, unmet
from ..mods.workers import Mod, WorkerGroup

logger = logging.getLogger("modvisor.dependents")

READY, AWAY, RELOADED = "ready", "away", "reloaded"

Status = tuple[str, tuple[int, ...]] | None
"""The mod that meets a requirement, and the numbers of its incarnations; None if none serves."""


def names_of(config: ModConfig) -> frozenset[str]:
    """Return the names that others may require: its id, its aliases, the last part of its path."""
    try:
        return frozenset({config.name, mod_id_of(config.path), *config.aliases})
    except InvalidId:  # the path gives no id, so the config names one
        return frozenset({config.name, *config.aliases})


class Dependents:
    """Who needs whom among the loaded mods.

    Attributes:
        coming: by id, the mods being loaded and the mods that they count on.
    """

    def __init__(self, mods: Iterable[Mod]) -> None:
        self._mods = mods
        self._told: dict[tuple[str, str], tuple[Incarnation, Status, str]] = {}
        self.coming: dict[str, frozenset[str]] = {}

    def loaded(self) -> list[Present]:
        """Return the loaded mods, in load order."""
        return [_present(mod) for mod in self._mods if mod.state is not State.DRAINING]

    def dependents(self) -> dict[str, list[str]]:
        """Return, by mod id, the ids of the mods that would lack something without it."""
        loaded = self.loaded()
        failed = {mod.mod_id for mod in self._mods if mod.state is State.FAILED}
        found: dict[str, list[str]] = {}
        for mod in loaded:
            for each in () if mod.mod_id in failed else mod.requires:
                met = [other for other in loaded if other.meets(each)]
                if len(met) == 1 and met[0] is not mod:
                    found.setdefault(met[0].mod_id, []).append(mod.mod_id)
        for mod_id, firsts in self.coming.items():
            for first in firsts:
                found.setdefault(first, []).append(mod_id)
        return {mod_id: list(dict.fromkeys(others)) for mod_id, others in found.items()}

    def required_by(self, mod_id: str) -> list[str]:
        """Return the ids of the mods that would lack something without a mod."""
        return self.dependents().get(mod_id, [])

    def check(self, config: ModConfig) -> None:
        """Check a mod before it starts from its files.

        Raises:
            Unmet: a mod that it requires is not loaded, or requires it in turn.
        """
        loaded = self.loaded()
        others = [mod for mod in loaded if mod.mod_id != config.name]
        if missing := [each for each in config.requires if supplier(each, others) is None]:
            raise unmet(config.name, missing, others)
        if (circle := circle_of(config.name, config.requires, loaded)) is not None:
            raise in_a_circle(circle)

    def admit(self, old_id: str, config: ModConfig, version: str) -> None:
        """Check another version, or another mod, before it takes the place of a mod.

        Raises:
            ModvisorError: ``needed``: mods that require the old one cannot work with the new one.
        """
        if not any(_config(mod).requires for mod in self._mods):
            return
        before = self.loaded()
        new = Present(config.name, names_of(config), version)
        after = [new if mod.mod_id == old_id else mod for mod in before]
        losers = [
            (mod.mod_id, str(each))
            for mod in before
            if mod.mod_id != old_id
            for each in mod.requires
            if supplier(each, before) is not None and supplier(each, after) is None
        ]
        if losers:
            wants = ", ".join(f"{mod_id} requires {each}" for mod_id, each in losers)
            raise ModvisorError(
                f"{wants}, and this is {config.name} {version}; load it beside the old one, under an id of its own",
                code=Code.NEEDED, needed_by=sorted({mod_id for mod_id, _ in losers}),
            )  # fmt: skip

    def answering(self, config: ModConfig, destination: str) -> str:
        """Return where an event goes that a mod sends to ``mod:NAME``.

        If NAME is something that it requires or uses, that is the mod that meets the requirement.
        """
        name = destination.removeprefix(f"{MOD}:")
        for each in (*config.requires, *config.optional):
            if each.name == name and (found := supplier(each, self.loaded())) is not None:
                return f"{MOD}:{found.mod_id}"
        return destination

    # -- telling

    def announce(self) -> None:
        """Tell each worker what has changed about the mods that it requires or uses.

        This runs in the middle of a change, so it awaits nothing and raises nothing.
        """
        asking = [mod for mod in self._mods if (config := _config(mod)).requires or config.optional]
        if not asking and not self._told:
            return
        serving = {mod.mod_id: status for mod in self._mods if (status := _status(mod)) is not None}
        loaded = self.loaded()
        workers = [worker for mod in asking for worker in mod.keepers]
        ids = {worker.mod_id for worker in workers}
        self._told = {key: told for key, told in self._told.items() if key[0] in ids}
        for worker in workers:
            if worker.state is State.READY and worker.incarnation is not None:
                for each in (*worker.config.requires, *worker.config.optional):
                    self._tell(worker, worker.incarnation, each, loaded, serving)

    def _tell(
        self,
        worker: Keeper,
        incarnation: Incarnation,
        requirement: Requirement,
        loaded: list[Present],
        serving: dict[str, tuple[int, ...]],
    ) -> None:
        found = supplier(requirement, [mod for mod in loaded if mod.mod_id in serving])
        now: Status = None if found is None else (found.mod_id, serving[found.mod_id])
        key = worker.mod_id, requirement.name
        told, before, by = self._told.get(key, (None, None, requirement.name))
        if told is incarnation and before == now:
            return
        if now is None:
            what = AWAY
        else:
            what, by = RELOADED if told is incarnation and before is not None else READY, now[0]
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
    """Return the config that its worker runs, with what its mod.yaml and its class say."""
    return mod.keepers[0].config if mod.keepers else mod.config


def _status(mod: Mod) -> tuple[int, ...] | None:
    """Return the numbers of the incarnations that serve; None unless all workers do."""
    if not isinstance(mod, Keeper | WorkerGroup):  # on another node, where each claim is a new incarnation
        return (mod.token,) if mod.state is State.READY else None
    numbers: list[Any] = [None if each.incarnation is None else each.incarnation.number for each in mod.keepers]
    return tuple(numbers) if mod.state is State.READY and None not in numbers else None
