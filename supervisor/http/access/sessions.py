"""Who is logged in to the dashboard, and the links that log somebody in, once. Pure.

Rules:

- A session and a link are random (256 bits). The network knows the SHA-256 of each, in memory only:
  both end with the network.
- A session ends with the token that it was opened with, after `dashboard.session` without a request,
  or when whoever has it logs out.
- A session may do no more than its token. A link gives no more than whoever made it may do, and ends
  with the token of its maker.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ...agents import OperatorToken, Scope, hash_of
from ...config import DashboardConfig


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do who has proved who it is.

    Attributes:
        token: ends the grant with itself; None: it ends with the network.
    """

    who: str
    scope: Scope
    payloads: bool
    token: OperatorToken | None = None


@dataclass(slots=True)
class Session:
    """Somebody who is logged in.

    Attributes:
        csrf: what each request must carry that changes something, besides the cookie.
        used: monotonic time of the last request.
        ended: whoever had it has logged out, or was logged out.
    """

    grant: Grant
    csrf: str
    used: float
    ended: bool = False


class Sessions:
    """The sessions and the links of a network.

    Args:
        config: returns the limits in force.
        is_valid: returns whether a token is still in force.
        now: a monotonic clock.
    """

    def __init__(
        self,
        config: Callable[[], DashboardConfig] = DashboardConfig,
        is_valid: Callable[[OperatorToken], bool] = lambda token: True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._is_valid = is_valid
        self._now = now
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()  # by hash, the longest away first
        self._links: OrderedDict[bytes, tuple[Grant, float]] = OrderedDict()  # with the time when each ends

    def __bool__(self) -> bool:
        """Return whether anybody is logged in, or may log in by a link."""
        self._forget()
        return bool(self._sessions or self._links)

    # -- sessions

    def open(self, grant: Grant) -> tuple[str, Session]:
        """Log somebody in. Returns the secret of the cookie, and the session."""
        self._forget()
        secret = secrets.token_urlsafe(32)
        session = Session(grant, secrets.token_urlsafe(32), self._now())
        self._sessions[hash_of(secret)] = session
        while len(self._sessions) > self._config().sessions:
            self._sessions.popitem(last=False)[1].ended = True
        return secret, session

    def find(self, secret: str) -> Session | None:
        """Return the session of a cookie, and note that it is used; None if there is none any more."""
        key = hash_of(secret)
        session = self._sessions.get(key)
        if session is None or not self.is_open(session):
            self._sessions.pop(key, None)
            return None
        session.used = self._now()
        self._sessions.move_to_end(key)
        return session

    def is_open(self, session: Session) -> bool:
        """Return whether a session has neither ended nor lost its token."""
        is_used = self._now() - session.used < self._config().session
        return is_used and not session.ended and self._holds(session.grant)

    def close(self, secret: str) -> None:
        """Log out whoever has this cookie."""
        session = self._sessions.pop(hash_of(secret), None)
        if session is not None:
            session.ended = True

    def lasts(self, session: Session) -> float:
        """Return the seconds after which a session ends without a request."""
        return max(0.0, session.used + self._config().session - self._now())

    # -- links

    def make_link(self, grant: Grant) -> str:
        """Return the code of a link that logs somebody in, once."""
        self._forget()
        code = secrets.token_urlsafe(32)
        self._links[hash_of(code)] = grant, self._now() + self._config().link_age
        while len(self._links) > self._config().sessions:
            self._links.popitem(last=False)
        return code

    def redeem(self, code: str) -> Grant | None:
        """Return what the link with this code gives; None if it was used, is too old, or never was one."""
        self._forget()
        grant, _ = self._links.pop(hash_of(code), (None, 0.0))
        return grant

    # -- within

    def _holds(self, grant: Grant) -> bool:
        return grant.token is None or self._is_valid(grant.token)

    def _forget(self) -> None:
        """Drop what has ended."""
        now = self._now()
        ended = [key for key, session in self._sessions.items() if not self.is_open(session)]
        for key in ended:
            del self._sessions[key]
        old = [key for key, (grant, ends) in self._links.items() if now >= ends or not self._holds(grant)]
        for key in old:
            del self._links[key]
