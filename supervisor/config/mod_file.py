"""``mod.yaml`` beside a mod's ``mod.py``: how its author wants it to be run. What the network's own file says goes before.

Read without importing the mod, each time its working files are; ``docs/config.md`` says which keys it may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .config import MOD_FILE_KEYS, ModConfig, check_limits
from .values import Location, keys
from .yaml_source import BROKEN, Source, parse_yaml, read_text

MOD_FILE_NAME = "mod.yaml"
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class ModFile:
    """A ``mod.yaml`` as it was read: its path, for messages, and its text."""

    path: str
    text: str


def read_mod_file(folder: Path | None) -> ModFile | None:
    """The file of the mod in ``folder``, None if it has none; raises `ConfigError` if it cannot be read as text."""
    path = None if folder is None else folder / MOD_FILE_NAME
    if path is None or not path.is_file():
        return None
    source = Source(str(path))
    text = read_text(str(path), source)
    source.check()
    return ModFile(str(path), text)


def mod_file_keys(file: ModFile) -> dict[str, Any]:
    """What it says, by key; raises `ConfigError` with every mistake."""
    at = _place(file)
    found = _keys(file, at)
    at.source.check()
    return found


def with_mod_file(asked: ModConfig, file: ModFile | None, said: Mapping[str, Any] = _NOTHING) -> ModConfig:
    """What is asked for, completed by what the mod's own file says; raises `ConfigError` with every mistake in that.

    It may be asked for by what an earlier file completed: only what the network's file gave is taken from there.

    Args:
        said: by the mod's class; its file goes before that.
    """
    asked = asked.as_asked
    said = {key: value for key, value in said.items() if value and key not in asked.given}
    if file is None:
        return replace(asked, asked=asked, **said) if said else asked
    at = _place(file)
    found = _keys(file, at)
    limits = _completed(asked.limits, found.pop("limits", {}), asked.given, "limits")
    restart = _completed(asked.restart, found.pop("restart", {}), asked.given, "restart")
    check_limits(limits, restart, at)
    at.source.check()
    declared = found.pop("version", None)
    found.pop("description", None)  # for who looks for mods
    own = {**said, **{key: value for key, value in found.items() if key not in asked.given}}
    return replace(asked, limits=limits, restart=restart, declared=declared, asked=asked, **own)


def _place(file: ModFile) -> Location:
    return Location(Source(file.path), Path(file.path).parent)


def _keys(file: ModFile, at: Location) -> dict[str, Any]:
    data = parse_yaml(file.text, at.source)
    return {} if data is BROKEN else keys(data, at, MOD_FILE_KEYS)


def _completed(section: Any, own: Mapping[str, Any], given: frozenset[str], name: str) -> Any:
    return replace(section, **{key: value for key, value in own.items() if f"{name}.{key}" not in given})
