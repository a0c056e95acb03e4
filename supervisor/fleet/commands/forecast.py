"""Says which mods of a network file would not start because of what they require. Starts nothing."""

from __future__ import annotations

import sys

from ....ipc.errors import ModvisorError
from ...config import ModConfig, NetworkConfig
from ...sources import Present, facts_of, folder_of, search_path
from ..registry.dependents import names_of
from .loading import offers_in, plan_of


def unmet_requirements(config: NetworkConfig) -> dict[str, ModvisorError]:
    """Return, by mod id, why a mod would not start. ``config`` is completed by the mods' files."""
    wanted = [_present(mod, config) for mod in config.mods if mod.enabled]
    if not any(mod.requires for mod in wanted):
        return {}
    refused, _ = plan_of(wanted, [], offers_in(config))
    return refused


def _present(mod: ModConfig, config: NetworkConfig) -> Present:
    version = mod.version or mod.declared
    folder = folder_of(mod, config.base_dir, [*search_path(config), *sys.path])
    if version is None and folder is not None:
        version = facts_of(folder, mod.path.partition(":")[2] or None).version
    return Present(mod.mod_id, names_of(mod), version, mod.requires, mod.optional)
