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

HOUSE = BOOTSTRAP.parents[1]
"""The folder of modvisor's sub-packages."""

_FLOORS = "ipc", "mods", "worker", "modvisor", "__init__.py"
"""What a worker imports of modvisor. The supervisor's code is of no use to it."""


def readable(config: ModConfig, base_dir: Path, code: Iterable[Path]) -> list[Path]:
    """Return what the mod's processes must read to run.

    Args:
        base_dir: the folder of the network file, where a program's arguments may lie.
        code: the folders that it imports from. The folder of the network file is none of them: of
            that the mod sees its own package.
    """
    found = [*(path for path in code if path != base_dir), *_package(config, base_dir)]
    if config.command is not None:
        return [*found, *_words(config.command, base_dir)]
    if config.python is not None:
        return [
            *found,
            *_environment(config.python),
            *(HOUSE / floor for floor in _FLOORS),
            Path(msgpack_folder(), "msgpack"),
        ]
    return [*found, *_own()]


def _package(config: ModConfig, base_dir: Path) -> list[Path]:
    """Return where the first part of the mod's path lies in the folder of the network file."""
    first = config.path.partition(":")[0].removeprefix("./").partition(".")[0]
    return [base_dir / first, base_dir / f"{first}.py"]


def _words(command: tuple[str, ...], base_dir: Path) -> list[Path]:
    """Return the program, and its arguments that are files."""
    found = [Path(os.path.realpath(command[0])), *(base_dir / word for word in command)]
    return [path for path in found if path.is_file()]


@lru_cache(maxsize=64)
def _environment(python: Path) -> list[Path]:
    """Return the folders of an interpreter, and of the one that its virtual environment was made from."""
    folders = [python.parent.parent]
    real = Path(os.path.realpath(python)).parent.parent
    return folders if real == folders[0] else [*folders, real]


@lru_cache(maxsize=1)
def _own() -> list[Path]:
    """Return the folders of the network's own interpreter, with its packages and modvisor."""
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()]
    paths = [Path(entry) for entry in sys.path if entry and Path(entry) != Path.cwd()]
    return list(dict.fromkeys([*map(Path, prefixes), *paths, *(HOUSE / floor for floor in _FLOORS)]))
