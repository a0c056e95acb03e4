"""The page at `/`, and the requests with which an operator logs in and out there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ....ipc import __version__
from ....ipc.errors import Code
from ...config import NetworkConfig, parse_config
from ..access.gate import NO_CSRF, AdminGate, Operator, Refused, has_csrf, refused_answer
from ..access.sessions import Grant, Session
from ..content.as_json import BadBody
from ..content.bodies import SMALL_BODY, json_body
from ..routes.answers import Answer, failure, get, json_app, post
from . import spec
from .files import PAGE, Files

_NO_PAGE = "this installation has no page of this name"
_WRONG_LINK = "the link was used already, or is too old; open the page with 'modvisor open' again"
_NOBODY = "nobody is logged in; log in with a token, or open the page with 'modvisor open'"


class Board:
    """Serves the page and its logins, and gives all other requests on to the gate.

    Args:
        gate: knows who is an operator.
        config: returns the network file in force.
        files: of the page.
    """

    def __init__(self, gate: AdminGate, config: Callable[[], NetworkConfig], files: Files | None = None) -> None:
        self._gate = gate
        self._config = config
        self._files = files or Files()
        self.app = json_app(
            [
                post("/board/login", self.login, spec.LOGIN),
                get("/board/session", self.session, spec.SESSION),
                post("/board/logout", self.logout, spec.LOGOUT),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app_for(scope)(scope, receive, send)

    def _app_for(self, scope: Scope) -> ASGIApp:
        path = scope["path"]
        if not self._config().dashboard.enabled:
            return self._gate
        if path == "/":
            return (
                self._page(Request(scope)) if scope["method"] in ("GET", "HEAD") and _wants_page(scope) else self._gate
            )
        if not path.startswith("/board/"):
            return self._gate
        name = path.removeprefix("/board/")
        file = self._files.get(name) if scope["method"] in ("GET", "HEAD") else None
        return self.app if file is None else file.answer(Request(scope).headers)

    def _page(self, request: Request) -> Response:
        file = self._files.get(PAGE)
        return failure(Code.NOT_FOUND, _NO_PAGE) if file is None else file.answer(request.headers)

    # -- who is logged in

    async def login(self, request: Request) -> Response:
        body = await json_body(request, SMALL_BODY)
        spec.LOGIN.check(body)
        token, link = spec.TOKEN.of(body), spec.LINK.of(body)
        if (token is None) == (link is None):
            raise BadBody("give either 'token', an operator's token, or 'link', the code of 'modvisor open'")
        found = self._by_token(request, token) if token else self._by_link(request, link or "")
        if not isinstance(found, Operator):
            self._gate.tell(request, found)
            return refused_answer(*found)
        self._gate.logged_in(found)
        secret, session = self._gate.sessions.open(found.grant)
        answer = Answer({"success": True, "message": f"{found.who} is logged in", "data": self._told(session)})
        answer.set_cookie(
            self._gate.cookie_name(request),
            secret,
            secure=self._gate.is_secure(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    def _by_token(self, request: Request, token: str) -> Operator | Refused:
        # The gate reads tokens as headers carry them: bytes as Latin-1 text.
        return self._gate.by_token(request, token.encode("utf-8", "surrogatepass").decode("latin-1"))

    def _by_link(self, request: Request, code: str) -> Operator | Refused:
        def find() -> Operator | None:
            grant = self._gate.sessions.redeem(code)
            return None if grant is None else self._operator(request, grant)

        return self._gate.proved(request, code, find, _WRONG_LINK, _WRONG_LINK)

    def _operator(self, request: Request, grant: Grant) -> Operator:
        address = self._gate.address_of(request)
        return Operator(grant.who, grant.scope, address, grant.payloads, token=grant.token)

    async def session(self, request: Request) -> Response:
        if (refused := self._gate.refused_place(request)) is not None:
            return refused_answer(*refused)
        found = self._gate.session_of(request)
        if found is None:
            return failure(Code.UNAUTHENTICATED, _NOBODY)
        return Answer({"success": True, "message": "", "data": self._told(found[1])})

    async def logout(self, request: Request) -> Response:
        found = self._gate.session_of(request)
        if found is None:
            return failure(Code.UNAUTHENTICATED, _NOBODY)
        if not has_csrf(request, found[1]):
            return failure(Code.FORBIDDEN, NO_CSRF)
        self._gate.sessions.close(found[0])
        answer = Answer({"success": True, "message": "nobody is logged in", "data": None})
        answer.delete_cookie(
            self._gate.cookie_name(request), secure=self._gate.is_secure(request), httponly=True, samesite="strict"
        )
        return answer

    def _told(self, session: Session) -> dict[str, Any]:
        grant, ends = session.grant, time.time() + self._gate.sessions.lasts(session)
        token_ends = None if grant.token is None else grant.token.expires_at
        return {
            "who": grant.who,
            "scope": grant.scope.word,
            "payloads": grant.payloads,
            "csrf": session.csrf,
            "expires_at": ends if token_ends is None else min(ends, token_ends),
            "network": self._config().name,
            "version": __version__,
        }


def board_routes() -> Starlette:
    """Return the application of the page's own requests, for their description."""
    nobody = json_app([])
    return Board(AdminGate(nobody, nobody, None), lambda: parse_config({"network": {"name": "any"}}, base_dir="/")).app


def _wants_page(scope: Scope) -> bool:
    """Return whether whoever asks reads pages. Programs that ask for `/` get the answer of the API."""
    return any("text/html" in accepted for accepted in Request(scope).headers.getlist("accept"))
