"""Who may operate the network over TCP: tokens with a name, a scope and an end. Pure.

The network knows the SHA-256 of a token only. A token is random and long, so a fast hash will do.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ....ipc.errors import Code
from .hashes import hash_of
from .refusal import Refusal

PREFIX = "mvt_"
"""How each token begins, so that scanners for secrets in files know one when they see it."""

MOST_TOKENS = 1000
"""No key of the network file: only the operator makes tokens, and each is a line of a list that people read."""

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


class Scope(IntEnum):
    """What an operator may do. Each one may do what those before it may."""

    READ = 1
    OPERATE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Scope:
        """Raises `Refusal`."""
        for scope in cls:
            if scope.word == word:
                return scope
        known = ", ".join(scope.word for scope in cls)
        raise Refusal(f"scope: expected one of {known}, got {word!r}")


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """A token as the network keeps it. Times in Unix seconds.

    Attributes:
        expires_at: None: never.
        payloads: it may read what events carry (`read_payloads`), as each token with the scope ADMIN may.
    """

    name: str
    secret_hash: bytes
    scope: Scope
    created_at: float
    created_by: str
    expires_at: float | None
    payloads: bool = False

    @property
    def reads_payloads(self) -> bool:
        return self.payloads or self.scope is Scope.ADMIN

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def to_row(self) -> dict[str, Any]:
        """Return what the journal keeps of it."""
        return {
            "name": self.name,
            "secret_hash": self.secret_hash,
            "scope": self.scope.word,
            "created_at": self.created_at,
            "created_by": self.created_by,
            "expires_at": self.expires_at,
            "payloads": self.payloads,
        }


class OperatorTokens:
    """The tokens of a network.

    Args:
        now: the wall clock.
    """

    def __init__(self, tokens: Iterable[OperatorToken] = (), now: Callable[[], float] = time.time) -> None:
        self._by_name = {token.name: token for token in tokens}
        self._by_hash = {token.secret_hash: token for token in self._by_name.values()}
        self._now = now

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[OperatorToken]:
        return iter(self._by_name.values())

    def make(
        self, name: str, scope: Scope, lasts: float | None, by: str, *, payloads: bool = False
    ) -> tuple[OperatorToken, str]:
        """Return a new token, which is not yet one of these, and what the operator must send.

        Args:
            lasts: seconds; None: it never expires.
            payloads: it may read what events carry.

        Raises:
            Refusal: bad_input, conflict: the name is taken; too_many.
        """
        if _NAME.fullmatch(name) is None:
            raise Refusal(f"name: expected up to 64 letters, digits, '_', '.', '@', '-', got {name[:80]!r}")
        if name in self._by_name:
            text = f"there is a token {name!r}; revoke it first, or give the new one another name"
            raise Refusal(text, code=Code.CONFLICT)
        if len(self) >= MOST_TOKENS:
            raise Refusal(f"there are {len(self)} tokens, which is the most; revoke some", code=Code.TOO_MANY)
        secret, now = PREFIX + secrets.token_urlsafe(32), self._now()
        expires_at = None if lasts is None else now + lasts
        return OperatorToken(name, hash_of(secret), scope, now, by, expires_at, payloads), secret

    def enter(self, token: OperatorToken) -> None:
        self._by_name[token.name] = token
        self._by_hash[token.secret_hash] = token

    def revoke(self, name: str) -> OperatorToken:
        """Forget a token. Raises `Refusal` (not_found)."""
        token = self._by_name.pop(name, None)
        if token is None:
            known = f"; there are {', '.join(self._by_name)}" if self._by_name else ""
            raise Refusal(f"there is no token {name!r}{known}", code=Code.NOT_FOUND)
        del self._by_hash[token.secret_hash]
        return token

    def find(self, secret: bytes) -> OperatorToken | None:
        """Return the token that somebody sent, expired or not; None if it is none of these.

        The time that this takes tells something of the hash, which is of no use to anybody.
        """
        return self._by_hash.get(hash_of(secret))

    def is_valid(self, token: OperatorToken) -> bool:
        return self._by_name.get(token.name) is token and not token.is_expired(self._now())

    def described(self) -> list[dict[str, object]]:
        """Return what people see of each token."""
        return [
            {
                "name": token.name,
                "scope": token.scope.word,
                "payloads": token.reads_payloads,
                "created_at": token.created_at,
                "created_by": token.created_by,
                "expires_at": token.expires_at,
                "expired": token.is_expired(self._now()),
            }
            for token in self
        ]
