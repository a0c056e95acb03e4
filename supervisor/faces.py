"""Lets a package re-export names of its files, each imported when it is first used.

These names are the face of the package, which is a room of the house.

Importing one file of a room runs the room's `__init__`. An eager face would import the whole room
then, and `modvisor ps` would pay for parts of the core that it never uses (120 ms).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, in_folders: Mapping[str, str] | None = None, **files: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package that re-exports names of its files.

    Args:
        in_folders: as `files`, for files in folders of the package: ``{"door.tls": "BadCertificate"}``.
        files: file of the package -> the names that the package re-exports from it, separated by
            blanks. Type checkers do not read this: the package also imports the names under
            `if TYPE_CHECKING`, and a test compares both.
    """
    homes = {name: file for file, names in {**(in_folders or {}), **files}.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    return get
