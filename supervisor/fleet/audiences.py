"""Who gets which version, changed while the network runs: audiences, promotion and the way back, as commands that answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import EventResponse
from ..config import Audience, ConfigError, NetworkConfig, Split, family_of, read_audience, shares_over_100
from ..lifecycle import State
from .registry import ModRegistry
from .workers import Mod


class Audiences:
    """The commands on the families of a network. Nothing is started, reloaded or ended by them.

    Args:
        config: the network file in force.
    """

    def __init__(self, mods: ModRegistry, config: Callable[[], NetworkConfig]) -> None:
        self._mods = mods
        self._families = mods.families
        self._config = config

    def show(self, mod: str) -> EventResponse:
        """``data``: of the family of a mod (by family, id or path), what `Families.describe` says."""
        family = self._family(mod)
        if family is None:
            return self._no_such_mod(mod)
        data = self._families.describe(family)
        default = data["default"]
        text = f"the default version of {family} is {default}" if default else f"{family} has no default version"
        return EventResponse(True, text, data)

    async def set_audience(
        self, mod: str, *, percent: Any = None, groups: Any = None, agents: Any = None, everyone: bool = False
    ) -> EventResponse:
        """Change whose events a version gets, from the next event on; what is None stays as it is.

        Args:
            everyone: take its audience away, instead.
        """
        keeper = self._mods.find(mod)
        if keeper is None:
            return self._no_such_mod(mod)
        given = {"percent": percent, "groups": groups, "agents": agents}
        given = {key: value for key, value in given.items() if value is not None}
        if bool(given) == everyone:
            text = "say whose events it is to get: percent, groups and agents, or else everyone"
            return EventResponse.failure(Code.BAD_INPUT, f"mod {keeper.mod_id}: {text}", mod_id=keeper.mod_id)
        try:
            wanted = None if everyone else self._merged(keeper, given)
        except ModvisorError as error:
            return EventResponse.failure(error.code, f"mod {keeper.mod_id}: {error}", mod_id=keeper.mod_id)
        former = self._reaches(keeper)
        self._families.change({keeper: (wanted, keeper.promoted)})
        now = self._reaches(keeper)
        text = f"mod {keeper.mod_id} reaches {now} now" + (f", before: {former}" if former != now else "")
        text += self._way_to_events(keeper) + self._file_rules([keeper])
        await self._remember([keeper])
        return EventResponse(True, text, self._data(keeper))

    async def promote(self, mod: str) -> EventResponse:
        """Make a version that of everybody, in one moment. Its siblings stay loaded, without events, for the way back."""
        keeper = self._mods.find(mod)
        if keeper is None:
            return self._no_such_mod(mod)
        family = family_of(keeper.mod_id)
        members, before = self._families.members(family), self._families.split_of(keeper.mod_id)
        if keeper not in members or keeper.state is not State.READY:
            return self._not_ready(keeper, f"mod {keeper.mod_id} was not promoted")
        if before is None or (before.default == keeper.mod_id and all(each.audience is None for each in members)):
            text = f"mod {keeper.mod_id} has the events of everybody already"
            return EventResponse(True, text, self._data(keeper))
        newest = 1 + max(each.promoted for each in members)
        self._families.note_promotion(before)
        self._families.change({each: (None, newest if each is keeper else each.promoted) for each in members})
        siblings = ", ".join(each.mod_id for each in members if each is not keeper)
        text = f"mod {keeper.mod_id} is the version of {family} for everybody now"
        if siblings:
            text += f"; {siblings} stays loaded without events ('modvisor rollback {family}' goes back)"
        text += self._file_rules(members)
        await self._remember(members)
        return EventResponse(True, text, self._data(keeper))

    async def rollback(self, mod: str) -> EventResponse:
        """Divide a family (by its name, or a mod's id or path) as it was before its last promotion."""
        family = self._family(mod)
        if family is None:
            return self._no_such_mod(mod)
        promotions = self._families.promotions(family)
        if not promotions:
            text = f"no version of {family} was promoted, so there is nothing to go back to"
            return EventResponse.failure(Code.CONFLICT, text, family=family)
        before = promotions[-1]
        if (refusal := self._no_way_back(family, before)) is not None:
            return refusal
        members = self._families.members(family)
        self._families.take_back(family)
        self._families.change(_as_before(before, members))
        text = f"{family} is divided as before its last promotion: " + ", ".join(
            f"{each.mod_id} reaches {self._reaches(each)}" for each in members
        )
        text += self._file_rules(members)
        await self._remember(members)
        return EventResponse(True, text, self._families.describe(family))

    # -- within

    def _merged(self, keeper: Mod, given: dict[str, Any]) -> Audience:
        """The audience of a version with changes; raises `ModvisorError`."""
        present = keeper.audience.to_plain() if keeper.audience is not None else {}
        wanted = read_audience({**present, **given})
        if (wrong := self._mods.misfit(keeper.mod_id, wanted)) is not None:
            raise ModvisorError(wrong, code=ConfigError.code)
        return wanted

    def _no_way_back(self, family: str, before: Split) -> EventResponse | None:
        """Why it cannot be as before a promotion; None if it can."""
        members = {keeper.mod_id: keeper for keeper in self._families.members(family)}
        what = f"{family} was not rolled back"
        if before.default is not None and before.default not in members:
            text = f"{what}: mod {before.default}, which its events would go to, is not loaded; load it first"
            return EventResponse.failure(Code.CONFLICT, text, family=family)
        if before.default is not None and members[before.default].state is not State.READY:
            return self._not_ready(members[before.default], what)
        wanted = {keeper.mod_id: audience for keeper, (audience, _) in _as_before(before, [*members.values()]).items()}
        if (text := shares_over_100(family, wanted)) is not None:
            return EventResponse.failure(Code.CONFLICT, f"{what}: {text}; lower one of them first", family=family)
        return None

    def _family(self, name: str) -> str | None:
        keeper = self._mods.find(name)
        if keeper is not None:
            return family_of(keeper.mod_id)
        return name if self._families.members(name) else None

    def _reaches(self, keeper: Mod) -> str:
        return self._families.stats_of(keeper)["reaches"]

    def _way_to_events(self, keeper: Mod) -> str:
        """Of one that is for everybody, and yet not the version of anybody; and of sources that have no version now."""
        split = self._families.split_of(keeper.mod_id)
        if split is None or split.default == keeper.mod_id:
            return ""
        if split.default is None and len(split.versions) > 1:
            return f"; whoever is in no audience has no version of {split.family}"
        if keeper.audience is None:
            return f"; it stands behind {split.default}, 'modvisor promote {keeper.mod_id}' changes that"
        return ""

    def _file_rules(self, keepers: list[Mod]) -> str:
        """A remark on what the network file says otherwise."""
        entries = {mod.mod_id: mod.audience for mod in self._config().mods if mod.enabled}
        other = [
            f"{keeper.mod_id} reaches {'everyone' if entry is None else entry}"
            for keeper in keepers
            if keeper.mod_id in entries and (entry := entries[keeper.mod_id]) != keeper.audience
        ]
        return f". The network file rules at its next start, and says: {', '.join(other)}" if other else ""

    async def _remember(self, keepers: list[Mod]) -> None:
        for family in {family_of(keeper.mod_id) for keeper in keepers}:
            self._families.keep(family)
        for keeper in keepers:  # one that is being loaded is remembered when it is
            if self._mods.find(keeper.mod_id) is keeper and keeper.belongs:
                await self._mods.remember(keeper)

    def _data(self, keeper: Mod) -> dict[str, Any]:
        return {"mod_id": keeper.mod_id, **self._families.describe(family_of(keeper.mod_id))}

    def _not_ready(self, keeper: Mod, what: str) -> EventResponse:
        mod_id = keeper.mod_id
        text = (
            f"{what}: mod {mod_id} is {keeper.state} and could not take the events; 'modvisor restart {mod_id}' first"
        )
        return EventResponse.failure(Code.CONFLICT, text, mod_id=mod_id)

    def _no_such_mod(self, name: str) -> EventResponse:
        loaded = ", ".join(keeper.mod_id for keeper in self._mods) or "none"
        return EventResponse.failure(Code.NO_SUCH_MOD, f"no mod {name!r} is loaded (loaded: {loaded})", mod=name)


def _as_before(before: Split, members: list[Mod]) -> dict[Mod, tuple[Audience | None, int]]:
    """What makes it so: versions that have come since keep what they have, and do not become the default."""
    former = {version.mod_id: version for version in before.versions}
    wanted = {
        keeper: (former[keeper.mod_id].audience, former[keeper.mod_id].promoted)
        if keeper.mod_id in former
        else (keeper.audience, keeper.promoted)
        for keeper in members
    }
    newcomers = [keeper for keeper in members if keeper.mod_id not in former]
    if newcomers:
        newest = 1 + max(promoted for _, promoted in wanted.values())
        for keeper in members:
            if keeper.mod_id == before.default:
                wanted[keeper] = wanted[keeper][0], newest
    return wanted
