"""The operator's routes of a cluster: see its nodes, have one hand over its mods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ....ipc.errors import Code, ModvisorError
from ...fleet import Everywhere
from ..routes.answers import Answer, response_answer

if TYPE_CHECKING:
    from ...operations import Operations


class NodeRoutes:
    """The routes `/cluster` and `/nodes`."""

    def __init__(self, network: Operations) -> None:
        self._network = network

    def _everywhere(self) -> Everywhere:
        found = self._network.everywhere
        if found is None:
            text = "this network has no nodes: there is no 'cluster' section in its file"
            raise ModvisorError(text, code=Code.CONFLICT)
        return found

    async def cluster(self, request: Request) -> Response:
        return Answer(await self._everywhere().overview())

    async def drain(self, request: Request) -> Response:
        node = request.path_params["node"]
        everywhere = self._everywhere()
        return response_answer(await self._network.audited("node.drain", on=node, do=lambda: everywhere.drain(node)))
