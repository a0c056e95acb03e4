"""Which mods are wanted, as a journal says it and as a cluster says it. Pure but for reading entries.

A journal keeps mods that the network file does not name, and promotions. A cluster keeps a record of
each mod that a command has changed, and how each family is divided.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ...config import ModConfig, entry_hash, family_of, mod_config
from ...fleet import divide
from ...journal import KeptMod
from ..mods.desired import Record
from ..mods.wanted import Wanted

_OF_THE_JOURNAL = ("instead_of",)  # a cluster keeps it beside the spec

Entries = Mapping[str, ModConfig]
"""The enabled mods of the network file, by id."""


class Wishes:
    """What is wanted of the mods, as a cluster keeps it.

    Attributes:
        records: by mod id.
        families: how each family is divided, as plain data, see `Families.to_plain`.
        left: what cannot be kept on the other side, as sentences.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.families: dict[str, dict[str, Any]] = {}
        self.left: list[str] = []

    def wanted(self, entries: Entries, base_dir: Path) -> Wanted:
        """Return the mods that the network is to have."""
        wanted = Wanted(base_dir)
        wanted.follow(entries, self.records)
        return wanted


def of_journal(mods: list[KeptMod], families: Mapping[str, dict[str, Any]], entries: Entries, base_dir: Path) -> Wishes:
    """Return the wishes that a journal keeps.

    Raises:
        ModvisorError: a mod cannot be read, or its place has gone back to a mod of the file.
    """
    wishes = Wishes()
    kept = {mod.mod_id: mod for mod in mods}
    configs = [_config_of(mod, base_dir) for mod in mods]
    made = divide(configs, entries)
    if made.superseded:
        mod, entry = made.superseded[0]
        text = (
            f"mod {mod.mod_id} had taken the place of {entry}, whose entry in the network file was changed since; start "
            "the network once without 'cluster' and stop it, so that it gives back what it has, and import it then"
        )
        raise ModvisorError(text, code=Code.CONFLICT)
    for entry, config in made.instead.items():
        wishes.records[config.mod_id] = _record(kept[config.mod_id], place_of=entry)
        if config.mod_id != entry:
            wishes.records[entry] = Record(entry, is_unloaded=True, generation=1)
    for config in made.others:
        wishes.records[config.mod_id] = _record(kept[config.mod_id])
    wanted = wishes.wanted(entries, base_dir)
    for mod_id in [each for each, config in wanted.configs.items() if config.placement.has_copies]:
        wishes.records[mod_id] = replace(wishes.records.get(mod_id) or Record(mod_id), parts=1)  # a node divides it
    audiences = {mod.mod_id: mod.spec["audience"] for mod in mods if mod.spec.get("audience") is not None}
    for family in {*families, *map(family_of, audiences)}:
        wishes.families[family] = _division(family, families.get(family), audiences, wanted)
    return wishes


def _config_of(mod: KeptMod, base_dir: Path) -> ModConfig:
    try:
        return mod_config(mod.path, base_dir=base_dir, mod_id=mod.mod_id, **mod.spec)
    except (ModvisorError, TypeError, ValueError) as error:
        text = f"mod {mod.mod_id} cannot be read as it was loaded ({mod.path}): {error}"
        raise ModvisorError(text, code=Code.BAD_INPUT) from None


def _record(mod: KeptMod, place_of: str | None = None) -> Record:
    spec = {key: value for key, value in mod.spec.items() if key not in _OF_THE_JOURNAL}
    return Record(mod.mod_id, mod.path, spec, float(mod.position), place_of=place_of, generation=1)


def _division(family: str, kept: dict[str, Any] | None, audiences: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    members = [config for mod_id, config in wanted.configs.items() if family_of(mod_id) == family]
    promoted, before = ({}, []) if kept is None else (kept["promoted"], kept["before"])

    def audience(config: ModConfig) -> Any:
        own = None if config.audience is None else config.audience.to_plain()
        return audiences.get(config.mod_id, own)

    return {
        "audiences": {config.mod_id: audience(config) for config in members},
        "promoted": {config.mod_id: int(promoted.get(config.mod_id, 0)) for config in members},
        "before": before,
    }


def to_journal(wishes: Wishes, entries: Entries, base_dir: Path) -> tuple[list[KeptMod], dict[str, dict[str, Any]]]:
    """Return the mods and the promotions as a journal keeps them; what it cannot keep is added to `left`."""
    wanted = wishes.wanted(entries, base_dir)
    audiences = {
        mod_id: each for division in wishes.families.values() for mod_id, each in division["audiences"].items()
    }
    places = {record.place_of for record in wishes.records.values() if record.place_of and not record.is_unloaded}
    mods = [
        _kept(record, list(wanted.configs).index(record.mod_id), audiences.get(record.mod_id), entries)
        for record in wishes.records.values()
        if record.path is not None and record.mod_id in wanted.configs
    ]
    for mod_id, entry in entries.items():
        record = wishes.records.get(mod_id)
        if record is not None and record.is_unloaded and mod_id not in places:
            wishes.left.append(f"mod {mod_id} was unloaded; the network file names it, so it is loaded again")
        own = None if entry.audience is None else entry.audience.to_plain()
        if mod_id in audiences and mod_id in wanted.configs and audiences[mod_id] != own:
            wishes.left.append(f"the audience of mod {mod_id} is what the network file says again")
    families: dict[str, dict[str, Any]] = {}
    for family, division in wishes.families.items():
        promoted = {mod_id: number for mod_id, number in division["promoted"].items() if number}
        if promoted or division["before"]:
            families[family] = {"promoted": promoted, "before": division["before"]}
    return sorted(mods, key=lambda mod: mod.position), families


def _kept(record: Record, position: int, audience: Any, entries: Entries) -> KeptMod:
    assert record.path is not None
    spec = dict(record.spec or {})
    if audience is not None:
        spec["audience"] = audience
    if record.place_of is not None and (entry := entries.get(record.place_of)) is not None:
        spec["instead_of"] = [entry.mod_id, entry_hash(entry)]
    return KeptMod(record.mod_id, record.path, spec, position, time.time())
