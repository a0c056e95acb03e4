"""The admin API on the TCP port: for whoever has the token and sits on this machine."""

from __future__ import annotations

import hmac
import logging
from ipaddress import ip_address

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...ipc.errors import Code
from .answers import failure
from .bodies import bearer_of

logger = logging.getLogger("modvisor.http")

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class AdminGate:
    """Sends ``/admin`` to the admin application if the request may, everything else to the agents' application."""

    def __init__(self, agents: ASGIApp, admin: ASGIApp, token: str) -> None:
        self._agents = agents
        self._admin = admin
        self._token = token.encode("utf-8", "surrogateescape")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (scope["path"] + "/").startswith("/admin/"):
            await self._agents(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            logger.warning("refused %s %s from %s: %s", request.method, request.url.path, scope["client"], refusal[1])
        app = self._admin if refusal is None else _answer(*refusal)
        await app(scope, receive, send)

    def _refusal(self, request: Request) -> tuple[Code, str] | None:
        if not _is_loopback(request):
            return Code.FORBIDDEN, "the admin API is served to this machine only"
        # Header values come as Latin-1; the bytes the client sent are compared.
        given = (bearer_of(request) or "").encode("latin-1")
        if not hmac.compare_digest(given, self._token):
            return Code.UNAUTHENTICATED, "send the header 'Authorization: Bearer TOKEN' with the token of 'admin.token'"
        return None


def _is_loopback(request: Request) -> bool:
    """Whether the client is on this machine, and no proxy that stands there for somebody else."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    address = ip_address(request.client.host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _answer(code: Code, message: str) -> Response:
    answer = failure(code, message)
    if code == Code.UNAUTHENTICATED:
        answer.headers["www-authenticate"] = "Bearer"
    return answer
