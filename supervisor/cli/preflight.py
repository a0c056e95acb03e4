"""Finds what a start of the network would stumble over, besides mistakes of the file. Starts nothing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder

from ..config import ConfigError, NetworkConfig, Problem
from ..fleet import unmet_requirements
from ..http import check_address
from ..journal import StateDir
from ..limits import storage_fault


def preflight(config: NetworkConfig) -> list[Problem]:
    """Return what would keep the network, or one of its mods, from starting on this machine.

    A network that runs already has its port, so then the port is not tried.

    Args:
        config: completed by the mods' own files.
    """
    return [
        Problem(str(config.file or ""), config.lines.get(key), key, message)
        for key, message in (*_preload(config), *_address(config), *_storage(config), *_requirements(config))
    ]


def check_start(config: NetworkConfig) -> None:
    """Raise `ConfigError` with what `preflight` finds."""
    if found := preflight(config):
        raise ConfigError(found)


def _preload(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    for index, name in enumerate(config.preload):
        if not _is_installed(name):
            text = f"no module {name!r} for {sys.executable}; install it there, or take it out of the list"
            yield f"network.preload[{index}]", text


def _is_installed(module: str) -> bool:
    """Tell whether a module can be found, without importing the packages above it."""
    top, *below = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
        for part in below:
            if spec is None or spec.submodule_search_locations is None:
                return False
            spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    except (ImportError, ValueError):  # ValueError: a module without a spec
        return False
    return spec is not None


def _address(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    if config.port is None or StateDir(config.storage).is_taken:
        return
    if (fault := check_address(config.host, config.port)) is not None:
        key = "network.host" if "'host'" in fault else "network.port"
        yield key, f"cannot listen on {config.host}, port {config.port}: {fault}"


def _storage(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    if (fault := storage_fault(config.storage)) is not None:
        yield "network.storage", "; ".join(fault)


def _requirements(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    places = {mod.mod_id: index for index, mod in enumerate(config.mods)}
    for mod_id, error in unmet_requirements(config).items():
        yield f"mods[{places[mod_id]}].requires", f"mod {mod_id} would not start: {error}"
