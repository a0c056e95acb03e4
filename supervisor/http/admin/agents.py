"""The operator's routes of agents, channels, groups, and of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ...audit import actor
from ..access.gate import operator_of
from ..content.bodies import whole_query
from ..routes.answers import Answer, response_answer
from ..routes.params import check_known
from .spec import AGENTS, AUDIT, AUDIT_BEFORE, AUDIT_LIMIT, AUDIT_WHAT, MAX_LETTER_ID, MOST_AGENTS, NODE, PREFIX

if TYPE_CHECKING:
    from ...operations import Operations


class AgentRoutes:
    """The routes `/agents`, `/channels`, `/groups` and `/audit`."""

    def __init__(self, network: Operations) -> None:
        self._network = network

    async def list(self, request: Request) -> Response:
        check_known(request, *AGENTS.query)
        agents, total = self._network.list_agents(PREFIX.of(request) or "", MOST_AGENTS.of(request))
        return Answer({"agents": agents, "total": total})

    async def show(self, request: Request) -> Response:
        return Answer(self._network.describe_agent(request.path_params["agent"]))

    async def kick(self, request: Request) -> Response:
        operator = operator_of(request)
        by = actor().who if operator is None else operator.who
        return response_answer(await self._network.kick_agent(request.path_params["agent"], by))

    async def channels(self, request: Request) -> Response:
        return Answer({"channels": self._network.list_channels()})

    async def groups(self, request: Request) -> Response:
        return Answer({"groups": self._network.list_groups()})

    async def audit(self, request: Request) -> Response:
        check_known(request, *AUDIT.query)
        limit, what, node = AUDIT_LIMIT.of(request), AUDIT_WHAT.of(request), NODE.of(request)
        if (everywhere := self._network.look_everywhere(node)) is not None:
            return Answer(await everywhere.audit(limit, AUDIT_BEFORE.of(request), what, node))
        before = whole_query(request, AUDIT_BEFORE.name, None, 1, MAX_LETTER_ID)
        found = await self._network.audit_records(limit + 1, before, what)
        records = found[:limit]
        return Answer({"records": records, "next": records[-1].get("n") if len(found) > limit else None})
