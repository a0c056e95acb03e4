"""Invites: codes that let their holder register once, or a few times, until they expire. Pure.

The code is random and stored nowhere; its hash is. Its first part names the invite for people.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from .hashes import is_hash_of

PREFIX = "inv"
MAX_USES = 10_000
MAX_LIFE = 366 * 86400.0
"""Seconds that an invite may live. No keys of the network file: both stand in the API's description."""


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite.

    Attributes:
        invite_id: names it, and is no secret.
        secret_hash: SHA-256 of its code.
        group: the group of the agents that it registers; None: they may choose as anybody.
        agents: the id that it is for, or a pattern of ids; None: any id that is not reserved.
        uses: how many agents it still registers.
        expires_at, created_at: Unix seconds.
        created_by: the agent, mod or operator that made it.
    """

    invite_id: str
    secret_hash: bytes
    group: str | None
    agents: str | None
    uses: int
    expires_at: float
    created_at: float
    created_by: str

    def is_for(self, agent_id: str) -> bool:
        return self.agents is None or fits(self.agents, agent_id)

    def to_dict(self) -> dict[str, Any]:
        """Return what people may see of it."""
        return {
            "invite_id": self.invite_id,
            "agent_group": self.group,
            "agent": self.agents,
            "uses": self.uses,
            "expires_at": self.expires_at,
            "created_at": self.created_at,
            "created_by": self.created_by,
        }


def fits(pattern: str, agent_id: str) -> bool:
    """Return whether an id is, or matches, a name; in any case, so that no look-alike does not."""
    return fnmatchcase(agent_id.lower(), pattern.lower())


def is_reserved(agent_id: str, reserved: Iterable[str]) -> bool:
    return any(fits(pattern, agent_id) for pattern in reserved)


class Invites:
    """The invites that can still be used, by their ids."""

    def __init__(self) -> None:
        self._invites: dict[str, Invite] = {}
        self._revoked: set[str] = set()

    def __len__(self) -> int:
        return len(self._invites)

    def __iter__(self) -> Iterator[Invite]:
        return iter(tuple(self._invites.values()))

    def get(self, invite_id: str) -> Invite | None:
        return self._invites.get(invite_id)

    def put(self, invite: Invite) -> None:
        self._invites[invite.invite_id] = invite
        self._revoked.discard(invite.invite_id)

    def revoke(self, invite_id: str) -> None:
        self._invites.pop(invite_id, None)
        self._revoked.add(invite_id)

    def spend(self, invite: Invite) -> int:
        """Use an invite up once, and return how many uses are left. After the last it is forgotten."""
        left = self._invites[invite.invite_id].uses - 1
        if left:
            self._invites[invite.invite_id] = replace(invite, uses=left)
        else:
            del self._invites[invite.invite_id]
        return left

    def give_back(self, invite: Invite) -> None:
        """Undo one `spend`, whatever else was done with the invite since then."""
        if invite.invite_id not in self._revoked:
            left = self._invites.get(invite.invite_id)
            self._invites[invite.invite_id] = replace(invite, uses=1 if left is None else left.uses + 1)

    def with_code(self, code: str, now: float) -> Invite | None:
        """Return the invite of a code; None if there is none, or it has expired."""
        invite = self._invites.get(code.split("-")[1] if code.count("-") >= 2 else "")
        if invite is None or invite.expires_at <= now or not is_hash_of(invite.secret_hash, code):
            return None
        return invite


def new_code() -> tuple[str, str]:
    """Return the id of a new invite and its code."""
    invite_id = secrets.token_hex(6)
    return invite_id, f"{PREFIX}-{invite_id}-{secrets.token_urlsafe(24)}"
