"""Resolves requirements: which mods to load for others, in which versions and in which order. Pure.

Loaded mods stay as they are: a requirement is met if any loaded version meets it. For the other
requirements `resolvelib` chooses one version of each available mod, and goes back on a choice that
leads nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver

from ...ipc.errors import Code, ModvisorError
from ..config import Requirement, versions_in_order

MAX_ROUNDS = 2_000
"""Steps of the search; nobody would understand the answer to a longer one."""


class Unmet(ModvisorError):
    """Requirements that cannot be met together.

    The message says who wants what, and what is available.
    """

    code = Code.UNMET_REQUIREMENT


@dataclass(frozen=True, slots=True)
class Present:
    """A mod that is loaded or planned, so that its version cannot be chosen any more.

    Attributes:
        names: the names by which others may require it: its id, its aliases, the last part of its
            path.
        requires, optional: the requirements of a planned mod; a loaded mod has what it needs.
    """

    mod_id: str
    names: frozenset[str]
    version: str | None
    requires: tuple[Requirement, ...] = ()
    optional: tuple[Requirement, ...] = ()

    def meets(self, requirement: Requirement) -> bool:
        """Tell whether the mod has the required name and an accepted version."""
        return requirement.name in self.names and requirement.allows(self.version)


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of a mod that could be loaded.

    Attributes:
        source: what the caller needs to load it.
    """

    name: str
    version: str | None
    requires: tuple[Requirement, ...] = ()
    source: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """The mods to load.

    Attributes:
        order: the ids of the mods, each after its requirements; the id of an offer is its name.
        offers: the mods of ``order`` that are loaded only for the others, by name.
        after: for each mod of ``order``, the mods of ``order`` that must be loaded before it.
    """

    order: tuple[str, ...]
    offers: Mapping[str, Offer]
    after: Mapping[str, frozenset[str]]


def supplier(requirement: Requirement, present: Iterable[Present]) -> Present | None:
    """Return the mod that meets a requirement: the one with the required id, else the first one."""
    found = [mod for mod in present if mod.meets(requirement)]
    return next((mod for mod in found if mod.mod_id == requirement.name), found[0] if found else None)


def plan(wanted: Sequence[Present], present: Sequence[Present], offers: Mapping[str, Sequence[Offer]]) -> Plan:
    """Plan what to load so that all of ``wanted`` have what they require.

    Args:
        present: the mods that are loaded or being loaded; may include ``wanted``.
        offers: the available versions by name, preferred ones first.

    Raises:
        Unmet: gives the reason, for people.
    """
    there = [*wanted, *(mod for mod in present if mod not in wanted)]
    chosen = _chosen(wanted, there, offers)
    after = {mod.mod_id: _befores(mod.requires, wanted, there, chosen) - {mod.mod_id} for mod in wanted}
    after |= {name: _befores(offer.requires, wanted, there, chosen) for name, offer in chosen.items()}
    for mod in wanted:
        for requirement in mod.optional:
            first = supplier(requirement, there)
            if (
                first is not None
                and first in wanted
                and first is not mod
                and not _leads(after, first.mod_id, mod.mod_id)
            ):
                after[mod.mod_id] |= {first.mod_id}
    try:
        order = tuple(TopologicalSorter(after).static_order())
    except CycleError as error:
        raise in_a_circle(list(reversed(error.args[1]))) from None
    return Plan(order, chosen, {name: frozenset(first) for name, first in after.items()})


def circle_of(mod_id: str, requires: Iterable[Requirement], present: Sequence[Present]) -> list[str] | None:
    """Return the circle in which a mod with these requirements would require itself, or None."""
    waiting, seen = [([mod_id], tuple(requires))], {mod_id}
    while waiting:
        way, wants = waiting.pop()
        for each in wants:
            met = supplier(each, present)
            if met is not None and met.mod_id == mod_id and len(way) > 1:
                return [*way, mod_id]
            if met is not None and met.mod_id not in seen:
                seen.add(met.mod_id)
                waiting.append(([*way, met.mod_id], met.requires))
    return None


def in_a_circle(circle: list[str]) -> Unmet:
    """Make the error for a circle of mods, which names its first mod again at the end."""
    return Unmet(
        f"mods require each other in a circle: {' requires '.join(circle)}; "
        "remove one of these requirements, or make it 'optional'",
        cycle=circle[:-1],
    )


def _befores(
    requires: Iterable[Requirement], wanted: Sequence[Present], there: Sequence[Present], chosen: Mapping[str, Offer]
) -> frozenset[str]:
    """Return the planned mods that satisfy these requirements."""
    found = set()
    for requirement in requires:
        met = supplier(requirement, there)
        if met is None and requirement.name in chosen:
            found.add(requirement.name)
        elif met in wanted and met is not None:
            found.add(met.mod_id)
    return frozenset(found)


def _leads(after: Mapping[str, frozenset[str]], start: str, goal: str) -> bool:
    """Tell whether ``start`` is loaded after ``goal``, directly or through other mods."""
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            waiting.extend(after.get(name, ()))
    return False


# -- choosing


class _Demand(NamedTuple):
    by: str
    requirement: Requirement


def _chosen(
    wanted: Sequence[Present], there: Sequence[Present], offers: Mapping[str, Sequence[Offer]]
) -> Mapping[str, Offer]:
    demands = [demand for mod in wanted for demand in _open(mod.mod_id, mod.requires, there)]
    if not demands:
        return {}
    resolver = Resolver(_Provider(there, offers), BaseReporter())
    try:
        return resolver.resolve(demands, max_rounds=MAX_ROUNDS).mapping
    except ResolutionImpossible as error:
        raise _impossible([cause.requirement for cause in error.causes], there, offers) from None
    except ResolutionTooDeep:
        raise Unmet(
            f"found no fitting versions in {MAX_ROUNDS} steps; first load some of the required mods in the versions you want"
        ) from None


def _open(by: str, requires: Iterable[Requirement], there: Sequence[Present]) -> list[_Demand]:
    """Return the requirements that no loaded or planned mod meets."""
    return [_Demand(by, requirement) for requirement in requires if supplier(requirement, there) is None]


class _Provider(AbstractProvider):
    """Tells resolvelib what is available.

    Its identifiers are names, its requirements are demands, and its candidates are offers.
    """

    def __init__(self, there: Sequence[Present], offers: Mapping[str, Sequence[Offer]]) -> None:
        self._there = there
        self._offers = offers
        self._taken = frozenset(name for mod in there for name in mod.names)

    def identify(self, requirement_or_candidate: _Demand | Offer) -> str:
        if isinstance(requirement_or_candidate, Offer):
            return requirement_or_candidate.name
        return requirement_or_candidate.requirement.name

    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, Offer],
        candidates: Mapping[str, Iterator[Offer]],
        information: Mapping[str, Iterator[Any]],
        backtrack_causes: Sequence[Any],
    ) -> Any:
        """Prefer names with few offers, which show dead ends early; break ties by name."""
        return sum(1 for _ in candidates[identifier]), identifier

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[_Demand]],
        incompatibilities: Mapping[str, Iterator[Offer]],
    ) -> list[Offer]:
        if identifier in self._taken:  # a mod of this name does not fit: load no second one
            return []
        demands, dropped = list(requirements[identifier]), list(incompatibilities[identifier])
        return [
            offer
            for offer in self._offers.get(identifier, ())
            if offer not in dropped and all(self.is_satisfied_by(demand, offer) for demand in demands)
        ]

    def is_satisfied_by(self, requirement: _Demand, candidate: Offer) -> bool:
        return requirement.requirement.allows(candidate.version)

    def get_dependencies(self, candidate: Offer) -> list[_Demand]:
        return _open(f"{candidate.name} {candidate.version or '(of unknown version)'}", candidate.requires, self._there)


# -- saying why


def _impossible(demands: Iterable[_Demand], there: Sequence[Present], offers: Mapping[str, Sequence[Offer]]) -> Unmet:
    demands = list(dict.fromkeys(demands))
    names = list(dict.fromkeys(demand.requirement.name for demand in demands))
    who = [f"{demand.by} requires {demand.requirement}" for demand in demands]
    return Unmet(
        "; ".join([*who, *(_what_there_is(name, demands, there, offers) for name in names)]),
        demands=[{"by": demand.by, "requires": str(demand.requirement)} for demand in demands],
    )


def unmet(by: str, requires: Iterable[Requirement], there: Sequence[Present]) -> Unmet:
    """Make the error for a mod whose requirements are not loaded, and will not be loaded for it."""
    requires = list(requires)
    who = [f"{by} requires {each}" for each in requires]
    loaded = [_who_is(each.name, there) or f"no mod {each.name} is loaded" for each in requires]
    return Unmet(
        "; ".join([*who, *dict.fromkeys(loaded), "load the required mods first"]),
        demands=[{"by": by, "requires": str(each)} for each in requires],
    )


def _who_is(name: str, there: Sequence[Present]) -> str:
    unknown = "of a version that is unknown until it runs"
    return ", ".join(f"{mod.mod_id} is {mod.version or unknown}" for mod in there if name in mod.names)


def _what_there_is(
    name: str, demands: Iterable[_Demand], there: Sequence[Present], offers: Mapping[str, Sequence[Offer]]
) -> str:
    """Say which mod of this name is loaded, and which versions fit, or are at least available."""
    wanted = [demand.requirement for demand in demands if demand.requirement.name == name]
    available = offers.get(name, ())
    fitting = [offer for offer in available if all(each.allows(offer.version) for each in wanted)]
    loaded = _who_is(name, there)
    if loaded:
        return (
            f"{loaded}; {_versions(name, fitting)} could be loaded beside it under an id of its own"
            if fitting
            else loaded
        )
    if fitting:
        return f"{_versions(name, fitting)} could be loaded"
    return f"available: {_versions(name, available)}" if available else f"there is no mod {name} (see 'modvisor mods')"


def _versions(name: str, offers: Iterable[Offer]) -> str:
    versions = [offer.version or "of unknown version" for offer in offers]
    return f"{name} {', '.join(versions_in_order(dict.fromkeys(versions)))}"
