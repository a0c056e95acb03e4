"""Which modules the guardian imports for mods of other frameworks, whose import is long.

Known from the network's file and from the source of a local mod, without running either.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress

from ...ipc.launching import AHEAD
from ..config import ModConfig, NetworkConfig
from .home import folder_of, search_path

OPENAGENTS = "openagents"
_HOST = "modvisor.worker.hosts.openagents.warm"
_THEIRS = f"{OPENAGENTS}.mods."
_IMPORT = re.compile(rb"^\s*(?:from|import)\s+openagents\b", re.MULTILINE)
_ENTRIES = ("mod.py", "__init__.py")


def modules_to_preload(config: NetworkConfig) -> tuple[str, ...]:
    """Return what the guardian is to import: `network.preload`, or what the mods of the file suggest without it."""
    if config.preload or "network.preload" in config.lines:
        return config.preload
    mods = [mod for mod in config.mods if mod.enabled and mod.python is None and mod.command is None]
    installed = dict.fromkeys(_module_of(mod) for mod in mods if mod.path.startswith(_THEIRS))
    if not installed and not any(_imports_openagents(mod, config) for mod in mods):
        return ()
    return tuple(f"{AHEAD}{name}" for name in (_HOST, *installed))


def _module_of(mod: ModConfig) -> str:
    module, colon, _ = mod.path.partition(":")
    return module if colon or module.endswith(".mod") else f"{module}.mod"


def _imports_openagents(mod: ModConfig, config: NetworkConfig) -> bool:
    return any(_IMPORT.search(source) for source in _sources(mod, config))


def _sources(mod: ModConfig, config: NetworkConfig) -> Iterator[bytes]:
    folder = folder_of(mod, config.base_dir, [*search_path(config), *sys.path])
    if folder is None:
        return
    for name in _ENTRIES:
        with suppress(OSError):
            yield (folder / name).read_bytes()
