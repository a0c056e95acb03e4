"""What a node of a cluster claims and places by itself: a mod that runs as a whole, or one copy of a mod."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...lifecycle import Keeper
from ..mods.copies import CopyGroup, Member
from ..mods.elsewhere import ModElsewhere
from ..mods.workers import Mod, WorkerGroup
from ..registry.registry import ModRegistry

Unit = Keeper | WorkerGroup | ModElsewhere
"""The entry of a mod that runs as a whole, or of one copy of a mod."""


def unit_named(mods: ModRegistry, name: str) -> Unit | None:
    """Return the entry of a mod or of a copy; None if there is none."""
    mod = mods.get(name)
    if mod is not None:
        return None if isinstance(mod, CopyGroup) else mod
    mod_id, _, part = name.partition("#")
    group = mods.get(mod_id) if part.isdecimal() else None
    if not isinstance(group, CopyGroup) or int(part) >= len(group.members):
        return None
    return group.members[int(part)]


def units_of(mods: Iterable[Mod]) -> Iterator[Unit]:
    """Return the entries of all mods and copies, in load order."""
    for mod in mods:
        if isinstance(mod, CopyGroup):
            yield from mod.members
        else:
            yield mod


def exchange_unit(mods: ModRegistry, old: Unit, new: Unit) -> None:
    """Put an entry in the place of the one with its id, because it comes to run here or goes elsewhere."""
    group = mods.get(old.mod_id.partition("#")[0])
    if isinstance(group, CopyGroup) and isinstance(old, Member) and isinstance(new, Member):
        group.exchange(old, new)
        mods.rebuild_routes()
    else:
        mods.exchange(old, new)
