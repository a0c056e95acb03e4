"""The mods of a network by id, in the order in which they are asked.

Each further version of a mod stands behind its siblings, so that the version of each source is
asked at the same point of the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ....ipc.errors import Code
from ....ipc.event import EventResponse
from ...config import ModConfig, family_of
from ...lifecycle import Keeper, State
from ...nearest import did_you_mean
from ..mods.workers import Mod


class LoadedMods:
    """The mods in load order. It starts none, ends none and makes no routes."""

    def __init__(self) -> None:
        self._mods: dict[str, Mod] = {}

    # -- looking up

    def __iter__(self) -> Iterator[Mod]:
        return iter(self._mods.values())

    def __len__(self) -> int:
        return len(self._mods)

    def __contains__(self, mod: Mod) -> bool:
        return self._mods.get(mod.mod_id) is mod

    def find(self, id_or_path: str) -> Mod | None:
        """Return the mod with this id, alias or mod_path (the first loaded one of a path)."""
        if (found := self._mods.get(id_or_path)) is not None:
            return found
        for mod in self:
            if id_or_path in mod.config.aliases:
                return mod
        return next((mod for mod in self if mod.config.path == id_or_path), None)

    def get(self, mod_id: str) -> Mod | None:
        """Return the mod with this very id."""
        return self._mods.get(mod_id)

    def mod_of(self, worker: Keeper) -> Mod:
        """Return the mod that a worker is part of."""
        return next((mod for mod in self if worker in mod.keepers), worker)

    def named(self, id_or_path: str) -> Mod | EventResponse:
        """Return the one mod that a command is about, or the refusal of the command.

        A path that several mods were loaded from names none of them.
        """
        found = self.find(id_or_path)
        if found is None:
            return self.no_such_mod(id_or_path)
        same = self.of_path(id_or_path)
        if len(same) < 2 or found not in same or id_or_path in {found.mod_id, *found.config.aliases}:
            return found
        ids = [mod.mod_id for mod in same]
        text = f"{len(ids)} mods were loaded from {id_or_path}: {', '.join(ids)}; name one of them by its id"
        return EventResponse.failure(Code.CONFLICT, text, mod_path=id_or_path, mod_ids=ids)

    def of_path(self, path: str) -> list[Mod]:
        """Return the mods that were loaded from a path, in load order."""
        return [mod for mod in self if mod.config.path == path]

    def no_such_mod(self, id_or_path: str) -> EventResponse:
        """Return the response to a command on a mod that is not loaded."""
        names = [name for mod in self for name in (mod.mod_id, mod.config.path)]
        hint = did_you_mean(id_or_path, names) or f" (loaded: {', '.join(self._mods) or 'none'})"
        text = f"no mod {id_or_path!r} is loaded{hint}"
        return EventResponse.failure(Code.NO_SUCH_MOD, text, mod=id_or_path)

    def taken_name(self, config: ModConfig, instead_of: Mod | None) -> str | None:
        """Return the name of a mod that is an alias of another mod, or its alias that is taken; None if all are free."""
        for other in self:
            if not (config.aliases or other.config.aliases) or other is instead_of or other.mod_id == config.mod_id:
                continue
            if config.mod_id in other.config.aliases:
                return f"the id {config.mod_id!r} is an alias of mod {other.mod_id}"
            if taken := config.aliases & {other.mod_id, *other.config.aliases}:
                return f"the alias {min(taken)!r} is taken by mod {other.mod_id}"
        return None

    def already_loaded(self, config: ModConfig) -> EventResponse | None:
        """Return the refusal of an id that is in use. A mod that only has its place in the order may be loaded."""
        loaded = self.get(config.mod_id)
        if loaded is None or (loaded.state is State.STARTING and not loaded.lock.statistics().locked):
            return None
        text = (
            f"a mod with id {config.mod_id!r} is already loaded (from {loaded.config.path}, {loaded.state}); "
            "unload or reload it, or choose another id"
        )
        return EventResponse.failure(Code.ALREADY_LOADED, text, mod_id=config.mod_id, mod_path=config.path)

    # -- the order

    def _insert(self, mod: Mod) -> None:
        """Put a mod last, and a further version of a mod behind its siblings."""
        if "@" not in mod.mod_id and not any("@" in mod_id for mod_id in self._mods):  # nobody has siblings
            self._mods = {**self._mods, mod.mod_id: mod}
            return
        order = list(self)
        family = family_of(mod.mod_id)
        siblings = [place for place, other in enumerate(order) if family_of(other.mod_id) == family]
        order.insert(siblings[-1] + 1 if siblings else len(order), mod)
        self._mods = {each.mod_id: each for each in order}

    def _exchange(self, old: Mod, new: Mod) -> None:
        """Put a mod in the place of another one with its id."""
        self._mods = {mod_id: new if mod is old else mod for mod_id, mod in self._mods.items()}

    def _remove(self, mod: Mod) -> None:
        """Forget a mod, if it is the one with its id."""
        if mod in self:
            del self._mods[mod.mod_id]

    def _follow_ids(self) -> None:
        """Find each mod by the id that it has now, in the same order."""
        for mod_id, mod in self._mods.items():
            if mod_id != mod.config.mod_id:
                self._mods = {mod.mod_id: mod for mod in self}
                break

    def _arrange(self, mod_ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """Order the mods: those with these ids first, then the others as they were.

        Returns:
            those of ``mod_ids`` that are loaded, in the order before and in the order now.
        """
        named = [self._mods[mod_id] for mod_id in mod_ids if mod_id in self._mods]
        now = list(_in_order(named))
        before = [mod_id for mod_id in self._mods if mod_id in now]
        if before != now:
            self._mods = _in_order([*named, *(mod for mod in self if mod not in named)])
        return before, now


def _in_order(mods: Iterable[Mod]) -> dict[str, Mod]:
    """Return mods by id in load order; each further version of a mod stands behind its siblings."""
    families: dict[str, list[Mod]] = {}
    for mod in mods:
        families.setdefault(family_of(mod.mod_id), []).append(mod)
    return {mod.mod_id: mod for siblings in families.values() for mod in siblings}
