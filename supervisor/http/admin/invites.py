"""The operator's routes of invites: list them, make one, take one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ..content.bodies import optional_json_body
from ..routes.answers import Answer, response_answer
from . import spec

if TYPE_CHECKING:
    from ...operations import Operations


class InviteRoutes:
    """The routes `/invites`."""

    def __init__(self, network: Operations) -> None:
        self._network = network

    async def list(self, request: Request) -> Response:
        return Answer({"invites": self._network.list_invites()})

    async def create(self, request: Request) -> Response:
        body = await optional_json_body(request)
        spec.INVITE.check(body)
        made = await self._network.make_invite(
            group=spec.INVITED_GROUP.of(body),
            agent=spec.INVITED.of(body),
            expires=spec.INVITE_EXPIRES.of(body),
            uses=spec.INVITE_USES.of(body),
        )
        return response_answer(made)

    async def revoke(self, request: Request) -> Response:
        return response_answer(await self._network.revoke_invite(request.path_params["invite"]))
