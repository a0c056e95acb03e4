"""The folders that a mod of a strict cell reads besides those of the system: its Python and its code."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ..config import ModConfig
from ..process import BOOTSTRAP, msgpack_folder
from .authors import names

HOUSE = BOOTSTRAP.parents[1]
"""The folder of modvisor's sub-packages."""

_FLOORS = "ipc", "mods", "worker", "modvisor", "__init__.py"
"""What a worker imports of modvisor. The supervisor's code is of no use to it."""


_OF_A_PREFIX = "bin", "lib", "lib64", "share", "pyvenv.cfg", "etc/ssl", "ssl"
"""What Python has in its folder. What else lies there may be somebody's project, or a home."""


def readable(config: ModConfig, base_dir: Path, code: Iterable[Path]) -> list[Path]:
    """Return what the mod's processes must read to run."""
    return [*besides_python(config, base_dir, code), *(own_python() if runs_on_own(config) else ())]


def runs_on_own(config: ModConfig) -> bool:
    """Return whether a mod runs on the network's own interpreter."""
    return config.command is config.python is None


def besides_python(config: ModConfig, base_dir: Path, code: Iterable[Path]) -> list[Path]:
    """Return what the mod's processes must read to run besides the network's own interpreter.

    Of a folder in which this process happens to look for modules, such as that of the program or of
    the network file, the mod sees its own package alone.

    Args:
        base_dir: the folder of the network file, where a program's arguments may lie.
        code: the folders that it imports from.
    """
    found: list[Path] = []
    for folder in dict.fromkeys((*code, base_dir)):
        if config.python is not None and folder == config.python.parent.parent:
            continue
        is_by_chance = folder == base_dir or (str(folder) in sys.path and not _is_of_python(folder))
        found += _package(config, folder) if is_by_chance else [folder]
    if config.command is not None:
        return [*found, *_words(config.command[:1] if names(config, "command") else config.command, base_dir)]
    if config.python is not None:
        msgpack = Path(msgpack_folder(), "msgpack")
        return [*found, *_environment(config.python), *(HOUSE / floor for floor in _FLOORS), msgpack]
    return found


def _package(config: ModConfig, folder: Path) -> list[Path]:
    """Return where the first part of the mod's path lies in a folder."""
    first = config.path.partition(":")[0].removeprefix("./").partition(".")[0]
    return [folder / first, folder / f"{first}.py"]


def _words(command: tuple[str, ...], base_dir: Path) -> list[Path]:
    """Return the program, and its arguments that are files, as far as the network's file names them."""
    found = [Path(os.path.realpath(command[0])), *(base_dir / word for word in command)]
    return [path for path in found if path.is_file()]


def _environment(python: Path) -> list[Path]:
    """Return the folders of an interpreter, and of the one that its virtual environment was made from."""
    return _of_prefixes((python.parent.parent, Path(os.path.realpath(python)).parent.parent))


@lru_cache(maxsize=1)
def own_python() -> tuple[Path, ...]:
    """Return the folders of the network's own interpreter, with its packages and modvisor."""
    paths = [Path(found) for found in sysconfig.get_paths().values() if _is_of_python(Path(found))]
    return tuple(dict.fromkeys([*_of_prefixes(_prefixes()), *paths, *(HOUSE / floor for floor in _FLOORS)]))


def _prefixes() -> tuple[Path, ...]:
    return Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)


def _of_prefixes(prefixes: Iterable[Path]) -> list[Path]:
    return [prefix / name for prefix in dict.fromkeys(prefixes) for name in _OF_A_PREFIX]


def _is_of_python(folder: Path) -> bool:
    """Return whether a folder belongs to the network's own interpreter."""
    return any(folder.is_relative_to(found) for found in _of_prefixes(_prefixes()))
