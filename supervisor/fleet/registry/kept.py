"""What the journal keeps of the mods, read beside the network file: which mod is loaded in whose place.

A swap outlives the run: the mod that took the place of a mod of the file has it again at the next
start, as long as the file's entry stays as it was at the swap. An entry that was edited since is the
newer word: then the file's mod has its place back. Pure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...config import Audience, ModConfig, PlaceOf, entry_hash, is_entry
from ...journal import KeptMod


def kept_entry(config: ModConfig, audience: Audience | None, position: int, loaded_at: float | None) -> KeptMod | None:
    """Return what the journal keeps of a mod; None of a mod of the network file, which rules there."""
    if config.spec is None:
        return None
    spec: dict[str, Any] = {key: value for key, value in config.spec.items() if key not in ("audience", "instead_of")}
    if audience is not None:
        spec["audience"] = audience.to_plain()
    if config.instead_of is not None:
        spec["instead_of"] = [config.instead_of.mod_id, config.instead_of.entry]
    return KeptMod(config.mod_id, config.path, spec, position, loaded_at or time.time())


def in_place_of(new: ModConfig, old: ModConfig, entries: Mapping[str, ModConfig]) -> ModConfig:
    """Return the mod that a swap brings, which is to have the place of ``old`` at the next start, too.

    Args:
        entries: of the network file, by id.
    """
    place = old.instead_of
    if place is None and (entry := entries.get(old.mod_id)) is not None:
        place = PlaceOf(entry.mod_id, entry_hash(entry))
    return replace(new, instead_of=place)


def holds(place: PlaceOf | None, entry: ModConfig) -> bool:
    """Return whether a mod has the place of a mod of the file, whose entry is ``entry`` now."""
    if place is None or place.mod_id != entry.mod_id:
        return False
    return place.entry is None or is_entry(place.entry, entry)


@dataclass(slots=True)
class Division:
    """Who is loaded at the start of a network.

    Attributes:
        instead: by the id of a mod of the file, the mod that took its place.
        others: kept mods that the file does not name, in load order.
        superseded: kept mods whose place has gone back to a mod of the file, and that mod's id.
        named: ids of kept mods that the file names now, so that it rules.
    """

    instead: dict[str, ModConfig] = field(default_factory=dict)
    others: list[ModConfig] = field(default_factory=list)
    superseded: list[tuple[ModConfig, str]] = field(default_factory=list)
    named: list[str] = field(default_factory=list)


def divide(kept: Iterable[ModConfig], entries: Mapping[str, ModConfig]) -> Division:
    """Return who is loaded, of the mods that the journal kept and those of the network file.

    Args:
        kept: in load order.
        entries: the enabled mods of the file, by id.
    """
    made, left = Division(), list[ModConfig]()
    for mod in kept:
        place = mod.instead_of or _by_alias(mod, entries)
        entry = None if place is None or place.mod_id in made.instead else entries.get(place.mod_id)
        if entry is not None and holds(place, entry):
            own = entries.get(mod.mod_id) if mod.mod_id != entry.mod_id else None  # the file says how it is loaded
            made.instead[entry.mod_id] = replace(mod if own is None else own, instead_of=place)
        else:
            left.append(mod)
    for mod in left:
        if mod.mod_id in entries and mod.mod_id not in made.instead:
            made.named.append(mod.mod_id)
        elif mod.instead_of is not None and mod.instead_of.mod_id in entries.keys() - made.instead.keys():
            made.superseded.append((mod, mod.instead_of.mod_id))
        else:  # also a mod of the file that was loaded beside the one that has its place
            made.others.append(mod)
    taken = entries.keys() - made.instead.keys()
    made.others = [replace(mod, aliases=mod.aliases - taken) for mod in made.others]
    made.instead = {entry: replace(mod, aliases=mod.aliases - taken) for entry, mod in made.instead.items()}
    return made


def _by_alias(mod: ModConfig, entries: Mapping[str, ModConfig]) -> PlaceOf | None:
    """Return the place of a mod that a swap has left under the id of a mod of the file.

    Journals of earlier versions tell a swap by the alias alone.
    """
    if mod.mod_id in entries:
        return None
    return next((PlaceOf(name) for name in sorted(mod.aliases) if name in entries), None)
