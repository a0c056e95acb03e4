"""``mod.yaml`` beside a mod's ``mod.py``: how its author wants it to be run.

The network's own file overrides it. A mod.yaml is read without importing the mod, each time that
the mod's working files are read; ``docs/config.md`` says which keys it may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..values.basic import plain, read_keys, text
from ..values.keys import keys_of, readers_of, schema_of
from ..values.names import version
from ..values.reader import Location, Reader
from ..yaml.bounds import MOD_FILE
from ..yaml.source import BROKEN, Source, parse_yaml, read_text
from .entry import check_language, check_limits
from .mod import LimitsConfig, ModConfig, RestartConfig

MOD_FILE_NAME = "mod.yaml"
_NOTHING: Mapping[str, Any] = {}


def _section_keys(kind: type) -> Reader:
    """Read a section as a dict of its keys: the network's file overrides them one by one."""
    table = readers_of(kind)
    return Reader("mapping", lambda value, at: read_keys(value, at, table), schema=lambda: schema_of(keys_of(kind)))


MOD_FILE_READERS: dict[str, Reader] = {
    "version": version,
    "description": text,
    "config_schema": plain,
    **{name: each.reader for name, each in keys_of(ModConfig).items() if each.in_mod_file},
    "limits": _section_keys(LimitsConfig),
    "restart": _section_keys(RestartConfig),
}
_SECTIONS = frozenset({"limits", "restart"})


@dataclass(frozen=True, slots=True)
class ModFile:
    """A ``mod.yaml`` as it was read: its path, for messages, and its text."""

    path: str
    text: str


def read_mod_file(folder: Path | None) -> ModFile | None:
    """Read the mod.yaml of the mod in ``folder``; None if it has none.

    Raises:
        ConfigError: the file cannot be read as text.
    """
    path = None if folder is None else folder / MOD_FILE_NAME
    if path is None or not path.is_file():
        return None
    source = Source(str(path))
    text = read_text(str(path), source, MOD_FILE)
    source.check()
    return ModFile(str(path), text)


def mod_file_given(mod: ModConfig) -> frozenset[str]:
    """Return the given keys that override a mod.yaml, such as ``durable`` and ``limits.memory``."""
    return frozenset(each for each in mod.given if each.partition(".")[0] in MOD_FILE_READERS and each not in _SECTIONS)


def mod_file_keys(file: ModFile) -> dict[str, Any]:
    """Return the values of a mod.yaml by key; raises `ConfigError` with every mistake."""
    at = _location(file)
    found = _keys(file, at)
    at.source.check()
    return found


def with_mod_file(asked: ModConfig, file: ModFile | None, said: Mapping[str, Any] = _NOTHING) -> ModConfig:
    """Fill in what the network file leaves open: from mod.yaml first, then from the mod's class.

    What the network's file gives stays. If ``asked`` was completed by an earlier mod.yaml, the
    values of that file are dropped first.

    Args:
        said: what the mod's class says.

    Raises:
        ConfigError: lists every mistake in the mod.yaml.
    """
    asked = asked.as_asked
    said = {key: value for key, value in said.items() if value and key not in asked.given}
    if file is None:
        return replace(asked, asked=asked, **said) if said else asked
    at = _location(file)
    found = _keys(file, at)
    limits = _completed(asked.limits, found.pop("limits", {}), asked.given, "limits")
    restart = _completed(asked.restart, found.pop("restart", {}), asked.given, "restart")
    check_limits(limits, restart, at)
    check_language(found, at)
    at.source.check()
    declared, schema = found.pop("version", None), found.pop("config_schema", None)
    found.pop("description", None)  # shown in lists of mods, and no part of the config
    own = {**said, **{key: value for key, value in found.items() if key not in asked.given}}
    # The network file may name the one where the mod.yaml names the other.
    for given, other in (("python", "command"), ("command", "python")):
        if getattr(asked, given) is not None:
            own.pop(other, None)
    return replace(asked, limits=limits, restart=restart, declared=declared, config_schema=schema, asked=asked, **own)


def _location(file: ModFile) -> Location:
    return Location(Source(file.path), Path(file.path).parent)


def _keys(file: ModFile, at: Location) -> dict[str, Any]:
    data = parse_yaml(file.text, at.source, bounds=MOD_FILE)
    return {} if data is BROKEN else read_keys(data, at, MOD_FILE_READERS)


def _completed(section: Any, own: Mapping[str, Any], given: frozenset[str], name: str) -> Any:
    return replace(section, **{key: value for key, value in own.items() if f"{name}.{key}" not in given})
