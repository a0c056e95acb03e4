"""Readers of names: of mods, sources, groups, permissions, versions, and of what a mod requires."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement

from ....ipc.address import AGENT, BROADCAST, MAX_ID, MOD, SYSTEM, check_mod_id, check_mod_path, parse_address
from ....ipc.errors import InvalidEvent
from ....ipc.partition import is_partition
from ....ipc.topic import check_pattern
from ...nearest import did_you_mean
from ..yaml.source import BROKEN
from .basic import list_of, set_of, text
from .reader import Location, got, hint, reader
from .versions import Requirement, parse_version

PERMISSIONS = frozenset({"mods", "agents", "channels"})

_AGENT_PATTERN = re.compile(rf"[A-Za-z0-9_.@*-]{{1,{MAX_ID}}}")
_NETWORK_ID = re.compile(rf"(?!\.)[A-Za-z0-9_.@-]{{1,{MAX_ID}}}")


@reader("id", "string")
def network_id(value: Any, at: Location) -> Any:
    """Read the id of a network."""
    found = text(value, at)
    if found is BROKEN or (_NETWORK_ID.fullmatch(found) and ".." not in found):
        return found
    return at.wrong(f"expected letters, digits, '_', '.', '@', '-' (1 to {MAX_ID}, no '..'), got {got(found)}")


@reader("mod path", "string")
def mod_path(value: Any, at: Location) -> Any:
    """Read the path of a mod; the folder of ``./name`` must exist."""
    path = text(value, at)
    if path is BROKEN:
        return BROKEN
    try:
        check_mod_path(path)
    except InvalidEvent as error:
        return at.wrong(str(error))
    if path.startswith("./"):
        folders = (at.base_dir / "mods" / path[2:], at.base_dir / path[2:])
        if not any(map(os.path.isdir, folders)):
            hint = did_you_mean(path, _mods_below(folders[0].parent))
            return at.wrong(f"no such mod: neither {folders[0]} nor {folders[1]} is a folder{hint}")
    return path


def _mods_below(folder: Path) -> Iterator[str]:
    """Yield the paths of the mods in a folder, for who has mistyped one."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (f"./{entry.name}" for entry in entries if entry.is_dir())


@reader("id", "string")
def mod_id(value: Any, at: Location) -> Any:
    """Read the id of a mod."""
    found = text(value, at)
    try:
        return found if found is BROKEN else check_mod_id(found)
    except InvalidEvent as error:
        return at.wrong(str(error).partition("; give")[0])


@reader("permission", "string", enum=sorted(PERMISSIONS))
def permission(value: Any, at: Location) -> Any:
    """Read one of `PERMISSIONS`."""
    if isinstance(value, str) and value in PERMISSIONS:
        return value
    return at.wrong(f"unknown permission {got(value)}; {hint(value, PERMISSIONS)}")


permission_set = set_of(permission, "[mods, agents]")


@reader("source", "string")
def speaker(value: Any, at: Location) -> Any:
    """Read a source that a mod may speak for, or a pattern of sources."""
    source = text(value, at)
    if source is BROKEN or source in ("*", f"{AGENT}:*", f"{MOD}:*"):
        return source
    try:
        address = parse_address(source)
    except InvalidEvent as error:
        return at.wrong(str(error))
    if address.role in (AGENT, MOD) and address.id != BROADCAST:
        return str(address)
    return at.wrong(f"expected a source such as 'agent:alice', 'mod:wiki', 'agent:*' or '*', got {got(source)}")


@reader("source", "string")
def event_source(value: Any, at: Location) -> Any:
    """Read a source of events: an agent, a mod, or the network itself."""
    found = text(value, at)
    if found is BROKEN:
        return BROKEN
    try:
        address = parse_address(found)
        if address.role == MOD:
            check_mod_id(address.id)
    except InvalidEvent as error:
        return at.wrong(str(error).partition("; give")[0])
    if address.role not in (AGENT, MOD, SYSTEM) or address.id == BROADCAST:
        return at.wrong(f"expected a source such as 'alice', 'agent:alice' or 'mod:shop', got {got(value)}")
    return str(address)


@reader("group", "string")
def group_name(value: Any, at: Location) -> Any:
    """Read the name of a group of agents."""
    found = text(value, at)
    try:
        return found if found is BROKEN else parse_address(f"group:{found}").id
    except InvalidEvent:
        return at.wrong(f"expected the name of a group, got {got(value)}")


@reader("pattern", "string")
def event_pattern(value: Any, at: Location) -> Any:
    """Read the name of an event, a prefix such as ``chat.*``, or ``*``."""
    try:
        return check_pattern(value) if isinstance(value, str) else text(value, at)
    except InvalidEvent as error:
        return at.wrong(str(error).removeprefix("pattern "))


event_patterns = list_of(event_pattern, "['chat.*']")


@reader("id pattern", "string")
def agent_pattern(value: Any, at: Location) -> Any:
    """Read the id of an agent, in which ``*`` stands for any characters."""
    found = text(value, at)
    if found is BROKEN or is_agent_pattern(found):
        return found
    return at.wrong(f"expected the id of an agent such as 'admin', or a pattern such as 'bot-*', got {got(found)}")


def is_agent_pattern(name: str) -> bool:
    """Tell whether a text is an agent's id, or a pattern of ids."""
    return _AGENT_PATTERN.fullmatch(name) is not None and ".." not in name


agent_patterns = list_of(agent_pattern, "[admin, 'bot-*']")


@reader("`source`, `least_loaded` or a path", "string")
def partition(value: Any, at: Location) -> Any:
    """Read the rule by which the workers of a mod share its events."""
    found = text(value, at)
    if found is BROKEN or is_partition(found):
        return found
    return at.wrong(f"expected source, least_loaded or a path such as payload.order.id, got {got(found)}")


@reader("version (PEP 440)", "string", "number")
def version(value: Any, at: Location) -> Any:
    """Read a version of PEP 440 as it is written: ``1.10`` is not ``1.1``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = at.source.texts.get(at.key, value)
    name = text(value, at)
    if name is not BROKEN and parse_version(name) is None:
        return at.wrong(f"expected a version such as '2.0' or '2.1rc1' (PEP 440), got {got(name)}")
    return name


@reader("requirement", "string")
def requirement(value: Any, at: Location) -> Any:
    """Read the name of a mod and the versions of it that are accepted."""
    try:
        return Requirement.parse(value)
    except InvalidRequirement as error:
        return at.wrong(str(error))
