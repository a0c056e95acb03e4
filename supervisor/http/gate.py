"""Who may use the admin API: over TCP whoever has a token, over the unix socket whoever can open it."""

from __future__ import annotations

import hmac
import math
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Asked

from ...ipc.errors import Code
from ..agents import Guesses, OperatorTokens, RefusalLog, Scope
from ..audit import Actor, acting
from ..config import AdminConfig, AgentsConfig, HttpConfig
from .answers import SpecRoute, failure
from .bodies import bearer_of
from .clients import client_address, counted_as, is_in, peer_address

Login = Callable[[Actor], None]

# What is guessed, and where from (see `Guesses`): every address of this machine is as good as another.
_TOKEN, _HERE = "admin.token", "this machine"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")  # headers that proxies add

LOGIN_EVERY, MOST_LOGINS = 3600.0, 1000
"""Seconds after which an operator who goes on working is recorded again, and how many are remembered. No keys
of the network file: commands are recorded each."""

OPERATOR = "modvisor.operator"  # the key of the ASGI scope that holds an `Operator`

_NO_TOKEN = "send the header 'Authorization: Bearer TOKEN' with the token of 'admin.token', or one of 'modvisor token'"
_WRONG_TOKEN = "the token in the header 'Authorization' is neither that of 'admin.token' nor one of 'modvisor token'"

Refused = tuple[Code, str]


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever sends a request to the admin API.

    Attributes:
        address: None: the unix socket.
    """

    who: str
    scope: Scope
    address: str | None = None


def operator_of(request: Request) -> Operator | None:
    """Return who sends a request; None: the program that runs the network."""
    return request.scope.get(OPERATOR)


class AdminGate:
    """Lets requests to `/admin` pass on the TCP port that carry a token with the scope for them.

    They must be from this machine, unless `admin.remote` lets others in over TLS. All other requests go
    to the agents' application, and so do those to `/admin` of a network that has no token.

    Args:
        token: of the network file; None: there is none.
        note: is told of each refusal: its code, whose it is, and a text.
        tokens: returns the tokens in force.
        login: is told who has come with a right token.
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
        self._logins: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    async def __call__(self, scope: Asked, receive: Receive, send: Send) -> None:
        is_admins = (scope["path"] + "/").startswith("/admin/")
        if not is_admins or (self._token is None and not self._tokens()):
            await self._agents(scope, receive, send)
            return
        request = Request(scope)
        address = self._address(request)
        where = _HERE if _is_loopback(request) else address
        found = self._waits(request, where) or self._judged(request, where, address)
        if isinstance(found, Operator):
            await self._let_in(found, scope, receive, send)
            return
        self._note(str(found[0]), address, f"refused {request.method} {request.url.path} from {address}: {found[1]}")
        await _refused(*found)(scope, receive, send)

    async def _let_in(self, operator: Operator, scope: Asked, receive: Receive, send: Send) -> None:
        key, now = (operator.who, operator.address), time.monotonic()
        if now - self._logins.get(key, -LOGIN_EVERY) >= LOGIN_EVERY:
            self._logins[key] = now
            self._logins.move_to_end(key)
            if len(self._logins) > MOST_LOGINS:
                self._logins.popitem(last=False)
            self._login(Actor(operator.who, operator.address))
        scope[OPERATOR] = operator
        with acting(operator.who, operator.address):
            await self._admin(scope, receive, send)

    def _address(self, request: Request) -> str:
        address = client_address(request.scope, self._http())
        return "nobody" if address is None else counted_as(address)

    def _waits(self, request: Request, where: str) -> Refused | None:
        """Refuse a token, right or wrong, after too many wrong ones from there."""
        wait = self._guesses.wait(where, [_TOKEN]) if bearer_of(request) else 0.0
        if not wait:
            return None
        return Code.TOO_MANY, f"too many wrong tokens; try again in {math.ceil(wait)} s, or use the unix socket"

    def _judged(self, request: Request, where: str, address: str) -> Operator | Refused:
        if not _is_loopback(request) and not self._may_come_from_elsewhere(request):
            return Code.FORBIDDEN, self._why_here_only()
        # Header values arrive as Latin-1 text. Compare the bytes that the client sent.
        given = (bearer_of(request) or "").encode("latin-1")
        if not given:
            return Code.UNAUTHENTICATED, _NO_TOKEN
        operator = self._who_has(given, address)
        if operator is None:
            self._guesses.wrong(where, [_TOKEN])
            return Code.UNAUTHENTICATED, _WRONG_TOKEN
        if isinstance(operator, tuple):
            return operator
        needed = needed_scope(self._admin, request.scope)
        if operator.scope < needed:
            name, has = operator.who, operator.scope.word
            return Code.FORBIDDEN, f"{name} has a token with the scope '{has}', and this needs '{needed.word}'"
        return operator

    def _who_has(self, given: bytes, address: str) -> Operator | Refused | None:
        if self._token is not None and hmac.compare_digest(given, self._token):
            return Operator("operator:admin.token", Scope.ADMIN, address)
        tokens = self._tokens()
        token = tokens.find(given)
        if token is None:
            return None
        if not tokens.is_valid(token):
            return Code.UNAUTHENTICATED, f"the token {token.name!r} has expired; make another one with 'modvisor token'"
        return Operator(f"operator:{token.name}", token.scope, address)

    def _may_come_from_elsewhere(self, request: Request) -> bool:
        """Return whether the request came over TLS, and the operator may come from other machines."""
        if not self._config().remote:
            return False
        if request.url.scheme == "https":
            return True
        peer = peer_address(request.scope)
        is_proxy = peer is not None and is_in(peer, self._http().trusted_proxies)
        return is_proxy and Headers(scope=request.scope).get("x-forwarded-proto", "").strip().lower() == "https"

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


def _refused(code: Code, message: str) -> Response:
    answer = failure(code, message)
    if code == Code.UNAUTHENTICATED:
        answer.headers["www-authenticate"] = "Bearer"
    return answer
