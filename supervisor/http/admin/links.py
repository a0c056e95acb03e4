"""The operator's route of links, with which somebody logs in to the dashboard, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ....ipc.errors import Code, ModvisorError
from ...agents import Scope
from ...audit import actor
from ...config import port_url
from ..access.gate import operator_of
from ..access.sessions import Grant, Sessions
from ..content.bodies import optional_json_body
from ..routes.answers import Answer
from .spec import LINK, LINK_PAYLOADS, LINK_SCOPE

if TYPE_CHECKING:
    from ...operations import Operations


class LinkRoutes:
    """The route `/links`."""

    def __init__(self, network: Operations, sessions: Sessions) -> None:
        self._network = network
        self._sessions = sessions

    async def create(self, request: Request) -> Response:
        body = await optional_json_body(request)
        LINK.check(body)
        scope, payloads = Scope.of(LINK_SCOPE.of(body) or "admin"), LINK_PAYLOADS.of(body)
        address = self._address()
        operator = operator_of(request)
        maker = actor().who if operator is None else operator.who
        token = None if operator is None else operator.token
        payloads = payloads or scope is Scope.ADMIN
        code = self._sessions.make_link(Grant(f"link of {maker}", scope, payloads, token))
        self._network.audit_note("link.create", detail={"scope": scope.word, "payloads": payloads})
        age = self._network.config.dashboard.link_age
        data = {"url": f"{address}/#link={code}", "scope": scope.word, "payloads": payloads, "expires_in": age}
        return Answer({"success": True, "message": f"the link can be used once, within {age:g} s", "data": data})

    def _address(self) -> str:
        """Return the URL of the page on this machine; raises `ModvisorError` (conflict)."""
        config, port = self._network.config, self._network.port
        if port is None:
            text = "the network serves no HTTP port, so it has no page; give it one with 'network.port'"
            raise ModvisorError(text, code=Code.CONFLICT)
        if not config.dashboard.enabled:
            raise ModvisorError("the page is switched off ('dashboard.enabled')", code=Code.CONFLICT)
        return port_url(config.host, port, tls=config.tls is not None)
