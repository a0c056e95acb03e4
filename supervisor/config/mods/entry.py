"""A mod's entry: read from the network file, or given while the network runs.

Also what the journal keeps of an entry, and which mods are bundled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

from ....ipc.address import check_mod_path, mod_id_of
from ....ipc.errors import InvalidEvent
from ..values.basic import read_keys
from ..values.env import resolved
from ..values.keys import ConfigKey, keys_of
from ..values.names import mod_path as read_mod_path
from ..values.reader import Location, Reader, got
from ..values.schema_parts import Schema, either, listed, nullable, object_of, of_type
from ..yaml.source import BROKEN, ConfigError, Problem, Source, format_key
from .audience_reader import check_percents
from .mod import LimitsConfig, ModConfig, PlaceOf, RestartConfig
from .placement import check_placement

BUNDLED: dict[str, frozenset[str]] = {
    "modvisor.mods.workspace.wiki": frozenset(),
    "modvisor.mods.workspace.project": frozenset(),
    # puts agents into channels on their behalf
    "modvisor.mods.workspace.messaging": frozenset({"channels"}),
    "modvisor.mods.workspace.analytics": frozenset(),
}
"""The bundled mods by mod_path, each with the permissions that it has without a line of config."""

_MOD_KEYS = keys_of(ModConfig)
_NAME_KEY = ConfigKey(read_mod_path, "another word for `path`; an entry has one of them", name="name", shown="–")

ENTRY_KEYS: dict[str, ConfigKey] = {"path": _MOD_KEYS["path"], "name": _NAME_KEY, **_MOD_KEYS}
_READERS = {name: each.reader for name, each in ENTRY_KEYS.items()}


# -- the entries of the file


def _read_mods(value: Any, at: Location) -> Any:
    """Read the list ``mods`` as a tuple of `ModConfig`; reports ids and shares that clash."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        return at.wrong(f"expected a list of mods, got {got(value)}")
    mods: list[ModConfig] = []
    places: dict[str, Location] = {}
    for index, entry in enumerate(value):
        mod = read_mod(entry, at / index, from_file=True)
        if mod is not BROKEN:
            mods.append(mod)
            _check_unique(mod, at / index, places)
    check_percents({mod.mod_id: mod.audience for mod in mods if mod.enabled}, places)
    return tuple(mods)


def _schema() -> Schema:
    shape = object_of({name: each.schema for name, each in ENTRY_KEYS.items()}, ["path"])
    shape |= {"anyOf": [{"required": ["path"]}, {"required": ["name"]}]}
    del shape["required"]
    return nullable(listed(either(of_type("string"), shape)))


list_of_mods = Reader("list of mods", _read_mods, schema=_schema)
"""Reads the list ``mods`` as a tuple of `ModConfig`."""


def _check_unique(mod: ModConfig, at: Location, places: dict[str, Location]) -> None:
    first = places.setdefault(mod.mod_id, at)
    if first is not at:
        line = at.source.line(first.key)
        where = format_key(first.key) + (f" (line {line})" if line else "")
        at.wrong(f"the mod id {mod.mod_id!r} is taken by {where}; give one of them an 'id' of its own")


def read_mod(value: Any, at: Location, from_file: bool) -> Any:
    """Read one entry, a mapping or just a mod_path, as a `ModConfig`."""
    if value is BROKEN:
        return BROKEN
    if isinstance(value, str):
        path = read_mod_path(value, at)
        mod_id = _id_of(path, at)
        return BROKEN if mod_id is BROKEN else ModConfig(path, mod_id, from_file=from_file, written=value)
    if not isinstance(value, dict):
        return at.wrong(f"expected a mod_path, or a mapping with a 'path', got {got(value)}")
    found = read_keys(value, at, _READERS)
    check_limits(found.get("limits", LimitsConfig()), found.get("restart", RestartConfig()), at)
    check_language(found, at)
    check_placement(found, at)
    _check_env(found, at)
    alias = _path_key(value, at)
    path = found.pop(alias, BROKEN)
    found.pop("name", None)
    mod_id = found.pop("id", BROKEN) if "id" in value else _id_of(path, at / alias)
    if mod_id is BROKEN:
        return BROKEN
    path = "" if path is BROKEN else path
    return ModConfig(path, mod_id, from_file=from_file, given=_given(value), written=value, **found)


def _given(entry: dict[Any, Any]) -> frozenset[str]:
    """Return the keys of an entry, and those of its sections as ``limits.memory``."""
    sections = {name: section for name, section in entry.items() if isinstance(section, dict)}
    return frozenset(entry) | {f"{name}.{key}" for name, section in sections.items() for key in section}


def _path_key(value: dict[Any, Any], at: Location) -> str:
    """Return which key of the entry holds its path: 'path', or its other name 'name'."""
    if "path" in value:
        if "name" in value:
            (at / "name").wrong("means the same as 'path', and both are given; remove one (an 'id' names the mod)")
        return "path"
    if "name" not in value:
        (at / "path").wrong("the key is missing; give the mod_path, such as 'modvisor.mods.workspace.wiki' or './name'")
    return "name"


def _id_of(path: Any, at: Location) -> Any:
    try:
        return BROKEN if path is BROKEN else mod_id_of(path)
    except InvalidEvent as error:
        return at.wrong(str(error))


def _check_env(found: dict[str, Any], at: Location) -> None:
    if found.get("enabled", True):  # the secrets of a disabled mod may be missing on this machine
        for name, value in found.get("env", {}).items():
            resolved(value, at / "env" / name)


def check_limits(limits: LimitsConfig, restart: RestartConfig, at: Location) -> None:
    """Report contradictions in the limits and the restart policy of an entry or a mod.yaml."""
    if limits.memory is not None and limits.memory_soft is not None and limits.memory_soft >= limits.memory:
        (at / "limits" / "memory_soft").wrong(
            f"must be less than memory, {limits.memory} bytes, so that the soft limit acts first"
        )
    if restart.max_delay < restart.first_delay:
        (at / "restart" / "max_delay").wrong(f"must not be less than first_delay, {restart.first_delay:g} seconds")


def check_language(found: Mapping[str, Any], at: Location) -> None:
    """Report an entry or a mod.yaml that names an interpreter and a worker in another language."""
    if found.get("command") is not None and found.get("python") is not None:
        (at / "command").wrong(
            "'python' is for a mod in Python, 'command' for a worker in another language; remove one"
        )


# -- an entry that is given while the network runs


def parse_mod(data: dict[str, Any] | str, *, base_dir: str | Path, from_file: bool = False) -> ModConfig:
    """Read one entry of ``mods`` from plain data.

    Raises:
        ConfigError: lists every mistake.
    """
    at = Location(Source(), Path(os.path.abspath(base_dir)))
    mod = read_mod(data, at, from_file)
    at.source.check()
    return mod


def mod_config(
    mod_path: str,
    *,
    base_dir: Path,
    mod_id: str | None = None,
    config: dict[str, Any] | None = None,
    dependency: bool = False,
    instead_of: Sequence[Any] | None = None,
    **more: Any,
) -> ModConfig:
    """Make the `ModConfig` for a load at runtime; raises `ConfigError`.

    Args:
        dependency: whether the mod is loaded only because another mod requires it.
        instead_of: the fields of a `PlaceOf`, as the journal keeps them.
    """
    data = {
        "path": mod_path,
        **({"id": mod_id} if mod_id else {}),
        **({} if config is None else {"config": config}),
        **more,
    }
    spec = {key: value for key, value in data.items() if key not in ("path", "id")}
    if dependency:
        spec["dependency"] = True
    mod = replace(parse_mod(data, base_dir=base_dir), spec=spec, dependency=dependency)
    return with_bundled_permissions(replace(mod, instead_of=None if instead_of is None else PlaceOf(*instead_of)))


# -- changes of an entry


def with_bundled_permissions(mod: ModConfig) -> ModConfig:
    """Add the permissions that a bundled mod needs; any other mod has those of its config."""
    granted = BUNDLED.get(mod.path, frozenset())
    return replace(mod, permissions=mod.permissions | granted) if granted - mod.permissions else mod


def with_changes(mod: ModConfig, *, path: str | None = None, config: dict[str, Any] | None = None) -> ModConfig:
    """Return the mod with another mod_path or another ``config``, if they are given.

    Raises:
        ConfigError: the mod_path is none.
    """
    asked = mod.as_asked if path is not None or config is not None else mod
    if path is not None:
        _check_path(path)
        asked = with_bundled_permissions(replace(asked, path=path))
    if config is not None:
        asked = replace(asked, config=config, spec=None if asked.spec is None else {**asked.spec, "config": config})
    return asked


def _check_path(path: str) -> None:
    try:
        check_mod_path(path)
    except InvalidEvent as error:
        raise ConfigError([Problem("", None, "path", str(error))]) from None


def with_aliases(mod: ModConfig, more: Iterable[str]) -> ModConfig:
    """Return the mod with further aliases."""
    aliases = mod.aliases | frozenset(more) - {mod.mod_id}
    return replace(mod, aliases=aliases, spec=None if mod.spec is None else {**mod.spec, "aliases": sorted(aliases)})


def fingerprint(config: ModConfig) -> str:
    """Return a hash of what a config asks for; if it changes, a quarantined mod is tried again.

    Values at their default do not count, so a later version with more keys has the same hash.
    """
    asked = replace(config.as_asked, spec=None, asked=None, given=frozenset(), audience=None, instead_of=None)
    asked = asdict(replace(asked, written=None))
    usual = asdict(ModConfig("", ""))  # so that path and id count
    return _HASHED_SO + _hash(_differences(asked, usual))


def is_as_quarantined(kept: str, config: ModConfig) -> bool:
    """Whether the config still asks for what it asked for when ``kept`` was its fingerprint.

    A fingerprint of modvisor 0.2 counted the defaults of that version: it cannot be compared.
    """
    return not kept.startswith(_HASHED_SO) or kept == fingerprint(config)


_HASHED_SO = "2:"


def _differences(asked: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in asked.items():
        if isinstance(value, dict) and isinstance(usual[key], dict) and usual[key]:
            value = _differences(value, usual[key])
            if value:
                found[key] = value
        elif value != usual[key]:
            found[key] = value
    return found


def entry_hash(entry: ModConfig) -> str:
    """Return a hash of what an entry of the network file says, and of nothing that it leaves out.

    So it stays the same in a later version that knows more keys. It is of what is written there: a
    relative path counts as such, wherever the file lies.
    """
    written = {"path": entry.written} if isinstance(entry.written, str) else entry.written
    if not isinstance(written, dict):  # made by hand
        return former_entry_hash(entry)
    path = {"path": written.get("path", written.get("name"))}
    return _WRITTEN_SO + _hash({key: value for key, value in written.items() if key != "name"} | path)


def is_entry(kept: str, entry: ModConfig) -> bool:
    """Whether an entry says what it said when ``kept`` was its hash."""
    return kept == (entry_hash(entry) if kept.startswith(_WRITTEN_SO) else former_entry_hash(entry))


_WRITTEN_SO = "2:"


def former_entry_hash(entry: ModConfig) -> str:
    """Return the hash that versions up to 0.7 kept of an entry. It is of absolute paths."""
    said: dict[str, Any] = {"path": entry.path, "mod_id": entry.mod_id}
    for name in entry.given - {"id", "name"}:
        key, _, inner = name.partition(".")
        value = getattr(entry, key)
        if inner:
            said[name] = value.get(inner) if isinstance(value, dict) else getattr(value, inner)
        elif not isinstance(value, LimitsConfig | RestartConfig):
            said[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return _hash(said)


def _hash(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else str(value)
