"""Which version of a mod gets the events of a source. Pure: the same answer after a restart, and on any machine.

The *family* of a mod is its id up to ``@``: ``wiki``, ``wiki@2`` and ``wiki@canary`` are versions of ``wiki``. Each source (an
agent, a mod, the network itself) has one version of a family, or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...ipc.address import AGENT, MOD

_POSITIONS = 2**32  # of a source within a family: far more than a percent of any network tells apart
_SHOWN = 3  # names of one kind in a description: it stands in a table


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose events a mod gets: the sources named, those of the groups named, and a share of all others.

    Attributes:
        agents: sources as ``agent:alice`` or ``mod:shop``.
        percent: 0 to 100.
    """

    agents: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    percent: float = 0.0

    def to_plain(self) -> dict[str, Any]:
        """As the network file has it."""
        return {"percent": self.percent, "groups": sorted(self.groups), "agents": sorted(self.agents)}

    def __str__(self) -> str:
        agents = sorted(name.removeprefix(f"{AGENT}:") for name in self.agents)
        parts = [f"{self.percent:g} % of the sources"] if self.percent else []
        parts += [_named("group", sorted(self.groups))] if self.groups else []
        parts += [_named("agent", agents)] if agents else []
        return ", ".join(parts) or "nobody"


class FamilyVersion(NamedTuple):
    """One of a family. ``promoted`` is the number of its last promotion, the newest the highest; 0: never."""

    mod_id: str
    audience: Audience | None = None
    promoted: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """The sources of a network, divided among the versions of a family, which stand in load order."""

    family: str
    versions: tuple[FamilyVersion, ...]
    default: str | None = field(init=False)  # the version of everybody who is in no audience
    _agents: dict[str, str] = field(init=False, repr=False, compare=False)
    _groups: dict[str, str] = field(init=False, repr=False, compare=False)
    _shares: tuple[tuple[float, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        agents: dict[str, str] = {}
        groups: dict[str, str] = {}
        shares: list[tuple[float, str]] = []
        reached = 0.0
        for mod_id, audience, _ in self.versions:
            if audience is None:
                continue
            for agent in audience.agents:
                agents.setdefault(agent, mod_id)
            for group in audience.groups:
                groups.setdefault(group, mod_id)
            if audience.percent:
                reached += audience.percent
                shares.append((reached, mod_id))
        for version in self.versions:  # what one sends itself is not for its siblings, unless they ask for it
            agents.setdefault(f"{MOD}:{version.mod_id}", version.mod_id)
        for name, value in (("_agents", agents), ("_groups", groups), ("_shares", tuple(shares))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "default", _default(self.family, self.versions))

    def pick(self, source: str, group: str | None = None) -> str | None:
        """The id of the version that ``source`` has; None: it has none of this family."""
        named = self._agents.get(source)
        if named is None and group is not None:
            named = self._groups.get(group)
        if named is not None:
            return named
        if self._shares:
            at = position(self.family, source)
            for end, mod_id in self._shares:
                if at < end:
                    return mod_id
        return self.default

    def reaches(self, mod_id: str) -> str:
        """In words, whose events a version gets."""
        audience = next(version.audience for version in self.versions if version.mod_id == mod_id)
        if audience is not None:
            return str(audience)
        if mod_id != self.default:
            return "nobody"
        others = [version.audience for version in self.versions if version.audience is not None]
        return "everyone else" if any(other != Audience() for other in others) else "everyone"


def family_of(mod_id: str) -> str:
    return mod_id.partition("@")[0] or mod_id


def position(family: str, source: str) -> float:
    """Where a source stands in a family, 0 to below 100: a percentage that grows takes in those behind it, and loses nobody."""
    digest = hashlib.blake2b(f"{family}\0{source}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") * 100 / _POSITIONS


def _default(family: str, versions: Iterable[FamilyVersion]) -> str | None:
    """Of those without an audience the one promoted last, else the one with the family's own name, else the first."""
    free = [version for version in versions if version.audience is None]
    if not free:
        return None
    return max(free, key=lambda version: (version.promoted, version.mod_id == family)).mod_id


def _named(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"
