"""Audiences changed while the network runs: set, promote and roll back, as commands that answer.

These commands change which version has which sources. They start, reload and end nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import Audience, ConfigError, NetworkConfig, Split, family_of, read_audience, shares_over_100
from ...journal import JournalError
from ...lifecycle import State
from ..mods.workers import Mod
from ..registry.registry import ModRegistry
from .restored import ModRecords


class Audiences:
    """The commands on the families of a network.

    Args:
        config: returns the network file in force.
    """

    def __init__(self, mods: ModRegistry, records: ModRecords, config: Callable[[], NetworkConfig]) -> None:
        self._mods = mods
        self._records = records
        self._families = mods.families
        self._config = config

    def show(self, name: str) -> EventResponse:
        """Show the family of a mod (by family, id or path). ``data``: see `FamilyStats`."""
        family = self._family(name)
        if isinstance(family, EventResponse):
            return family
        data = self._families.describe(family)
        default = data.default
        text = f"the default version of {family} is {default}" if default else f"{family} has no default version"
        return EventResponse(True, text, data.to_dict())

    async def set_audience(
        self, name: str, *, percent: Any = None, groups: Any = None, agents: Any = None, everyone: bool = False
    ) -> EventResponse:
        """Change whose events a version gets, from the next event on.

        Args:
            percent, groups, agents: None stays as it is.
            everyone: take the audience away instead.
        """
        mod = self._mods.named(name)
        if isinstance(mod, EventResponse):
            return mod
        given = {"percent": percent, "groups": groups, "agents": agents}
        given = {key: value for key, value in given.items() if value is not None}
        if bool(given) == everyone:
            text = "say whose events it gets: percent, groups and agents, or else everyone"
            return EventResponse.failure(Code.BAD_INPUT, f"mod {mod.mod_id}: {text}", mod_id=mod.mod_id)
        try:
            wanted = None if everyone else self._merged(mod, given)
        except ModvisorError as error:
            return EventResponse.failure(error.code, f"mod {mod.mod_id}: {error}", mod_id=mod.mod_id)
        before = self._reaches(mod)
        if (refusal := await self._change({mod: (wanted, mod.promoted)})) is not None:
            return refusal
        now = self._reaches(mod)
        text = f"mod {mod.mod_id} reaches {now} now" + (f", before: {before}" if before != now else "")
        text += self._way_to_events(mod) + self._file_rules([mod])
        return EventResponse(True, text, self._data(mod))

    async def promote(self, name: str) -> EventResponse:
        """Give a version the events of every source, at once.

        Its siblings stay loaded without events, so that a rollback finds them.
        """
        mod = self._mods.named(name)
        if isinstance(mod, EventResponse):
            return mod
        family = family_of(mod.mod_id)
        members, before = self._families.members(family), self._families.split_of(mod.mod_id)
        if mod not in members or mod.state is not State.READY:
            return self._not_ready(mod, f"mod {mod.mod_id} was not promoted")
        if before is None or (before.default == mod.mod_id and all(each.audience is None for each in members)):
            text = f"mod {mod.mod_id} has the events of everybody already"
            return EventResponse(True, text, self._data(mod))
        newest = 1 + max(each.promoted for each in members)
        self._families.note_promotion(before)
        wanted: dict[Mod, tuple[Audience | None, int]] = {
            each: (None, newest if each is mod else each.promoted) for each in members
        }
        if (refusal := await self._change(wanted)) is not None:
            self._families.drop_promotion(family)
            return refusal
        siblings = ", ".join(each.mod_id for each in members if each is not mod)
        text = f"mod {mod.mod_id} is the version of {family} for everybody now"
        if siblings:
            text += f"; {siblings} stays loaded without events ('modvisor rollback {family}' goes back)"
        text += self._file_rules(members)
        return EventResponse(True, text, self._data(mod))

    async def rollback(self, name: str) -> EventResponse:
        """Split a family (by its name, or a mod's id or path) as before its last promotion."""
        family = self._family(name)
        if isinstance(family, EventResponse):
            return family
        promotions = self._families.promotions(family)
        if not promotions:
            text = f"no version of {family} was promoted, so there is nothing to go back to"
            return EventResponse.failure(Code.CONFLICT, text, family=family)
        before = promotions[-1]
        if (refusal := self._cannot_roll_back(family, before)) is not None:
            return refusal
        members = self._families.members(family)
        self._families.drop_promotion(family)
        if (refusal := await self._change(_as_before(before, members))) is not None:
            self._families.note_promotion(before)
            return refusal
        text = f"{family} is divided as before its last promotion: " + ", ".join(
            f"{each.mod_id} reaches {self._reaches(each)}" for each in members
        )
        text += self._file_rules(members)
        return EventResponse(True, text, self._families.describe(family).to_dict())

    # -- inside

    def _merged(self, mod: Mod, given: dict[str, Any]) -> Audience:
        """Return the audience of a version with changes; raises `ModvisorError`."""
        current = mod.audience.to_plain() if mod.audience is not None else {}
        wanted = read_audience({**current, **given})
        if (wrong := self._mods.misfit(mod.mod_id, wanted)) is not None:
            raise ModvisorError(wrong, code=ConfigError.code)
        return wanted

    def _cannot_roll_back(self, family: str, before: Split) -> EventResponse | None:
        """Return why a family cannot be split as before; None if it can."""
        members = {mod.mod_id: mod for mod in self._families.members(family)}
        what = f"{family} was not rolled back"
        if before.default is not None and before.default not in members:
            text = f"{what}: mod {before.default}, which its events would go to, is not loaded; load it first"
            return EventResponse.failure(Code.CONFLICT, text, family=family)
        if before.default is not None and members[before.default].state is not State.READY:
            return self._not_ready(members[before.default], what)
        wanted = {mod.mod_id: audience for mod, (audience, _) in _as_before(before, [*members.values()]).items()}
        if (text := shares_over_100(family, wanted)) is not None:
            return EventResponse.failure(Code.CONFLICT, f"{what}: {text}; lower one of them first", family=family)
        return None

    def _family(self, name: str) -> str | EventResponse:
        """Return the family that a name means. A path means one if all its mods are versions of one mod."""
        if len(families := {family_of(mod.mod_id) for mod in self._mods.of_path(name)}) == 1:
            return families.pop()
        mod = self._mods.named(name)
        if not isinstance(mod, EventResponse):
            return family_of(mod.mod_id)
        return name if self._families.members(name) else mod

    def _reaches(self, mod: Mod) -> str:
        return self._families.stats_of(mod).reaches

    def _way_to_events(self, mod: Mod) -> str:
        """Explain why a version without an audience gets no events, or why no version does."""
        split = self._families.split_of(mod.mod_id)
        if split is None or split.default == mod.mod_id:
            return ""
        if split.default is None and len(split.versions) > 1:
            return f"; a source that is in no audience has no version of {split.family}"
        if mod.audience is None:
            return f"; it stands behind {split.default}, 'modvisor promote {mod.mod_id}' changes that"
        return ""

    def _file_rules(self, mods: list[Mod]) -> str:
        """Say where the network file differs, because it rules at the next start."""
        entries = {entry.mod_id: entry.audience for entry in self._config().mods if entry.enabled}
        other = [
            f"{mod.mod_id} reaches {'everyone' if entry is None else entry}"
            for mod in mods
            if mod.mod_id in entries and (entry := entries[mod.mod_id]) != mod.audience
        ]
        return f". The network file rules at its next start, and says: {', '.join(other)}" if other else ""

    async def _change(self, wanted: dict[Mod, tuple[Audience | None, int]]) -> EventResponse | None:
        """Divide a family in another way, and keep that on disk.

        Returns:
            a refusal, if it cannot be kept; then all is as before.
        """
        before = {mod: (mod.audience, mod.promoted) for mod in wanted}
        self._families.change(wanted)
        try:
            await self._records.remember_families(list(wanted))
        except JournalError as error:
            self._families.change(before)
            mod = next(iter(wanted))
            text = f"the audiences of {family_of(mod.mod_id)} stay as they are: {error}"
            return EventResponse.failure(error.code, text, mod_id=mod.mod_id)
        return None

    def _data(self, mod: Mod) -> dict[str, Any]:
        return {"mod_id": mod.mod_id, **self._families.describe(family_of(mod.mod_id)).to_dict()}

    def _not_ready(self, mod: Mod, what: str) -> EventResponse:
        mod_id = mod.mod_id
        text = f"{what}: mod {mod_id} is {mod.state} and could not take the events; 'modvisor restart {mod_id}' first"
        return EventResponse.failure(Code.CONFLICT, text, mod_id=mod_id)


def _as_before(before: Split, members: list[Mod]) -> dict[Mod, tuple[Audience | None, int]]:
    """Return the audiences and promotion numbers that restore a split.

    Versions that were loaded since keep theirs, and do not become the default.
    """
    versions = {version.mod_id: version for version in before.versions}
    wanted = {
        mod: (versions[mod.mod_id].audience, versions[mod.mod_id].promoted)
        if mod.mod_id in versions
        else (mod.audience, mod.promoted)
        for mod in members
    }
    newcomers = [mod for mod in members if mod.mod_id not in versions]
    if newcomers:
        newest = 1 + max(promoted for _, promoted in wanted.values())
        for mod in members:
            if mod.mod_id == before.default:
                wanted[mod] = wanted[mod][0], newest
    return wanted
