"""The operator's routes of tokens: list them, make one, revoke one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ..content.bodies import json_body
from ..routes.answers import Answer
from .spec import TOKEN, TOKEN_EXPIRES, TOKEN_NAME, TOKEN_PAYLOADS, TOKEN_SCOPE

if TYPE_CHECKING:
    from ...operations import Operations


class TokenRoutes:
    """The routes `/tokens`."""

    def __init__(self, network: Operations) -> None:
        self._network = network

    async def list(self, request: Request) -> Response:
        return Answer({"tokens": self._network.list_tokens()})

    async def create(self, request: Request) -> Response:
        body = await json_body(request)
        TOKEN.check(body)
        name = TOKEN_NAME.of(body)
        scope, lasts = TOKEN_SCOPE.of(body), TOKEN_EXPIRES.of(body) or None
        made = await self._network.create_token(name, scope, lasts, payloads=TOKEN_PAYLOADS.of(body))
        return Answer({"success": True, "message": f"token {name} made", "data": made})

    async def revoke(self, request: Request) -> Response:
        name = request.path_params["token"]
        await self._network.revoke_token(name)
        return Answer({"success": True, "message": f"token {name} revoked", "data": {"name": name}})
