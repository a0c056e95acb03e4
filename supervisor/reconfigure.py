"""A changed network file, applied to a running network: what was added, removed or changed, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..ipc.event import EventResponse
from .config import ModConfig, NetworkConfig
from .registry import ModRegistry, with_bundled_permissions


@dataclass(slots=True)
class Changes:
    """What was done, with the outcome per mod, and what needs a restart to take effect."""

    added: dict[str, EventResponse] = field(default_factory=dict)
    removed: dict[str, EventResponse] = field(default_factory=dict)
    changed: dict[str, EventResponse] = field(default_factory=dict)
    needs_restart: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        return all(response.success for part in (self.added, self.removed, self.changed) for response in part.values())


# Keys of the network itself that are read only once.
_FIXED = ("name", "network_id", "host", "port", "storage", "base_dir", "mod_paths", "event_timeout", "admin", "log")


async def apply_changes(mods: ModRegistry, old: NetworkConfig, new: NetworkConfig) -> Changes:
    """Unload what is gone, reload what changed, load what is new. Mods loaded at runtime are left alone."""
    before = {mod.mod_id: with_bundled_permissions(mod) for mod in old.mods if mod.enabled}
    after = {mod.mod_id: with_bundled_permissions(mod) for mod in new.mods if mod.enabled}
    changes = Changes(needs_restart=[key for key in _FIXED if getattr(old, key) != getattr(new, key)])
    mods.use_config(new)
    for mod_id in before.keys() - after.keys():
        changes.removed[mod_id] = await mods.unload(mod_id)
    for mod_id, mod in after.items():
        if mod_id not in before:
            changes.added[mod_id] = await mods.load(mod)
        elif mod != before[mod_id]:
            changes.changed[mod_id] = await _change(mods, before[mod_id], mod)
    return changes


async def _change(mods: ModRegistry, before: ModConfig, mod: ModConfig) -> EventResponse:
    """A reload where the running mod can be replaced in place; another path is another mod."""
    if mod.path == before.path:
        return await mods.reload(mod.mod_id, mod)
    await mods.unload(mod.mod_id)
    return await mods.load(mod)
