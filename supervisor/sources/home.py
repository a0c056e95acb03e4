"""Where a mod's files are, and which of several versions is taken: decided without importing anything.

mods/wiki/mod.py                  the mod itself
mods/wiki/versions/1.4/mod.py     the same mod, version 1.4, with a mod.yaml and helpers of its own
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...ipc.errors import ModvisorError
from ..config import (
    ConfigError,
    ModConfig,
    ModFile,
    NetworkConfig,
    Problem,
    Requirement,
    WrongVersion,
    matching_version,
    newest_final_version,
    parse_version,
    read_mod_file,
    same_version,
    versions_in_order,
    with_mod_file,
)
from .facts import class_requirements, facts_of

VERSIONS = "versions"
HOUSE = Path(__file__).parents[2]
"""Where the sub-packages of modvisor are: with an editable install no folder of `sys.path` has them by their name."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a mod is.

    Attributes:
        folder: with its ``mod.py`` and its mod.yaml; None of a module that stands alone, is in an archive, or behind an
            import hook.
        file: its mod.yaml, if it has one.
        by_folder: whether the worker is to import it from ``folder``; else by its name, from the path.
        requires, optional: mods that its class says it needs, or uses.
    """

    folder: Path | None = None
    file: ModFile | None = None
    by_folder: bool = False
    requires: tuple[Requirement, ...] = ()
    optional: tuple[Requirement, ...] = ()

    @property
    def said(self) -> dict[str, Any]:
        """By its class, as far as it is for the network to know before it runs."""
        return {"requires": self.requires, "optional": self.optional}


def search_path(config: NetworkConfig) -> list[str]:
    """Where the workers of a network look for their mods first."""
    return [str(folder) for folder in (*config.mod_paths, config.base_dir)]


def find_home(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> Home:
    """Where the mod is that is asked for.

    Args:
        search: where Python looks for packages, best first; after the mod's own ``paths``.

    Raises:
        WrongVersion: the version asked for is not there.
        ConfigError: its mod.yaml cannot be read.
        ModvisorError: ``invalid_mod``: what its class requires is not written as it has to be.
    """
    root = root_of(mod.path, base_dir, [*map(str, mod.paths), *search])
    if root is None:
        return Home()
    folder = _version_folder(root, mod.path, mod.version)
    is_local = mod.path.startswith("./")
    # Another interpreter does not have the folders of ours on its path.
    by_folder = is_local or folder != root or mod.python is not None
    return Home(
        folder, read_mod_file(folder), by_folder, *class_requirements(folder, mod.path.partition(":")[2] or None)
    )


def folder_of(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> Path | None:
    """Where its code is, or would have to be, whether or not it can be loaded from there."""
    root = root_of(mod.path, base_dir, [*map(str, mod.paths), *search])
    try:
        return None if root is None else _version_folder(root, mod.path, mod.version)
    except WrongVersion:
        return root


def with_mod_files(config: NetworkConfig) -> NetworkConfig:
    """A network with its mods as their files complete them; raises `ConfigError` with the mistakes of all of these."""
    problems: list[Problem] = []
    mods: list[ModConfig] = []
    search = [*search_path(config), *sys.path]
    for index, mod in enumerate(config.mods):
        try:
            mods.append(_completed(mod, config.base_dir, search))
        except ConfigError as error:
            problems += error.problems
        except ModvisorError as error:
            file, key = "" if config.file is None else str(config.file), f"mods[{index}]"
            problems.append(
                Problem(file, None, f"{key}.version" if isinstance(error, WrongVersion) else key, str(error))
            )
    if problems:
        raise ConfigError(problems)
    return replace(config, mods=tuple(mods))


def _completed(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> ModConfig:
    home = find_home(mod, base_dir, search)
    return with_mod_file(mod, home.file, home.said)


def root_of(mod_path: str, base_dir: Path, search: Sequence[str]) -> Path | None:
    """The folder that holds all versions of a mod: ``mods/name`` beside the network's file, or ``name`` there, for
    ``./name``; of a package its own, of a module ``mod`` the one it stands in."""
    if mod_path.startswith("./"):
        below_mods = base_dir / "mods" / mod_path[2:]
        return below_mods if below_mods.is_dir() else base_dir / mod_path[2:]
    module = mod_path.partition(":")[0].split(".")
    if module[0] == "modvisor" and len(module) > 1:
        return _package(HOUSE.joinpath(*module[1:]), module[-1])
    return next((found for entry in search if (found := _package(Path(entry, *module), module[-1])) is not None), None)


def module_file(mod_path: str, search: Sequence[str]) -> Path | None:
    """The file of a mod that is a single module."""
    module = mod_path.partition(":")[0].split(".")
    files = (Path(entry, *module).with_suffix(".py") for entry in search)
    return next((file for file in files if file.is_file()), None)


def _package(folder: Path, name: str) -> Path | None:
    if folder.is_dir():
        return folder
    return folder.parent if name == "mod" and folder.with_suffix(".py").is_file() else None


def version_folders(root: Path) -> dict[str, Path]:
    """The versions below ``versions/``, by the names of their folders, oldest first."""
    try:
        names = [
            folder.name for folder in (root / VERSIONS).iterdir() if _has_mod(folder) and parse_version(folder.name)
        ]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    return {name: root / VERSIONS / name for name in versions_in_order(names)}


def has_own(root: Path) -> bool:
    """Whether the folder itself is a mod, beside the versions it may hold."""
    return (root / "mod.py").is_file()


def _has_mod(folder: Path) -> bool:
    return (folder / "mod.py").is_file() or (folder / "__init__.py").is_file()


def _version_folder(root: Path, mod_path: str, asked: str | None) -> Path:
    folders = version_folders(root)
    if asked is None:
        if has_own(root) or not folders:
            return root
        if (newest := newest_final_version(folders)) is None:
            raise _not_there(f"there is no final version of {mod_path}; ask for one with 'version'", root, folders)
        return folders[newest]
    if (name := matching_version(asked, folders)) is not None:
        return folders[name]
    own = facts_of(root).version if has_own(root) else None
    if own is None and not has_own(root) and folders:
        raise _not_there(f"there is no version {asked} of {mod_path}", root, folders)
    if own is not None and not same_version(own, asked):
        raise _not_there(f"there is no version {asked} of {mod_path}", root, folders, own)
    return root  # it may be that one: its worker will tell


def _not_there(text: str, root: Path, folders: dict[str, Path], own: str | None = None) -> ModvisorError:
    there = [*folders, *([f"{own} (the folder itself)"] if own else [])]
    return WrongVersion(f"{text}; in {root} there is {', '.join(there)}", available=[*folders, *([own] if own else [])])
