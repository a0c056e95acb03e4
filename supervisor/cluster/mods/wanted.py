"""The mods that the network is to have: those of the file, with what commands have changed since.

Pure but for reading entries: records and the file in, configs in load order out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....ipc.errors import ModvisorError
from ...config import ModConfig, entry_hash, is_entry, mod_config, with_changes
from ...fleet import parts_of
from .desired import Record

logger = logging.getLogger("modvisor.cluster")


class Wanted:
    """The wanted mods.

    Attributes:
        configs: by id, in load order.
        units: what is claimed and placed by itself, by id: the mods, and in the place of a mod with
            copies each copy.
    """

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._made: dict[str, tuple[int, ModConfig]] = {}  # of records, by id: with the generation
        self.configs: dict[str, ModConfig] = {}
        self.units: dict[str, ModConfig] = {}
        self._under_way: set[str] = set()
        self._going: set[str] = set()
        self._divided: dict[str, tuple[int, int | None]] = {}

    def is_exclusive(self, mod_id: str) -> bool:
        """Whether a mod runs on one node at a time. One that nobody knows does."""
        config = self.configs.get(mod_id)
        return config is None or config.placement.is_exclusive

    def has_copies(self, mod_id: str) -> bool:
        """Whether a number of copies share the events of a mod."""
        config = self.configs.get(mod_id)
        return config is not None and config.placement.has_copies

    def unit_of(self, name: str) -> str:
        """Return what is claimed for a worker of a mod: its copy, or else the mod."""
        return name if name in self.units else name.partition("#")[0]

    def follow(self, entries: Mapping[str, ModConfig], records: Mapping[str, Record]) -> None:
        """Take the mods of the file and the records of commands.

        A mod that was swapped for another one gives it its place in the order.
        """
        places = {record.place_of: record for record in records.values() if record.place_of and not record.is_unloaded}
        found: dict[str, ModConfig] = {}
        for mod_id, entry in entries.items():
            record = records.get(mod_id)
            if mod_id in places:
                self._take(places[mod_id], found)
            elif record is None or not (record.is_unloaded or record.path):
                found[mod_id] = entry if record is None else self._overridden(entry, record)
            else:
                self._take(record, found)
        for record in sorted(records.values(), key=lambda each: (each.position, each.mod_id)):
            if record.mod_id not in found and swapped_for(record, records) is None:
                self._take(record, found)
        self.configs = found
        self.units = {unit.mod_id: unit for config in found.values() for unit in units_of_config(config)}
        self._under_way = {
            record.mod_id for record in records.values() if record.command is not None and not record.done
        }
        self._divided = {
            record.mod_id: (record.parts, record.split) for record in records.values() if record.parts is not None
        }
        swapped = (swapped_for(record, records) for record in records.values())
        self._going = {record.mod_id for record in swapped if record is not None}
        self._going |= {record.mod_id for record in records.values() if record.is_ending}

    def is_going(self, mod_id: str) -> bool:
        """Whether a command is about to end a mod, or has not brought it wholly: nobody may start it meanwhile."""
        return mod_id in self._going

    def is_divided(self, mod_id: str) -> bool:
        """Whether it is recorded for how many copies of a mod something is kept."""
        return mod_id in self._divided

    def parts(self, mod_id: str) -> int:
        """Return for how many copies of a mod something is kept; 1: under its own id."""
        return self._divided.get(mod_id, (1, None))[0]

    def is_uneven(self, mod_id: str) -> bool:
        """Whether what is kept of a mod is for another number of copies than it has."""
        config, (parts, split) = self.configs.get(mod_id), self._divided.get(mod_id, (None, None))
        if config is None or parts is None or not config.placement.is_exclusive or config.workers is not None:
            return False
        return split is not None or parts != config.placement.copies

    def _overridden(self, entry: ModConfig, record: Record) -> ModConfig:
        """Return an entry of the file with what a reload has changed about it."""
        override = record.override
        if override is None or not is_entry(override["entry"], entry):
            return entry
        generation, config = self._made.get(record.mod_id, (-1, None))
        if config is None or generation != record.generation:
            config = with_changes(entry, path=override["path"], config=override["config"])
            self._made[record.mod_id] = record.generation, config
        return config

    def is_under_way(self, mod_id: str) -> bool:
        """Whether a command on a mod is under way."""
        return mod_id in self._under_way

    def _take(self, record: Record, into: dict[str, ModConfig]) -> None:
        if record.is_unloaded or record.path is None:
            return
        generation, config = self._made.get(record.mod_id, (-1, None))
        if config is None or generation != record.generation:
            try:
                spec = record.spec or {}
                config = mod_config(record.path, base_dir=self._base_dir, mod_id=record.mod_id, **spec)
            except (ModvisorError, TypeError, ValueError) as error:
                logger.error("mod %s cannot be read from what the cluster keeps of it: %s", record.mod_id, error)
                return
            self._made[record.mod_id] = record.generation, config
        into[record.mod_id] = config


def units_of_config(config: ModConfig) -> list[ModConfig]:
    """Return the config of each copy of a mod, or of the mod, if it has none."""
    return parts_of(config) if config.placement.has_copies else [config]


def swapped_for(record: Record, records: Mapping[str, Record]) -> Record | None:
    """Return the mod that has taken the place of a mod by a swap which is done, and not answered yet."""
    command = record.command
    if command is None or command.do != "swap" or record.done:
        return None
    new = records.get(str(command.args["mod_id"]))
    is_done = new is not None and new.mod_id != record.mod_id and new.swapped_by == command.id and not new.is_unloaded
    return new if is_done else None


def override_of(config: ModConfig, entry: ModConfig) -> dict[str, Any] | None:
    """Return what differs at a mod of the file from what its entry says, as `Record.override`."""
    asked = config.as_asked
    if (asked.path, asked.config) == (entry.path, entry.config):
        return None
    return {"entry": entry_hash(entry), "path": asked.path, "config": asked.config}
