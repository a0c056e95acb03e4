"""Finds the folder of a mod, and chooses among several versions, without importing anything.

mods/wiki/mod.py                  the mod itself
mods/wiki/versions/1.4/mod.py     the same mod, version 1.4, with a mod.yaml and helpers of its own
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...ipc.errors import Code, ModvisorError
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
from ..nearest import did_you_mean
from ..process import is_shortage
from .facts import class_requirements, facts_of

VERSIONS = "versions"
HOUSE = Path(__file__).parents[2]
"""The folder of modvisor's sub-packages, which `sys.path` lacks in an editable install."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a mod is.

    Attributes:
        folder: the folder of its ``mod.py`` and mod.yaml; None for a single module, and for a mod
            in an archive or behind an import hook.
        file: its mod.yaml, if it has one.
        by_folder: whether the worker imports it from ``folder``; else by name from the path.
        requires, optional: mods that its class needs, or uses when they are loaded.
    """

    folder: Path | None = None
    file: ModFile | None = None
    by_folder: bool = False
    requires: tuple[Requirement, ...] = ()
    optional: tuple[Requirement, ...] = ()

    @property
    def said(self) -> dict[str, Any]:
        """What the mod's class says and the network must know before the mod runs."""
        return {"requires": self.requires, "optional": self.optional}


def search_path(config: NetworkConfig) -> list[str]:
    """Return the folders in which the workers of a network look for mods first."""
    return [str(folder) for folder in (*config.mod_paths, config.base_dir)]


def find_home(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> Home:
    """Find the requested version of a mod.

    Args:
        search: the folders in which Python looks for packages, after the mod's own ``paths``.

    Raises:
        WrongVersion: the requested version does not exist.
        ConfigError: its mod.yaml cannot be read.
        ModvisorError: ``invalid_mod``: a requirement of its class is not written correctly, or its
            files cannot be read.
        OSError: this process has no descriptors left.
    """
    with _readable(mod.path):
        return _find_home(mod, base_dir, search)


@contextmanager
def _readable(mod_path: str) -> Iterator[None]:
    """Raise an OSError of the mod's folder as a failure of this mod."""
    try:
        yield
    except OSError as error:
        if is_shortage(error):
            raise
        where = f"{mod_path}: {error.filename}" if error.filename else mod_path
        text = f"{where} cannot be read: {error.strerror or error}; make it readable for the network's user"
        raise ModvisorError(text, code=Code.INVALID_MOD) from None


def _find_home(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> Home:
    root = root_of(mod.path, base_dir, [*map(str, mod.paths), *search])
    if root is None:
        return Home()
    folder = _version_folder(root, mod.path, mod.version)
    is_local = mod.path.startswith("./")
    # Another interpreter or program does not have our folders on its path.
    by_folder = is_local or folder != root or mod.python is not None or mod.command is not None
    return Home(
        folder, read_mod_file(folder), by_folder, *class_requirements(folder, mod.path.partition(":")[2] or None)
    )


def folder_of(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> Path | None:
    """Return the folder where a mod's code should be, even if it cannot be loaded from there."""
    root = root_of(mod.path, base_dir, [*map(str, mod.paths), *search])
    try:
        return None if root is None else _version_folder(root, mod.path, mod.version)
    except (WrongVersion, OSError):
        return root


def with_mod_files(config: NetworkConfig) -> NetworkConfig:
    """Complete the mods of a network by their own files.

    Raises:
        ConfigError: lists the mistakes in all of these files.
    """
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
            named = f"{key}.version" if isinstance(error, WrongVersion) else key
            problems.append(Problem(file, config.lines.get(named), named, str(error)))
    if problems:
        raise ConfigError(problems)
    return replace(config, mods=tuple(mods))


def _completed(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> ModConfig:
    return read_home(mod, base_dir, search)[0]


def has_home(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> bool:
    """Tell whether a mod has a folder, whose files `read_home` would read."""
    return root_of(mod.path, base_dir, [*map(str, mod.paths), *search]) is not None


def read_home(mod: ModConfig, base_dir: Path, search: Sequence[str]) -> tuple[ModConfig, Home]:
    """Find a mod, and complete its config by its files.

    A mod's files may be large, so call it in a thread. Raises as `find_home`, and `ConfigError`
    with every mistake of the mod.yaml.
    """
    home = find_home(mod, base_dir, search)
    return with_mod_file(mod, home.file, home.said), home


def root_of(mod_path: str, base_dir: Path, search: Sequence[str]) -> Path | None:
    """Return the folder that holds all versions of a mod; None if there is none.

    For ``./name`` it is ``mods/name`` beside the network's file, or ``name`` there. For a package
    it is the package's folder, and for a module called ``mod`` the folder of that module.
    """
    if mod_path.startswith("./"):
        below_mods = base_dir / "mods" / mod_path[2:]
        return below_mods if below_mods.is_dir() else base_dir / mod_path[2:]
    module = mod_path.partition(":")[0].split(".")
    if module[0] == "modvisor" and len(module) > 1:
        return _package(HOUSE.joinpath(*module[1:]), module[-1])
    return next((found for entry in search if (found := _package(Path(entry, *module), module[-1])) is not None), None)


def module_file(mod_path: str, search: Sequence[str]) -> Path | None:
    """Return the file of a mod that is a single module; None if there is none."""
    module = mod_path.partition(":")[0].split(".")
    files = (Path(entry, *module).with_suffix(".py") for entry in search)
    return next((file for file in files if file.is_file()), None)


def _package(folder: Path, name: str) -> Path | None:
    if folder.is_dir():
        return folder
    return folder.parent if name == "mod" and folder.with_suffix(".py").is_file() else None


def version_folders(root: Path) -> dict[str, Path]:
    """Return the folders in ``versions/`` by their names, oldest version first."""
    try:
        names = [
            folder.name for folder in (root / VERSIONS).iterdir() if _has_mod(folder) and parse_version(folder.name)
        ]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    return {name: root / VERSIONS / name for name in versions_in_order(names)}


def has_own(root: Path) -> bool:
    """Tell whether the folder itself is a mod, beside the versions that it may hold."""
    return (root / "mod.py").is_file()


def _has_mod(folder: Path) -> bool:
    return (folder / "mod.py").is_file() or (folder / "__init__.py").is_file()


def _version_folder(root: Path, mod_path: str, asked: str | None) -> Path:
    folders = version_folders(root)
    if asked is None:
        if has_own(root) or not folders:
            return root
        if (newest := newest_final_version(folders)) is None:
            raise _not_there(f"{mod_path} has only pre-releases; request one of them with 'version'", root, folders)
        return folders[newest]
    if (name := matching_version(asked, folders)) is not None:
        return folders[name]
    own = facts_of(root).version if has_own(root) else None
    if own is None and not has_own(root) and folders:
        raise _no_version(asked, mod_path, root, folders)
    if own is not None and not same_version(own, asked):
        raise _no_version(asked, mod_path, root, folders, own)
    return root  # it may have the requested version: its worker will tell


def _no_version(
    asked: str, mod_path: str, root: Path, folders: dict[str, Path], own: str | None = None
) -> ModvisorError:
    hint = did_you_mean(asked, [*folders, *([own] if own else [])])
    return _not_there(f"there is no version {asked} of {mod_path}{hint}", root, folders, own)


def _not_there(text: str, root: Path, folders: dict[str, Path], own: str | None = None) -> ModvisorError:
    there = [*folders, *([f"{own} (the folder itself)"] if own else [])]
    return WrongVersion(
        f"{text}; available in {root}: {', '.join(there)}", available=[*folders, *([own] if own else [])]
    )
