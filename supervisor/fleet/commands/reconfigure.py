"""Applies a changed network file to a running network, and touches only the mods that changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ....ipc.event import EventResponse
from ...config import (
    ORDER,
    Audience,
    Effect,
    ModConfig,
    NetworkConfig,
    changed_keys,
    host_given,
    in_force,
    mod_file_given,
    with_bundled_permissions,
)
from ...progress import tell
from ..mods.workers import Mod
from ..registry.kept import holds
from ..registry.registry import ModRegistry
from .loading import Loading


@dataclass(slots=True)
class Changes:
    """The outcome for each mod, the keys that were applied, and the keys that need a restart.

    A mod whose place another one took in a swap is not loaded, as long as its entry stays the same.

    Keys are named as in the file, those of ``network`` without their section: ``port``,
    ``agents.max_agents``, ``agent_groups.staff.permissions``.
    """

    added: dict[str, EventResponse] = field(default_factory=dict)
    removed: dict[str, EventResponse] = field(default_factory=dict)
    changed: dict[str, EventResponse] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    needs_restart: list[str] = field(default_factory=list)
    swapped: dict[str, str] = field(default_factory=dict)  # mods that are not loaded, and who has their place
    elsewhere: dict[str, str] = field(default_factory=dict)  # nodes whose file differs, and what to do about it

    @property
    def success(self) -> bool:
        return all(response.success for part in (self.added, self.removed, self.changed) for response in part.values())


async def apply_changes(loading: Loading, old: NetworkConfig, new: NetworkConfig) -> Changes:
    """Unload removed mods, reload changed ones, load new ones, and put them in the file's order.

    The new file is compared with what runs, not with the old file, so a change that failed before
    is tried again. Mods that were loaded at runtime and that neither file names are left alone. A
    removed mod that others need stays, and its removal fails.
    """
    mods = loading.commands.mods
    wanted = {mod.mod_id: with_bundled_permissions(mod) for mod in new.mods if mod.enabled}
    changes = Changes()
    for key in changed_keys(old, new):
        (changes.applied if key.effect is Effect.NOW else changes.needs_restart).append(key.name)
    mods.use_config(in_force(old, new))
    # A mod that could not be removed before is not in the old file any more.
    named = [*(mod.mod_id for mod in old.mods if mod.enabled), *(mod.mod_id for mod in mods if mod.config.from_file)]
    gone = [mod_id for mod_id in dict.fromkeys(named) if mod_id not in wanted]
    for mod_id in loading.dependents_first([mod_id for mod_id in gone if mods.get(mod_id) is not None]):
        tell(f"unloading {mod_id}")
        changes.removed[mod_id] = await loading.unload(mod_id)
    runs_for = {mod_id: mods.get(mod_id) or _in_place_of(mods, mod_id) for mod_id in wanted}
    new_ones = {mod_id: mod for mod_id, mod in wanted.items() if runs_for[mod_id] is None}
    if new_ones:
        tell(f"loading {', '.join(new_ones)}")
        changes.added = await loading.load_all(list(new_ones.values()))
    for done, (mod_id, config) in enumerate(wanted.items()):
        mod = runs_for[mod_id]
        if mod is None or mod not in mods:
            continue
        if holds(mod.config.instead_of, config):
            changes.swapped[mod_id] = mod.mod_id
        elif mod.mod_id != mod_id or differs(mod.config, config):
            tell(f"reloading {mod_id}", done, len(wanted))
            changes.changed[mod_id] = await loading.commands.swap(mod.mod_id, config)
    _regroup(mods, old, wanted, changes)
    if mods.put_in_order(list(wanted), but=new_ones):
        changes.applied.append(ORDER)
    return changes


def differs(runs: ModConfig, config: ModConfig) -> bool:
    """Tell whether an entry asks for something else than what runs.

    A key that is given with its default value overrides the mod's mod.yaml, too, and what the mods
    of another framework may do.
    """
    asked = runs.as_asked
    if asked != config or mod_file_given(asked) != mod_file_given(config):
        return True
    return runs.host is not None and host_given(asked) != host_given(config)


def _in_place_of(mods: ModRegistry, mod_id: str) -> Mod | None:
    """Return the mod that took the place of a mod of the file in a swap."""
    swapped = ((mod.config.instead_of, mod) for mod in mods)
    return next((mod for place, mod in swapped if place is not None and place.mod_id == mod_id), None)


def _regroup(mods: ModRegistry, old: NetworkConfig, wanted: dict[str, ModConfig], changes: Changes) -> None:
    """Give the mods the audiences that the file has changed, all at once.

    The new file is compared with the old one, so an edit elsewhere does not undo an audience that
    was changed at runtime.
    """
    before = {mod.mod_id: mod.audience for mod in old.mods if mod.enabled}
    regrouped: dict[Mod, tuple[Audience | None, int]] = {}
    for mod_id, config in wanted.items():
        mod = mods.get(mod_id)
        is_changed = mod_id not in before or before[mod_id] != config.audience
        if mod is not None and is_changed and mod.audience != config.audience:
            regrouped[mod] = config.audience, mod.promoted
    if not regrouped:
        return
    mods.families.change(regrouped)
    for mod in regrouped:
        reaches = mods.families.stats_of(mod).reaches
        done = EventResponse(True, f"mod {mod.mod_id} reaches {reaches} now", {"mod_id": mod.mod_id})
        changes.changed.setdefault(mod.mod_id, done)
