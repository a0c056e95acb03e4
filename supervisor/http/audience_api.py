"""The operator's API of versions: whose events each gets, promotion and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import get, post, response_answer
from .bodies import check_keys, json_body
from .wire import BadBody

if TYPE_CHECKING:
    from ..operations import Operations

_KEYS = frozenset({"percent", "groups", "agents", "everyone"})


class AudienceApi:
    """The routes below ``/mods/MOD``; MOD may be a family, where no version is meant."""

    def __init__(self, network: Operations) -> None:
        self._network = network

    def routes(self, prefix: str) -> list[Route]:
        mod = f"{prefix}/mods/{{mod:path}}"
        return [
            get(f"{mod}/audience", self.show),
            post(f"{mod}/audience", self.change),
            post(f"{mod}/promote", self.promote),
            post(f"{mod}/rollback", self.rollback),
        ]

    async def show(self, request: Request) -> Response:
        return response_answer(self._network.get_audience(request.path_params["mod"]))

    async def change(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, _KEYS)
        everyone = body.pop("everyone", False)
        if not isinstance(everyone, bool):
            raise BadBody(f"everyone: expected true or false, got {type(everyone).__name__}")
        mod = request.path_params["mod"]
        return response_answer(await self._network.set_audience(mod, everyone=everyone, **body))

    async def promote(self, request: Request) -> Response:
        return response_answer(await self._network.promote_mod(request.path_params["mod"]))

    async def rollback(self, request: Request) -> Response:
        return response_answer(await self._network.rollback_mod(request.path_params["mod"]))
