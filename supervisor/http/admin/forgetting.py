"""The operator's route that deletes what is kept of an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ..routes.answers import response_answer

if TYPE_CHECKING:
    from ...operations import Operations


class ForgetRoute:
    """The route `/agents/{agent}/forget`."""

    def __init__(self, network: Operations) -> None:
        self._network = network

    async def forget(self, request: Request) -> Response:
        return response_answer(await self._network.forget_agent(request.path_params["agent"]))
