"""A changed network file, applied to a running network: what was added, removed or changed, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...ipc.event import EventResponse
from ..config import Audience, ModConfig, NetworkConfig, with_bundled_permissions
from .loading import Loading
from .registry import ModRegistry
from .workers import Mod


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
_FIXED = (
    "name", "network_id", "host", "port", "storage", "base_dir", "mod_paths", "event_timeout", "polling",
    "admin", "log", "watch", "preload",
)  # fmt: skip


def in_force(old: NetworkConfig, new: NetworkConfig) -> NetworkConfig:
    """``new`` as far as it takes effect without a restart."""
    return replace(new, **{key: getattr(old, key) for key in _FIXED})


async def apply_changes(loading: Loading, old: NetworkConfig, new: NetworkConfig) -> Changes:
    """Unload what is gone, reload what runs otherwise than the file says, load what is new.

    Compared with what runs, not with the former file: what failed the last time is tried again. Mods loaded at runtime that
    the file does not name are left alone. What is gone and still needed by others stays: its removal fails.
    """
    mods = loading.commands.mods
    wanted = {mod.mod_id: with_bundled_permissions(mod) for mod in new.mods if mod.enabled}
    changes = Changes(needs_restart=[key for key in _FIXED if getattr(old, key) != getattr(new, key)])
    mods.use_config(in_force(old, new))
    # What could not be removed the last time is no more in the former file.
    named = [*(mod.mod_id for mod in old.mods if mod.enabled), *(mod.mod_id for mod in mods if mod.config.from_file)]
    gone = [mod_id for mod_id in dict.fromkeys(named) if mod_id not in wanted]
    for mod_id in loading.dependents_first([mod_id for mod_id in gone if mods.find(mod_id) is not None]):
        changes.removed[mod_id] = await loading.unload(mod_id)
    new_ones = {mod_id: mod for mod_id, mod in wanted.items() if mods.find(mod_id) is None}
    if new_ones:
        changes.added = await loading.load_all(list(new_ones.values()))
    for mod_id, mod in wanted.items():
        keeper = mods.find(mod_id)
        if keeper is not None and mod_id not in new_ones and keeper.config.as_asked != mod:
            changes.changed[mod_id] = await loading.commands.swap(mod_id, mod)
    _regroup(mods, old, wanted, changes)
    return changes


def _regroup(mods: ModRegistry, old: NetworkConfig, wanted: dict[str, ModConfig], changes: Changes) -> None:
    """Give the mods the audiences that the file has changed, all in one moment.

    Compared with the former file: an audience that was changed at runtime is not undone because something else was edited.
    """
    former = {mod.mod_id: mod.audience for mod in old.mods if mod.enabled}
    regrouped: dict[Mod, tuple[Audience | None, int]] = {}
    for mod_id, mod in wanted.items():
        keeper = mods.find(mod_id)
        is_changed = mod_id not in former or former[mod_id] != mod.audience
        if keeper is not None and is_changed and keeper.audience != mod.audience:
            regrouped[keeper] = mod.audience, keeper.promoted
    if not regrouped:
        return
    mods.families.change(regrouped)
    for keeper in regrouped:
        reaches = mods.families.stats_of(keeper).reaches
        done = EventResponse(True, f"mod {keeper.mod_id} reaches {reaches} now", {"mod_id": keeper.mod_id})
        changes.changed.setdefault(keeper.mod_id, done)
