"""Reads the ``audience`` of a mod, and says what in it does not fit its surroundings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...ipc.address import AGENT, BROADCAST, MOD, SYSTEM, check_mod_id, parse_address
from ...ipc.errors import InvalidEvent
from . import values as values
from .audience import Audience, family_of
from .values import Location, Reader, got, hint
from .yaml_source import BROKEN, Source

_ROUNDING = 1e-9  # of 33.3 + 33.3 + 33.4


def audience(value: Any, at: Location) -> Any:
    """A reader (see `config_values`). One that names nobody is most likely a mistake; ``percent: 0`` says so on purpose."""
    if not value and (value is None or isinstance(value, dict)):
        return at.wrong(
            "names nobody; give agents, groups or a percent of the sources, or leave the key out: the mod is for everybody then"
        )
    if not isinstance(value, dict):
        return at.wrong(f"expected a mapping with agents, groups or percent, got {got(value)}")
    return Audience(**values.keys(value, at, AUDIENCE_KEYS))


def read_audience(data: dict[str, Any]) -> Audience:
    """One that is given while the network runs; raises `ConfigError` with every mistake in it."""
    source = Source()
    at = Location(source, Path())
    found = values.keys(data, at, AUDIENCE_KEYS)
    source.check()
    return Audience(**found)


def check_percents(audiences: Mapping[str, Audience | None], places: Mapping[str, Location]) -> None:
    """Report versions of one family that ask for more than all there is.

    Args:
        audiences: by mod id, in load order; ``places``: of the mods.
    """
    for family in dict.fromkeys(map(family_of, audiences)):
        asked = [mod_id for mod_id, each in audiences.items() if family_of(mod_id) == family and each and each.percent]
        if (text := shares_over_100(family, audiences)) is not None:
            (places[asked[-1]] / "audience" / "percent").wrong(text)


def shares_over_100(family: str, audiences: Mapping[str, Audience | None]) -> str | None:
    """What is wrong with the percentages of a family; None if nothing is."""
    asked = {mod_id: each.percent for mod_id, each in audiences.items() if family_of(mod_id) == family and each}
    total = sum(asked.values())
    if total <= 100 + _ROUNDING:
        return None
    each = ", ".join(f"{mod_id} {percent:g}" for mod_id, percent in asked.items() if percent)
    return f"the percentages of the versions of {family} add up to {total:g} ({each}); 100 is all there is"


def misfit(
    mod_id: str, wanted: Audience | None, others: Mapping[str, Audience | None], groups: Iterable[str]
) -> str | None:
    """Why a mod cannot have an audience in a network; None if it can.

    Args:
        others: the audiences of the loaded mods, by id, in load order; of the mod itself too.
        groups: of agents, that the network has.
    """
    if wanted is None:
        return None
    known = set(groups)
    for group in sorted(wanted.groups - known):
        return f"audience.groups: {unknown_group(group, known)}"
    text = shares_over_100(family_of(mod_id), {**others, mod_id: wanted})
    return None if text is None else f"audience.percent: {text}"


def check_groups(mods: Any, known: Iterable[str], at: Location) -> None:
    """Report groups in the ``audience`` of the entries ``mods`` that the network does not have."""
    names = set(known)
    for index, entry in enumerate(mods if isinstance(mods, (list, tuple)) else ()):
        own = entry.get("audience") if isinstance(entry, dict) else None
        groups = own.get("groups") if isinstance(own, dict) else None
        for nth, group in enumerate(groups if isinstance(groups, (list, tuple)) else ()):
            if isinstance(group, str) and group not in names:
                (at / index / "audience" / "groups" / nth).wrong(unknown_group(group, names))


def unknown_group(group: str, known: Iterable[str]) -> str:
    return f"no group {group!r} in agent_groups; {hint(group, known)}"


def _source(value: Any, at: Location) -> Any:
    text = values.text(value, at)
    if text is BROKEN:
        return BROKEN
    try:
        address = parse_address(text)
        if address.role == MOD:
            check_mod_id(address.id)
    except InvalidEvent as error:
        return at.wrong(str(error).partition("; give")[0])
    if address.role not in (AGENT, MOD, SYSTEM) or address.id == BROADCAST:
        return at.wrong(f"expected a source such as 'alice', 'agent:alice' or 'mod:shop', got {got(value)}")
    return str(address)


def _group(value: Any, at: Location) -> Any:
    text = values.text(value, at)
    try:
        return text if text is BROKEN else parse_address(f"group:{text}").id
    except InvalidEvent:
        return at.wrong(f"expected the name of a group, got {got(value)}")


AUDIENCE_KEYS: dict[str, Reader] = {
    "agents": values.set_of(_source, "['alice', 'mod:shop']"),
    "groups": values.set_of(_group, "['beta']"),
    "percent": values.number(0, 100),
}
