"""Finds what a start of the network would stumble over, besides mistakes of the file. Starts nothing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder

from ....ipc.config_schema import WrongConfig, check_config
from ...audit import NoKey, read_key
from ...config import NO_AUDIT, ConfigError, NetworkConfig, Problem
from ...fleet import unmet_requirements
from ...http import BadCertificate, check_address, context_of
from ...journal import StateDir, UnsafeStateDir, check_rights
from ...limits import storage_fault
from ...runtime import NoUvloop, choose_loop
from ...sources import folder_of, search_path, undefined_names


def preflight(config: NetworkConfig) -> list[Problem]:
    """Return what would keep the network, or one of its mods, from starting on this machine.

    A network that runs already has its port, so then the port is not tried.

    Args:
        config: completed by the mods' own files.
    """
    return [
        Problem(str(config.file or ""), config.lines.get(key), key, message)
        for key, message in (
            *_preload(config),
            *_address(config),
            *_certificate(config),
            *_storage(config),
            *_event_loop(config),
            *_audit_key(config),
            *_requirements(config),
            *_configs(config),
            *_sources(config),
        )
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


def _certificate(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    if config.tls is not None:
        try:
            context_of(config.tls)
        except BadCertificate as error:
            yield "network.tls", str(error).removeprefix("network.tls: ")


def _audit_key(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    if config.audit.key_file is not None and config.audit.mode != NO_AUDIT:
        try:
            read_key(config.audit.key_file)
        except NoKey as error:
            yield "audit.key_file", str(error)


def _storage(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    if (fault := storage_fault(config.storage)) is not None:
        yield "network.storage", "; ".join(fault)
    elif config.storage.is_dir():
        try:
            check_rights(config.storage)
        except UnsafeStateDir as error:
            yield "network.storage", str(error)


def _event_loop(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    try:
        choose_loop(config.event_loop)
    except NoUvloop as error:
        yield "network.event_loop", str(error)


def _requirements(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    places = {mod.mod_id: index for index, mod in enumerate(config.mods)}
    for mod_id, error in unmet_requirements(config).items():
        yield f"mods[{places[mod_id]}].requires", f"mod {mod_id} would not start: {error}"


def _configs(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    """Check each mod's config by the schema in its mod.yaml. A schema in a class is known to its worker only."""
    for index, mod in enumerate(config.mods):
        if mod.enabled and mod.config_schema is not None:
            try:
                check_config(mod.config, mod.config_schema, f"mod {mod.mod_id}")
            except WrongConfig as error:
                yield f"mods[{index}].config", str(error)


def _sources(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    """Find the names that the import of a mod would stumble over."""
    search = [*search_path(config), *sys.path]
    for index, mod in enumerate(config.mods):
        folder = folder_of(mod, config.base_dir, search) if mod.command is None else None
        if not mod.enabled or folder is None:
            continue
        for file in (folder / "__init__.py", folder / "mod.py"):
            for line, name in undefined_names(file.read_bytes() if file.is_file() else b"")[:1]:
                text = f"{file}:{line}: NameError: name {name!r} is not defined; import it, or define it before"
                yield f"mods[{index}]", f"mod {mod.mod_id} cannot be imported: {text}"
