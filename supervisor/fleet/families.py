"""The loaded mods as families: which version has which sources, by name too, and what was before the promotions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...ipc.errors import Code, ModvisorError
from ..calls import Journey
from ..config import Audience, FamilyVersion, Split, family_of, read_audience
from ..journal import Journal
from ..lifecycle import State
from .workers import Mod

logger = logging.getLogger("modvisor.families")

MAX_BEFORE = 10  # promotions that can be taken back, one after the other


class NotInAudience(ModvisorError):
    """An event was addressed to a version that is not for its source. ``details``: mod, family, version (the one it has)."""

    code = Code.NOT_IN_AUDIENCE


class Families:
    """Splits the sources of the network among the versions of each family; one split is good until the next `arrange`.

    A version has its part from when it first serves, and keeps it while it is down: what a source has told one version, the
    other does not know. One that failed when the network started has its part too.

    Args:
        changed: called after a change of audiences, to have the routes made anew (and `arrange` called).
    """

    def __init__(self, journal: Journal, changed: Callable[[], None]) -> None:
        self._journal = journal
        self._changed = changed
        self._members: dict[str, list[Mod]] = {}
        self._splits: dict[str, Split] = {}
        self._before: dict[str, list[Split]] = {}  # what each promotion changed, the newest last
        self._promoted: dict[str, int] = {}  # by mod id, from the former run
        self._counted: dict[str, dict[str, int]] = {}  # events by version, when the split was made

    # -- the splits

    def arrange(self, keepers: Iterable[Mod], *, closing: bool = False) -> None:
        """Make the splits anew, of the mods in load order.

        Args:
            closing: all mods are being unloaded: none takes over what another leaves.
        """
        members: dict[str, list[Mod]] = {}
        for keeper in keepers:
            if keeper.belongs and (closing or keeper.state is not State.DRAINING):
                members.setdefault(family_of(keeper.mod_id), []).append(keeper)
        self._members = members
        self._splits = {
            family: self._split(family, versions)
            for family, versions in members.items()
            if len(versions) > 1 or versions[0].audience is not None
        }

    def _split(self, family: str, keepers: list[Mod]) -> Split:
        versions = tuple(_version(keeper) for keeper in keepers)
        former = self._splits.get(family)
        if former is not None and former.versions == versions:
            return former
        self._counted[family] = {keeper.mod_id: keeper.counters.events_in for keeper in keepers}
        return Split(family, versions)

    def split_of(self, mod_id: str) -> Split | None:
        """How the family of a mod is divided; None: whatever there is of it is for everybody."""
        return self._splits.get(family_of(mod_id))

    def members(self, family: str) -> list[Mod]:
        """Its versions in load order."""
        return self._members.get(family, [])

    def stand_in(self, keeper: Mod) -> tuple[str, ...]:
        """The patterns of a version that never came to tell its own: those of its siblings. It has its sources all the same."""
        siblings = self._members.get(family_of(keeper.mod_id), [])
        if keeper not in siblings:
            return ()
        return tuple({pattern: None for each in siblings if each.manifest for pattern in each.manifest.patterns})

    # -- by name

    def addressed(self, name: str, named: Mod | None, journey: Journey) -> Mod | None:
        """The mod that ``mod:NAME`` means for the source of an event; None if there is none.

        The name of a family means the version that the source has; anything else, that mod, if its audience has the source.

        Args:
            named: what the registry knows by that name (id, alias or path).

        Raises:
            NotInAudience: it is not for that source.
        """
        if named is None or family_of(named.mod_id) == name:
            keepers = self._members.get(name, [])
            if not keepers:
                return named  # it starts, or is being unloaded
            split = self._splits.get(name)
            version = keepers[0].mod_id if split is None else journey.version_of(split)
            found = next((keeper for keeper in keepers if keeper.mod_id == version), None)
            if found is None:
                raise _not_for(keepers[0], name, version, journey)
            return found
        return self._admitted(named, name, journey)

    def _admitted(self, named: Mod, name: str, journey: Journey) -> Mod:
        family = family_of(named.mod_id)
        keepers = self._members.get(family, [])
        if name == named.mod_id and all(
            keeper.audience is None and not keeper.promoted for keeper in [*keepers, named]
        ):
            return named  # versions side by side, and nobody has said whose they are
        if named not in keepers:  # it starts: as if it served already
            keepers = [*keepers, named]
            split = Split(family, tuple(_version(keeper) for keeper in keepers))
            version = split.pick(journey.source, journey.event.source_agent_group)
        elif (split := self._splits.get(family)) is None:
            return named
        else:
            version = journey.version_of(split)
        # A path may be that of several versions.
        same = [keeper for keeper in keepers if keeper is named or keeper.config.path == name]
        found = next((keeper for keeper in same if keeper.mod_id == version), None)
        if found is None:
            raise _not_for(named, family, version, journey)
        return found

    # -- changing

    def change(self, wanted: Mapping[Mod, tuple[Audience | None, int]]) -> None:
        """Give versions other audiences and numbers of promotion, all in one moment."""
        for keeper, (audience, promoted) in wanted.items():
            keeper.audience, keeper.promoted = audience, promoted
        self._changed()

    def promotions(self, family: str) -> list[Split]:
        """What was before each promotion that can be taken back, the newest last."""
        return self._before.get(family, [])

    def note_promotion(self, before: Split) -> None:
        self._before[before.family] = [*self.promotions(before.family), before][-MAX_BEFORE:]

    def take_back(self, family: str) -> None:
        """The newest promotion is as if it had not been."""
        self._before[family] = self.promotions(family)[:-1]

    # -- what outlives the supervisor

    def restore(self, kept: Mapping[str, dict[str, Any]]) -> None:
        """What the journal kept, before any mod is loaded."""
        for family, record in kept.items():
            try:
                self._promoted |= {str(mod_id): int(number) for mod_id, number in record["promoted"].items()}
                self._before[family] = [_from_plain(family, split) for split in record["before"]]
            except (KeyError, TypeError, ValueError, AttributeError, ModvisorError) as error:
                logger.warning("the promotions of %s cannot be read back, and are forgotten: %r", family, error)

    def promoted(self, mod_id: str) -> int:
        """The number that a mod had in the former run; it is asked for once."""
        return self._promoted.pop(mod_id, 0)

    def settle(self) -> None:
        """What was loaded in the former run has been loaded again: nothing is kept of families that are gone."""
        self._promoted.clear()
        for family in [family for family in self._before if family not in self._members]:
            self.keep(family)

    def keep(self, family: str) -> None:
        """Put the promotions of a family into the journal, or out of it when there are none (any more)."""
        keepers = self._members.get(family, [])
        if not keepers:
            self._before.pop(family, None)
        promoted = {keeper.mod_id: keeper.promoted for keeper in keepers if keeper.promoted}
        before = [_to_plain(split) for split in self.promotions(family)]
        self._journal.keep_family(family, {"promoted": promoted, "before": before} if promoted or before else None)

    # -- stats

    def stats_of(self, keeper: Mod) -> dict[str, Any]:
        """family; audience, as the network file has it, or None; reaches, in words; share of the family's events since its
        audiences last changed (0 to 1), None if there were none."""
        family = family_of(keeper.mod_id)
        split = self._splits.get(family)
        if split is None:
            reaches = "everyone" if keeper.audience is None else str(keeper.audience)
        else:
            reaches = split.reaches(keeper.mod_id) if keeper in self._members[family] else "nobody"
        return {
            "family": family,
            "audience": None if keeper.audience is None else keeper.audience.to_plain(),
            "reaches": reaches,
            "share": self._share(family, keeper),
        }

    def stats(self) -> dict[str, dict[str, Any]]:
        """The families that are divided, by name; see `describe`."""
        return {family: self.describe(family) for family in self._splits}

    def describe(self, family: str) -> dict[str, Any]:
        """family, default (a mod id, or None), promotions (that can be taken back), and its versions side by side."""
        keepers, split = self._members.get(family, []), self._splits.get(family)
        default = split.default if split is not None else next((keeper.mod_id for keeper in keepers), None)
        return {
            "family": family,
            "default": default,
            "promotions": len(self.promotions(family)),
            "versions": [self._version_stats(keeper) for keeper in keepers],
        }

    def _version_stats(self, keeper: Mod) -> dict[str, Any]:
        counters = keeper.counters
        p50, p99 = counters.latency.quantile(0.5), counters.latency.quantile(0.99)
        return {
            "mod_id": keeper.mod_id,
            "version": keeper.manifest.version if keeper.manifest is not None else None,
            "state": str(keeper.state),
            **self.stats_of(keeper),
            "events_in": counters.events_in,
            "failed": counters.failed,
            "latency_p50_ms": None if p50 is None else round(p50 * 1000, 3),
            "latency_p99_ms": None if p99 is None else round(p99 * 1000, 3),
        }

    def _share(self, family: str, keeper: Mod) -> float | None:
        if family not in self._splits:
            return None
        events = {each: self._events_since(family, each) for each in self._members[family]}
        total = sum(events.values())
        return round(events.get(keeper, 0) / total, 4) if total else None

    def _events_since(self, family: str, keeper: Mod) -> int:
        before, now = self._counted[family].get(keeper.mod_id, 0), keeper.counters.events_in
        return now - before if now >= before else now  # its counts began anew


def _version(keeper: Mod) -> FamilyVersion:
    return FamilyVersion(keeper.mod_id, keeper.audience, keeper.promoted)


def _not_for(keeper: Mod, family: str, version: str | None, journey: Journey) -> NotInAudience:
    whom = "nobody" if keeper.audience is None else str(keeper.audience)
    has = f"has version {version}, which mod:{family} goes to" if version else f"has no version of {family}"
    text = f"mod {keeper.mod_id} is not for {journey.source}, its audience is {whom}; {journey.source} {has}"
    return NotInAudience(text, mod=keeper.mod_id, family=family, version=version)


def _to_plain(split: Split) -> list[dict[str, Any]]:
    return [
        {"mod_id": mod_id, "audience": None if audience is None else audience.to_plain(), "promoted": promoted}
        for mod_id, audience, promoted in split.versions
    ]


def _from_plain(family: str, versions: list[dict[str, Any]]) -> Split:
    """Raises what wrong data raises."""
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
