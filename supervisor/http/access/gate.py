"""Who may use the admin API: over TCP whoever has a token or is logged in, over the unix socket whoever can open it."""

from __future__ import annotations

import hmac
import math
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Asked

from ....ipc.errors import Code
from ...agents import Guesses, OperatorToken, OperatorTokens, RefusalLog, Scope
from ...audit import Actor, acting
from ...config import AdminConfig, AgentsConfig, HttpConfig
from ..content.bodies import bearer_of
from ..door.clients import client_address, counted_as, is_in, peer_address
from ..routes.answers import SpecRoute, failure
from .lately import Lately
from .sessions import Grant, Session, Sessions

Login = Callable[[Actor], None]

# What is guessed, and where from (see `Guesses`): every address of this machine is as good as another.
_TOKEN, _HERE = "admin.token", "this machine"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")  # headers that proxies add


OPERATOR = "modvisor.operator"  # the key of the ASGI scope that holds an `Operator`

_NO_TOKEN = "send the header 'Authorization: Bearer TOKEN' with the token of 'admin.token', or one of 'modvisor token'"
_WRONG_TOKEN = "the token in the header 'Authorization' is neither that of 'admin.token' nor one of 'modvisor token'"

NO_CSRF = "a session needs the header 'X-Modvisor-CSRF' with each request that is no GET; log in again to get its value"
_NO_SESSION = "you are logged out; log in with a token, or open the page with 'modvisor open'"

CSRF = "x-modvisor-csrf"

Refused = tuple[Code, str]


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever sends a request to the admin API.

    Attributes:
        address: None: the unix socket.
        payloads: whether it may read what events carry.
        is_in: returns whether it still may do all this: its token or session may end meanwhile.
        token: what it has shown; None: none that could be revoked.
    """

    who: str
    scope: Scope
    address: str | None = None
    payloads: bool = True
    is_in: Callable[[], bool] = _always
    token: OperatorToken | None = None

    @property
    def grant(self) -> Grant:
        """What a link gives that this operator makes."""
        return Grant(self.who, self.scope, self.payloads, self.token)


def operator_of(request: Request) -> Operator | None:
    """Return who sends a request; None: the program that runs the network."""
    return request.scope.get(OPERATOR)


def still_in(request: Request) -> Callable[[], bool]:
    """Return what tells whether whoever sends a request still may: its token or session may end meanwhile."""
    operator = operator_of(request)
    return _always if operator is None else operator.is_in


class AdminGate:
    """Lets requests to `/admin` pass on the TCP port that carry a token or a session with the scope for them.

    They must be from this machine, unless `admin.remote` lets others in over TLS. All other requests go
    to the agents' application, and so do those to `/admin` of a network that has no token.

    Args:
        token: of the network file; None: there is none.
        note: is told of each refusal: its code, whose it is, and a text.
        tokens: returns the tokens in force.
        login: is told who has come with a right token.
        sessions: who is logged in to the dashboard.
        is_gated: returns whether a path outside of `/admin` is the operator's, too.
    """

    def __init__(
        self,
        agents: ASGIApp,
        admin: ASGIApp,
        token: str | None,
        note: Callable[[str, str, str], None] | None = None,
        guesses: Guesses | None = None,
        *,
        tokens: Callable[[], OperatorTokens] = OperatorTokens,
        config: Callable[[], AdminConfig] = AdminConfig,
        http: Callable[[], HttpConfig] = HttpConfig,
        login: Login = lambda by: None,
        sessions: Sessions | None = None,
        is_gated: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._note = note or RefusalLog().note
        self._guesses = Guesses(AgentsConfig) if guesses is None else guesses
        self._agents = agents
        self._admin = admin
        self._token = None if token is None else token.encode("utf-8", "surrogateescape")
        self._tokens = tokens
        self._config = config
        self._http = http
        self._login = login
        self.sessions = Sessions(is_valid=lambda token: tokens().is_valid(token)) if sessions is None else sessions
        self._is_gated = is_gated
        self._logins = Lately()

    async def __call__(self, scope: Asked, receive: Receive, send: Send) -> None:
        is_admins = (scope["path"] + "/").startswith("/admin/") or self._is_gated(scope["path"])
        if not is_admins or not self.has_operators:
            await self._agents(scope, receive, send)
            return
        request = Request(scope)
        found = self._judged(request)
        if isinstance(found, Operator):
            await self._let_in(found, scope, receive, send)
            return
        self.tell(request, found)
        await refused_answer(*found)(scope, receive, send)

    def logged_in(self, operator: Operator) -> None:
        """Tell the audit that an operator has come."""
        self._logins.note((operator.who, operator.address))
        self._login(Actor(operator.who, operator.address))

    @property
    def has_operators(self) -> bool:
        """Whether there is a token, a session or a link: else there is no admin API to be seen."""
        return self._token is not None or bool(self._tokens()) or bool(self.sessions)

    def tell(self, request: Request, refused: Refused) -> None:
        """Count and log a refusal."""
        code, address = refused[0], self.address_of(request)
        self._note(str(code), address, f"refused {request.method} {request.url.path} from {address}: {refused[1]}")

    async def _let_in(self, operator: Operator, scope: Asked, receive: Receive, send: Send) -> None:
        if self._logins.is_due((operator.who, operator.address)):
            self.logged_in(operator)
        scope[OPERATOR] = operator
        with acting(operator.who, operator.address):
            await self._admin(scope, receive, send)

    def address_of(self, request: Request) -> str:
        """Return the name under which the sender's address is counted."""
        address = client_address(request.scope, self._http())
        return "nobody" if address is None else counted_as(address)

    def _judged(self, request: Request) -> Operator | Refused:
        given, cookie = bearer_of(request), request.cookies.get(self.cookie_name(request))
        found = self._by_session(request, cookie) if cookie and not given else self.by_token(request, given or "")
        if isinstance(found, tuple):
            return found
        needed = needed_scope(self._admin, request.scope)
        if found.scope < needed:
            has = "token" if found.token is not None or not cookie else "session"
            return (
                Code.FORBIDDEN,
                f"{found.who} has a {has} with the scope '{found.scope.word}', and this needs '{needed.word}'",
            )
        return found

    def by_token(self, request: Request, given: str) -> Operator | Refused:
        """Return who sends a request with this token, or why it is refused. A wrong one counts as a guess."""
        return self.proved(request, given, lambda: self._who_has(given, self.address_of(request)))

    def proved(
        self,
        request: Request,
        given: str,
        find: Callable[[], Operator | Refused | None],
        missing: str = _NO_TOKEN,
        wrong: str = _WRONG_TOKEN,
    ) -> Operator | Refused:
        """Return whom ``find`` finds by a proof, or why the proof is refused; see `Guesses`."""
        where = _HERE if _is_loopback(request) else self.address_of(request)
        wait = self._guesses.wait(where, [_TOKEN]) if given else 0.0
        if wait:
            text = f"too many wrong tokens; try again in {math.ceil(wait)} s, or use the unix socket"
            return Code.TOO_MANY, text
        if (refused := self.refused_place(request)) is not None:
            return refused
        if not given:
            return Code.UNAUTHENTICATED, missing
        operator = find()
        if operator is None:
            self._guesses.wrong(where, [_TOKEN])
            return Code.UNAUTHENTICATED, wrong
        return operator

    def _who_has(self, text: str, address: str) -> Operator | Refused | None:
        # Header values arrive as Latin-1 text. Compare the bytes that the client sent.
        given = text.encode("latin-1", "replace")
        if self._token is not None and hmac.compare_digest(given, self._token):
            return Operator("operator:admin.token", Scope.ADMIN, address)
        tokens = self._tokens()
        token = tokens.find(given)
        if token is None:
            return None
        if not tokens.is_valid(token):
            return Code.UNAUTHENTICATED, f"the token {token.name!r} has expired; make another one with 'modvisor token'"

        is_in = partial(tokens.is_valid, token)
        return Operator(f"operator:{token.name}", token.scope, address, token.reads_payloads, is_in, token)

    def _by_session(self, request: Request, cookie: str) -> Operator | Refused:
        """Return who is logged in with this cookie. Nobody guesses 256 bits, so a wrong one is no guess."""
        if (refused := self.refused_place(request)) is not None:
            return refused
        session = self.sessions.find(cookie)
        if session is None:
            return Code.UNAUTHENTICATED, _NO_SESSION
        if request.method != "GET" and not has_csrf(request, session):
            return Code.FORBIDDEN, NO_CSRF
        return self._logged_in(session, self.address_of(request))

    def refused_place(self, request: Request) -> Refused | None:
        """Return why operators may not come from where this request comes from; None if they may."""
        if _is_loopback(request) or self._may_come_from_elsewhere(request):
            return None
        return Code.FORBIDDEN, self._why_here_only()

    def _logged_in(self, session: Session, address: str) -> Operator:
        grant = session.grant
        is_open = partial(self.sessions.is_open, session)
        return Operator(grant.who, grant.scope, address, grant.payloads, is_open, grant.token)

    def _may_come_from_elsewhere(self, request: Request) -> bool:
        """Return whether the request came over TLS, and the operator may come from other machines."""
        return self._config().remote and self.is_secure(request)

    def is_secure(self, request: Request) -> bool:
        """Return whether the request came over TLS, to us or to a trusted proxy."""
        if request.url.scheme == "https":
            return True
        peer = peer_address(request.scope)
        is_proxy = peer is not None and is_in(peer, self._http().trusted_proxies)
        return is_proxy and Headers(scope=request.scope).get("x-forwarded-proto", "").strip().lower() == "https"

    def cookie_name(self, request: Request) -> str:
        """Return the name of the session's cookie. Browsers send the cookies of one port to all ports of a host."""
        port = (request.scope.get("server") or ("", None))[1]
        return f"{'__Host-' if self.is_secure(request) else ''}modvisor_session{'' if port is None else f'_{port}'}"

    def session_of(self, request: Request) -> tuple[str, Session] | None:
        """Return who is logged in, with the secret of the cookie; None: nobody."""
        secret = request.cookies.get(self.cookie_name(request))
        session = self.sessions.find(secret) if secret else None
        return None if session is None or secret is None else (secret, session)

    def _why_here_only(self) -> str:
        if self._config().remote:
            return "the admin API is served to other machines over TLS only"
        return "the admin API is served to this machine only"


class SocketGate:
    """Names who asks over the unix socket: the user and the process that opened it."""

    def __init__(self, admin: ASGIApp) -> None:
        self._admin = admin

    async def __call__(self, scope: Asked, receive: Receive, send: Send) -> None:
        who = _peer_of(scope)
        scope[OPERATOR] = Operator(who, Scope.ADMIN)
        with acting(who):
            await self._admin(scope, receive, send)


def has_csrf(request: Request, session: Session) -> bool:
    """Return whether a request carries what only a page of this network knows of its session."""
    given = request.headers.get(CSRF, "").encode("latin-1", "replace")
    return hmac.compare_digest(given, session.csrf.encode())


def needed_scope(admin: ASGIApp, asked: Asked) -> Scope:
    """Return the scope that a request needs. Routes that name none need every right, and no route needs the least."""
    routes = admin.routes if isinstance(admin, Starlette) else []
    for route in routes:
        if route.matches(asked)[0] is Match.FULL:
            return route.scope if isinstance(route, SpecRoute) and route.scope is not None else Scope.ADMIN
    return Scope.READ


def _peer_of(scope: Asked) -> str:
    """Return the name of the process at the other end of a unix socket, if the kernel tells."""
    connection = scope.get("state", {}).get("connection")
    sock = None if connection is None else connection.http.transport.get_extra_info("socket")
    if sock is None or not hasattr(socket, "SO_PEERCRED"):
        return "socket"
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return f"socket:uid {uid} pid {pid}"


def _is_loopback(request: Request) -> bool:
    """Return whether the client is on this machine, and not behind a proxy on this machine."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    address = ip_address(request.client.host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def refused_answer(code: Code, message: str) -> Response:
    answer = failure(code, message)
    if code == Code.UNAUTHENTICATED:
        answer.headers["www-authenticate"] = "Bearer"
    return answer
