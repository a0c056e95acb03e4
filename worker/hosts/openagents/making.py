"""Calls the constructor of a mod of OpenAgents, which may ask for the mod's storage before it has a network.

Their base class looks up each attribute of a mod in its constructor, properties too, and properties
of their mods read files. Before there is a network, each such look makes a temporary folder, which
is forgotten. Here the mod has its storage from the beginning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openagents.sdk.base_mod import BaseMod as TheirBaseMod

from .network import Network

_NAME = "get_storage_path"


class EarlyStorage:
    """Answers `get_storage_path` until the mod has its network. A mod may keep it, so it can be pickled."""

    def __init__(self, mod: Any, workspace: Any) -> None:
        self._mod = mod
        self._workspace = workspace

    def __call__(self) -> Path:
        return self._workspace.get_mod_storage_path(self._mod.mod_name)


def made(cls: type[TheirBaseMod], mod_path: str, network: Network) -> TheirBaseMod:
    """Return ``cls(mod_path)``."""
    mod: Any = cls.__new__(cls, mod_path)  # type: ignore[call-arg] - a class may have a __new__ of its own
    own = vars(mod)
    if cls.get_storage_path is TheirBaseMod.get_storage_path:
        own[_NAME] = EarlyStorage(mod, network.workspace_manager)
    mod.__init__(mod_path)
    own.pop(_NAME, None)
    return mod
