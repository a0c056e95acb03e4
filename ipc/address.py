"""Ids of agents, mods, channels and groups; addresses made of them; the forms of a mod_path.

An address is ``role:id``; a bare id is an agent's. A mod id is ``[a-z0-9_.@-]+``; an agent id may
also hold upper-case letters. No id contains ``..``, because ids become folder names.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .errors import InvalidEvent, shown

MAX_ID = 128  # ids become folder and socket names

AGENT, MOD, CHANNEL, GROUP, SYSTEM = "agent", "mod", "channel", "group", "system"
ROLES = frozenset({AGENT, MOD, CHANNEL, GROUP, SYSTEM})
BROADCAST = "broadcast"

_MOD_ID = re.compile(r"[a-z0-9_.@-]+")
_AGENT_ID = re.compile(r"[A-Za-z0-9_.@-]+")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_LOCAL = re.compile(r"\./[A-Za-z0-9_.@-]+")


class Address(NamedTuple):
    """A parsed source or destination."""

    role: str
    id: str

    def __str__(self) -> str:
        return f"{self.role}:{self.id}"


class InvalidId(InvalidEvent):
    """An id or mod_path that does not follow the grammar."""


@lru_cache(maxsize=8192)
def parse_address(text: str) -> Address:
    """Return ``Address("agent", "alice")`` for ``"agent:alice"`` or ``"alice"``; raise `InvalidId`.

    ``broadcast`` and ``all`` mean ``agent:broadcast``, and ``system`` means ``system:system``:
    other agent networks write them like that.
    """
    if not isinstance(text, str):
        raise InvalidId(f"address {shown(text)}: expected text such as 'agent:alice', got {type(text).__name__}")
    if text in ("broadcast", "all"):
        return Address(AGENT, BROADCAST)
    if text == SYSTEM:
        return Address(SYSTEM, SYSTEM)
    role, colon, rest = text.partition(":")
    if not colon:
        return Address(AGENT, check_agent_id(text))
    if role not in ROLES:
        raise InvalidId(
            f"address {shown(text)}: unknown role {shown(role)}; expected one of {', '.join(sorted(ROLES))}"
        )
    if role == MOD:  # a mod may be addressed by id or by path
        if len(rest) > MAX_ID or not (_is_id(_MOD_ID, rest) or is_mod_path(rest)):
            raise InvalidId(f"address {shown(text)}: not a mod id (a-z, 0-9, '_', '.', '@', '-') nor a mod_path")
        return Address(MOD, rest)
    if not _is_id(_AGENT_ID, rest.removeprefix("#") if role == CHANNEL else rest):
        raise InvalidId(f"address {shown(text)}: the part after '{role}:' must be letters, digits, '_', '.', '@', '-'")
    return Address(role, rest)


def check_agent_id(agent_id: str) -> str:
    """Return ``agent_id`` if it can name an agent, else raise `InvalidId`."""
    if not isinstance(agent_id, str) or not _is_id(_AGENT_ID, agent_id):
        raise InvalidId(
            f"agent id {shown(agent_id)}: expected letters, digits, '_', '.', '@', '-' (1 to {MAX_ID}, no '..')"
        )
    if agent_id in (BROADCAST, "all", SYSTEM):
        raise InvalidId(f"agent id {agent_id!r} is reserved; choose another")
    return agent_id


def check_mod_id(mod_id: str) -> str:
    """Return ``mod_id`` if it can name a mod, else raise `InvalidId`."""
    if not isinstance(mod_id, str) or not _is_id(_MOD_ID, mod_id):
        raise InvalidId(
            f"mod id {shown(mod_id)}: expected lower-case letters, digits, '_', '.', '@', '-' "
            f"(1 to {MAX_ID}, no '..'); give the mod an 'id' of its own"
        )
    return mod_id


def is_mod_path(path: str) -> bool:
    """Return whether ``path`` is ``pkg.mods.wiki``, ``pkg.module:Class`` or ``./name``."""
    if not isinstance(path, str) or len(path) > 512:
        return False
    if path.startswith("./"):
        return _LOCAL.fullmatch(path) is not None and ".." not in path
    module, colon, cls = path.partition(":")
    return _DOTTED.fullmatch(module) is not None and (not colon or cls.isidentifier())


def check_mod_path(path: str) -> str:
    """Return ``path`` if `is_mod_path`, else raise `InvalidId` listing the forms."""
    if not is_mod_path(path):
        raise InvalidId(
            f"mod_path {shown(path)}: expected 'pkg.mods.wiki', 'pkg.module:Class' or './name' "
            f"(a folder under mods/ beside the network file){_meant(path)}"
        )
    return path


def _meant(path: str) -> str:
    """Return the end of a message about a wrong path: the local one that was probably meant."""
    name = str(path).rstrip("/").rpartition("/")[2].lstrip(".") if isinstance(path, str) else ""
    local = f"./{name}"
    return f"; did you mean '{local}'?" if name and is_mod_path(local) and ".." not in path else ""


def mod_id_of(path: str) -> str:
    """Return a mod's default id: the last part of its path, or the part before a final ``.mod``."""
    if path.startswith("./"):
        return check_mod_id(path[2:])
    parts = path.partition(":")[0].split(".")
    if parts[-1] == "mod" and len(parts) > 1:
        parts.pop()
    return check_mod_id(parts[-1])


def _is_id(grammar: re.Pattern[str], text: str) -> bool:
    return len(text) <= MAX_ID and ".." not in text and text not in (".", "") and grammar.fullmatch(text) is not None
