"""Families: which version of a mod has which sources, and how it was before each promotion.

A *family* is all versions of one mod that are loaded side by side. Its *split* says which version
each source has. `config.audience` computes a split; this file keeps the splits of a network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ...calls import Journey
from ...config import Audience, FamilyVersion, Split, family_of, read_audience
from ...journal import Journal
from ...lifecycle import State
from ..mods.workers import Mod
from ..read_models import FamilyStats, Reach, VersionStats, latencies

logger = logging.getLogger("modvisor.families")

MAX_BEFORE = 10  # promotions that can be rolled back, one after the other


class NotInAudience(ModvisorError):
    """An event was addressed to a version that is not for its source.

    ``details``: mod, family, version (the version that the source has).
    """

    code = Code.NOT_IN_AUDIENCE


class Families:
    """Splits the sources of the network among the versions of each family.

    A version gets its share when it first serves, and keeps it while it is down, because other
    versions do not know what a source has told this one. A version that failed when the network
    started has a share too. A split stays the same until the next `arrange`.

    Args:
        changed: called after a change of audiences. It makes the routes anew and calls `arrange`.
    """

    def __init__(self, journal: Journal, changed: Callable[[], None]) -> None:
        self._journal = journal
        self._changed = changed
        self._arranged: tuple[dict[str, list[Mod]], dict[str, Split]] = {}, {}  # see `_members` and `_splits`
        self._to_arrange: tuple[Iterable[Mod], bool] | None = None
        self._before: dict[str, list[Split]] = {}  # the split before each promotion, the newest last
        self._promoted: dict[str, int] = {}  # by mod id, from the previous run
        self._counted: dict[str, dict[str, int]] = {}  # events by version, when the split was made

    # -- the splits

    def arrange(self, mods: Iterable[Mod], *, closing: bool = False) -> None:
        """Split the sources anew before they are asked about again.

        Args:
            mods: in load order.
            closing: all mods are being unloaded, so none takes over the sources of another.
        """
        self._to_arrange = mods, closing
        if any(mod.audience is not None or "@" in mod.mod_id for mod in mods):
            self._as_arranged()  # the events of each version count from now on

    @property
    def _members(self) -> dict[str, list[Mod]]:
        """The versions of each family, in load order."""
        return self._as_arranged()[0]

    @property
    def _splits(self) -> dict[str, Split]:
        """The splits of the families that are divided."""
        return self._as_arranged()[1]

    def _as_arranged(self) -> tuple[dict[str, list[Mod]], dict[str, Split]]:
        """Return members and splits. Made when they are asked for: a start changes them with each mod."""
        if self._to_arrange is not None:
            mods, closing = self._to_arrange
            self._to_arrange = None
            members: dict[str, list[Mod]] = {}
            for mod in mods:
                if mod.is_member and (closing or mod.state is not State.DRAINING):
                    members.setdefault(family_of(mod.mod_id), []).append(mod)
            splits = {
                family: self._split(family, versions)
                for family, versions in members.items()
                if len(versions) > 1 or versions[0].audience is not None
            }
            self._arranged = members, splits
        return self._arranged

    def _split(self, family: str, mods: list[Mod]) -> Split:
        versions = tuple(_version(mod) for mod in mods)
        current = self._arranged[1].get(family)
        if current is not None and current.versions == versions:
            return current
        self._counted[family] = {mod.mod_id: mod.counters.events_in for mod in mods}
        return Split(family, versions)

    @property
    def splits(self) -> Mapping[str, Split]:
        """The splits of the families that are divided, by name."""
        return self._splits

    def split_of(self, mod_id: str) -> Split | None:
        """Return how the family of a mod is split; None if its one version is for every source."""
        return self._splits.get(family_of(mod_id))

    def members(self, family: str) -> list[Mod]:
        """Return the versions of a family, in load order."""
        return self._members.get(family, [])

    def patterns_of_siblings(self, mod: Mod) -> tuple[str, ...]:
        """Return patterns for a version that failed before it told its own.

        With these the router finds it: it keeps its sources although it does not serve.
        """
        siblings = self._members.get(family_of(mod.mod_id), [])
        if mod not in siblings:
            return ()
        return tuple({pattern: None for each in siblings if each.manifest for pattern in each.manifest.patterns})

    # -- by name

    def addressed(self, name: str, named: Mod | None, journey: Journey) -> Mod | None:
        """Return the mod that ``mod:NAME`` means for the source of an event; None if there is none.

        The name of a family means the version that the source has. Any other name means one mod,
        whose audience must include the source.

        Args:
            named: the mod that the registry finds by the name (id, alias or path).

        Raises:
            NotInAudience: the mod is not for the source.
        """
        if named is None or family_of(named.mod_id) == name:
            mods = self._members.get(name, [])
            if not mods:
                return named  # the mod starts, or is being unloaded
            split = self._splits.get(name)
            version = mods[0].mod_id if split is None else journey.version_of(split)
            found = next((mod for mod in mods if mod.mod_id == version), None)
            if found is None:
                raise _not_for(mods[0], name, version, journey)
            return found
        return self._admitted(named, name, journey)

    def _admitted(self, named: Mod, name: str, journey: Journey) -> Mod:
        family = family_of(named.mod_id)
        mods = self._members.get(family, [])
        if name == named.mod_id and all(mod.audience is None and not mod.promoted for mod in [*mods, named]):
            return named  # versions side by side, without any audience
        if named not in mods:  # a mod that starts is treated as if it served
            mods = [*mods, named]
            split = Split(family, tuple(_version(mod) for mod in mods))
            version = split.pick(journey.source, journey.event.source_agent_group)
        elif (split := self._splits.get(family)) is None:
            return named
        else:
            version = journey.version_of(split)
        # Several versions may have the same path.
        same = [mod for mod in mods if mod is named or mod.config.path == name]
        found = next((mod for mod in same if mod.mod_id == version), None)
        if found is None:
            raise _not_for(named, family, version, journey)
        return found

    # -- changing

    def change(self, wanted: Mapping[Mod, tuple[Audience | None, int]]) -> None:
        """Give versions other audiences and numbers of promotion, all at once."""
        for mod, (audience, promoted) in wanted.items():
            mod.audience, mod.promoted = audience, promoted
        self._changed()

    def promotions(self, family: str) -> list[Split]:
        """Return the split before each promotion that can be rolled back, the newest last."""
        return self._before.get(family, [])

    def note_promotion(self, before: Split) -> None:
        """Remember the split before a promotion."""
        self._before[before.family] = [*self.promotions(before.family), before][-MAX_BEFORE:]

    def drop_promotion(self, family: str) -> None:
        """Drop the newest promotion from the history."""
        self._before[family] = self.promotions(family)[:-1]

    # -- what outlives the supervisor

    def restore(self, kept: Mapping[str, dict[str, Any]]) -> None:
        """Take what the journal kept. Call it before any mod is loaded."""
        for family, record in kept.items():
            try:
                self._promoted |= {str(mod_id): int(number) for mod_id, number in record["promoted"].items()}
                self._before[family] = [_from_plain(family, split) for split in record["before"]]
            except (KeyError, TypeError, ValueError, AttributeError, ModvisorError) as error:
                logger.warning("the promotions of %s cannot be read back and are dropped: %r", family, error)

    def promoted(self, mod_id: str) -> int:
        """Return the promotion number of a mod in the previous run, and forget it."""
        return self._promoted.pop(mod_id, 0)

    def forget_gone(self) -> None:
        """Drop the families of the previous run that were not loaded again."""
        self._promoted.clear()
        for family in [family for family in self._before if family not in self._members]:
            self.keep(family)

    def keep(self, family: str) -> None:
        """Put the promotions of a family into the journal. Without any, remove its record."""
        mods = self._members.get(family, [])
        if not mods:
            self._before.pop(family, None)
        promoted = {mod.mod_id: mod.promoted for mod in mods if mod.promoted}
        before = [_to_plain(split) for split in self.promotions(family)]
        self._journal.keep_family(family, {"promoted": promoted, "before": before} if promoted or before else None)

    # -- what nodes tell each other

    def to_plain(self, family: str) -> dict[str, Any]:
        """Return how a family is divided, and how it was before each promotion, as plain data."""
        mods = self._members.get(family, [])
        audiences = {mod.mod_id: None if mod.audience is None else mod.audience.to_plain() for mod in mods}
        promoted = {mod.mod_id: mod.promoted for mod in mods}
        before = [_to_plain(split) for split in self.promotions(family)]
        return {"audiences": audiences, "promoted": promoted, "before": before}

    def take(self, family: str, data: dict[str, Any], mods: Iterable[Mod]) -> bool:
        """Divide a family as another node has; return whether anything is different now.

        Raises KeyError, TypeError, ValueError, `ModvisorError` of wrong data.
        """
        audiences = {
            mod_id: None if each is None else read_audience(each) for mod_id, each in data["audiences"].items()
        }
        wanted = {
            mod: (audiences[mod.mod_id], int(data["promoted"][mod.mod_id])) for mod in mods if mod.mod_id in audiences
        }
        self._before[family] = [_from_plain(family, split) for split in data["before"]]
        if all((mod.audience, mod.promoted) == each for mod, each in wanted.items()):
            return False
        self.change(wanted)
        return True

    # -- stats

    def stats_of(self, mod: Mod) -> Reach:
        """Return whose events a mod gets."""
        family = family_of(mod.mod_id)
        split = self._splits.get(family)
        if split is None:
            reaches = "everyone" if mod.audience is None else str(mod.audience)
        else:
            reaches = split.reaches(mod.mod_id) if mod in self._members[family] else "nobody"
        audience = None if mod.audience is None else mod.audience.to_plain()
        return Reach(family, audience, reaches, self._share(family, mod))

    def stats(self) -> dict[str, FamilyStats]:
        """Return the families that are divided, by name."""
        return {family: self.describe(family) for family in self._splits}

    def describe(self, family: str) -> FamilyStats:
        """Return the versions of a family, side by side."""
        mods, split = self._members.get(family, []), self._splits.get(family)
        default = split.default if split is not None else next((mod.mod_id for mod in mods), None)
        versions = tuple(self._version_stats(mod) for mod in mods)
        return FamilyStats(family, default, len(self.promotions(family)), versions)

    def _version_stats(self, mod: Mod) -> VersionStats:
        counters, reach = mod.counters, self.stats_of(mod)
        p50, p99 = latencies(counters.latency)
        return VersionStats(
            mod_id=mod.mod_id,
            version=mod.manifest.version if mod.manifest is not None else None,
            state=str(mod.state),
            family=reach.family,
            audience=reach.audience,
            reaches=reach.reaches,
            share=reach.share,
            events_in=counters.events_in,
            failed=counters.failed,
            latency_p50_ms=p50,
            latency_p99_ms=p99,
        )

    def _share(self, family: str, mod: Mod) -> float | None:
        if family not in self._splits:
            return None
        events = {each: self._events_since(family, each) for each in self._members[family]}
        total = sum(events.values())
        return round(events.get(mod, 0) / total, 4) if total else None

    def _events_since(self, family: str, mod: Mod) -> int:
        before, now = self._counted[family].get(mod.mod_id, 0), mod.counters.events_in
        return now - before if now >= before else now  # a mod that was loaded anew counts from 0


def _version(mod: Mod) -> FamilyVersion:
    return FamilyVersion(mod.mod_id, mod.audience, mod.promoted)


def _not_for(mod: Mod, family: str, version: str | None, journey: Journey) -> NotInAudience:
    whom = "nobody" if mod.audience is None else str(mod.audience)
    has = f"has version {version}, which mod:{family} goes to" if version else f"has no version of {family}"
    text = f"mod {mod.mod_id} is not for {journey.source}, its audience is {whom}; {journey.source} {has}"
    return NotInAudience(text, mod=mod.mod_id, family=family, version=version)


def _to_plain(split: Split) -> list[dict[str, Any]]:
    return [
        {"mod_id": mod_id, "audience": None if audience is None else audience.to_plain(), "promoted": promoted}
        for mod_id, audience, promoted in split.versions
    ]


def _from_plain(family: str, versions: list[dict[str, Any]]) -> Split:
    """Read a split back. Wrong data raises KeyError, TypeError, ValueError or `ModvisorError`."""
    return Split(
        family,
        tuple(
            FamilyVersion(
                str(each["mod_id"]),
                None if each["audience"] is None else read_audience(each["audience"]),
                int(each["promoted"]),
            )
            for each in versions
        ),
    )
