"""``mod.yaml`` beside a mod's ``mod.py``: how its author wants it to be run. What the network's own file says goes before.

Read without importing the mod, each time its working files are; ``docs/config.md`` says which keys it may have.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .config import MOD_FILE_KEYS, ModConfig, NetworkConfig, check_limits
from .config_values import Place, keys
from .yaml_source import BROKEN, ConfigError, Problem, Source, parse_yaml, read_text

NAME = "mod.yaml"


@dataclass(frozen=True, slots=True)
class ModFile:
    """A ``mod.yaml`` as it was read: its path, for messages, and its text."""

    path: str
    text: str


def folder_of(mod_path: str, base_dir: Path) -> Path | None:
    """The folder of a ``./name`` mod: ``mods/name`` beside the network's file, or ``name`` there. None for any other."""
    if not mod_path.startswith("./"):
        return None
    below_mods = base_dir / "mods" / mod_path[2:]
    return below_mods if below_mods.is_dir() else base_dir / mod_path[2:]


def search_path(config: NetworkConfig) -> list[str]:
    """Where the workers of a network look for their mods first."""
    return [str(folder) for folder in (*config.mod_paths, config.base_dir)]


def with_mod_files(config: NetworkConfig) -> NetworkConfig:
    """A network with its mods as their files complete them; raises `ConfigError` with the mistakes of all of these."""
    problems: list[Problem] = []
    mods: list[ModConfig] = []
    search = [*search_path(config), *sys.path]
    for mod in config.mods:
        try:
            mods.append(settled(mod, find_mod_file(mod.path, folder_of(mod.path, config.base_dir), search)))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return replace(config, mods=tuple(mods))


def find_mod_file(mod_path: str, folder: Path | None, search: Sequence[str]) -> ModFile | None:
    """The file of a mod; None if it has none.

    Args:
        folder: of a ``./name`` mod.
        search: where Python looks for the others, best first. A package in an archive, or behind an import hook, has no file.

    Raises:
        ConfigError: it is there and cannot be read as text.
    """
    home = folder if folder is not None else home_of(mod_path, search)
    path = None if home is None else home / NAME
    if path is None or not path.is_file():
        return None
    source = Source(str(path))
    text = read_text(str(path), source)
    source.check()
    return ModFile(str(path), text)


def home_of(mod_path: str, search: Sequence[str]) -> Path | None:
    """The folder of a package; of a module ``mod``, the folder it stands in. None for any other module."""
    module = mod_path.partition(":")[0].split(".")
    for entry in search:
        package = Path(entry, *module)
        if package.is_dir():
            return package
        if module[-1] == "mod" and package.with_suffix(".py").is_file():
            return package.parent
    return None


def module_file(mod_path: str, search: Sequence[str]) -> Path | None:
    """The file of a mod that is a single module."""
    module = mod_path.partition(":")[0].split(".")
    files = (Path(entry, *module).with_suffix(".py") for entry in search)
    return next((file for file in files if file.is_file()), None)


def settled(asked: ModConfig, file: ModFile | None) -> ModConfig:
    """What is asked for, completed by what the mod's own file says; raises `ConfigError` with every mistake in that.

    It may be asked for by what an earlier file completed: only what the network's file gave is taken from there.
    """
    asked = asked.as_asked
    if file is None:
        return asked
    source = Source(file.path)
    data = parse_yaml(file.text, source)
    at = Place(source, Path(file.path).parent)
    found = {} if data is BROKEN else keys(data, at, MOD_FILE_KEYS)
    limits = _completed(asked.limits, found.pop("limits", {}), asked.given, "limits")
    restart = _completed(asked.restart, found.pop("restart", {}), asked.given, "restart")
    check_limits(limits, restart, at)
    source.check()
    own = {key: value for key, value in found.items() if key not in asked.given}
    return replace(asked, limits=limits, restart=restart, asked=asked, **own)


def _completed(section: Any, own: Mapping[str, Any], given: frozenset[str], name: str) -> Any:
    return replace(section, **{key: value for key, value in own.items() if f"{name}.{key}" not in given})
