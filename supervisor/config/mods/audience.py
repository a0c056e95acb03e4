"""Which version of a mod gets the events of a source: the rules of a canary release. Pure.

The *family* of a mod is its id up to ``@``: ``wiki``, ``wiki@2`` and ``wiki@canary`` are versions
of ``wiki``. Each source (an agent, a mod, the network itself) gets one version of a family, or
none. The answer is the same after a restart and on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ....ipc.address import AGENT, MOD
from ..values.basic import number, set_of
from ..values.keys import key
from ..values.names import event_source, group_name

_POSITIONS = 2**32  # of a source within a family: finer than any percentage that a network needs
_SHOWN = 3  # names of one kind in a description, which must fit into a table


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose events a mod gets: named sources, named groups, and a share of all other sources."""

    agents: frozenset[str] = key(
        frozenset(),
        set_of(event_source, "['alice', 'mod:shop']"),
        "agents (`alice`, `agent:alice`), mods (`mod:shop`) and the network itself "
        "(`system:system`, which is also the operator)",
    )
    groups: frozenset[str] = key(
        frozenset(), set_of(group_name, "['beta']"), "the agents of these groups; each group stands in `agent_groups`"
    )
    percent: float = key(
        0.0,
        number(0, 100),
        "this share of all sources; the shares of all versions of a family must not exceed 100 together",
    )

    def to_plain(self) -> dict[str, Any]:
        """Return the audience as the network file would have it."""
        return {"percent": self.percent, "groups": sorted(self.groups), "agents": sorted(self.agents)}

    def __str__(self) -> str:
        agents = sorted(name.removeprefix(f"{AGENT}:") for name in self.agents)
        parts = [f"{self.percent:g} % of the sources"] if self.percent else []
        parts += [_named("group", sorted(self.groups))] if self.groups else []
        parts += [_named("agent", agents)] if agents else []
        return ", ".join(parts) or "nobody"


class FamilyVersion(NamedTuple):
    """One version of a family.

    ``promoted`` is the number of its last promotion: the newest promotion has the highest number,
    and 0 means that the version was never promoted.
    """

    mod_id: str
    audience: Audience | None = None
    promoted: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """The sources of a network, divided among the versions of a family.

    Attributes:
        versions: the versions of the family, in load order.
        default: the version of every source that is in no audience.
    """

    family: str
    versions: tuple[FamilyVersion, ...]
    default: str | None = field(init=False)
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
        # A version's own events are not for its siblings, unless a sibling's audience names it.
        for version in self.versions:
            agents.setdefault(f"{MOD}:{version.mod_id}", version.mod_id)
        for name, value in (("_agents", agents), ("_groups", groups), ("_shares", tuple(shares))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "default", _default(self.family, self.versions))

    def pick(self, source: str, group: str | None = None) -> str | None:
        """Return the id of the version that ``source`` gets; None if it gets none."""
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
        """Describe in words whose events a version gets."""
        audience = next(version.audience for version in self.versions if version.mod_id == mod_id)
        if audience is not None:
            return str(audience)
        if mod_id != self.default:
            return "nobody"
        others = [version.audience for version in self.versions if version.audience is not None]
        return "everyone else" if any(other != Audience() for other in others) else "everyone"


def family_of(mod_id: str) -> str:
    """Return the family of a mod: its id up to ``@``."""
    return mod_id.partition("@")[0] or mod_id


def position(family: str, source: str) -> float:
    """Return the place of a source in a family, from 0 to below 100.

    A percentage takes the sources below it: one that grows only gains sources.
    """
    digest = hashlib.blake2b(f"{family}\0{source}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") * 100 / _POSITIONS


def _default(family: str, versions: Iterable[FamilyVersion]) -> str | None:
    """Return the default version: of the versions without an audience the last promoted one.

    If none was promoted, it is the version with the family's own name, else the first one.
    """
    free = [version for version in versions if version.audience is None]
    if not free:
        return None
    return max(free, key=lambda version: (version.promoted, version.mod_id == family)).mod_id


def _named(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"
