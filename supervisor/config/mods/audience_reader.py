"""Reads the ``audience`` of a mod, and checks that it fits the other mods and the groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..values.basic import read_keys
from ..values.keys import keys_of, readers_of, schema_of
from ..values.reader import Location, Reader, got, hint
from ..yaml.source import Source
from .audience import Audience, family_of

_ROUNDING = 1e-9  # 33.3 + 33.3 + 33.4 is a little more than 100
_READERS = readers_of(Audience)


def _audience(value: Any, at: Location) -> Any:
    """Read an `Audience`. An empty one is most likely a mistake: ``percent: 0`` means nobody."""
    if not value and (value is None or isinstance(value, dict)):
        return at.wrong(
            "the audience is empty; give agents, groups or a percent of the sources, "
            "or remove the key so that the mod is for everybody"
        )
    if not isinstance(value, dict):
        return at.wrong(f"expected a mapping with agents, groups or percent, got {got(value)}")
    return Audience(**read_keys(value, at, _READERS))


audience = Reader("mapping", _audience, schema=lambda: schema_of(keys_of(Audience)))


def read_audience(data: dict[str, Any]) -> Audience:
    """Read an audience that is given while the network runs.

    Raises:
        ConfigError: lists every mistake.
    """
    source = Source()
    found = read_keys(data, Location(source, Path()), _READERS)
    source.check()
    return Audience(**found)


def check_percents(audiences: Mapping[str, Audience | None], places: Mapping[str, Location]) -> None:
    """Report families whose versions ask for more than 100 percent together.

    Args:
        audiences: the audiences of the mods by mod id, in load order.
        places: the locations of the mods.
    """
    for family in dict.fromkeys(map(family_of, audiences)):
        asked = [mod_id for mod_id, each in audiences.items() if family_of(mod_id) == family and each and each.percent]
        if (text := shares_over_100(family, audiences)) is not None:
            (places[asked[-1]] / "audience" / "percent").wrong(text)


def shares_over_100(family: str, audiences: Mapping[str, Audience | None]) -> str | None:
    """Return what is wrong with the percentages of a family; None if they fit."""
    asked = {mod_id: each.percent for mod_id, each in audiences.items() if family_of(mod_id) == family and each}
    total = sum(asked.values())
    if total <= 100 + _ROUNDING:
        return None
    each = ", ".join(f"{mod_id} {percent:g}" for mod_id, percent in asked.items() if percent)
    return f"the percentages of the versions of {family} add up to {total:g} ({each}); lower them to 100 or less"


def misfit(
    mod_id: str, wanted: Audience | None, others: Mapping[str, Audience | None], groups: Iterable[str]
) -> str | None:
    """Return why a mod cannot have an audience in a network; None if it can.

    Args:
        others: the audiences of the loaded mods by id, in load order, with the mod itself.
        groups: the network's groups of agents.
    """
    if wanted is None:
        return None
    known = set(groups)
    for group in sorted(wanted.groups - known):
        return f"audience.groups: {unknown_group(group, known)}"
    text = shares_over_100(family_of(mod_id), {**others, mod_id: wanted})
    return None if text is None else f"audience.percent: {text}"


def check_groups(mods: Any, known: Iterable[str], at: Location) -> None:
    """Report groups in the audiences of the entries ``mods`` that the network does not have."""
    names = set(known)
    for index, entry in enumerate(mods if isinstance(mods, (list, tuple)) else ()):
        own = entry.get("audience") if isinstance(entry, dict) else None
        groups = own.get("groups") if isinstance(own, dict) else None
        for nth, group in enumerate(groups if isinstance(groups, (list, tuple)) else ()):
            if isinstance(group, str) and group not in names:
                (at / index / "audience" / "groups" / nth).wrong(unknown_group(group, names))


def unknown_group(group: str, known: Iterable[str]) -> str:
    """Say that a group is missing, and which one was probably meant."""
    return f"no group {group!r} in agent_groups; {hint(group, known)}"
