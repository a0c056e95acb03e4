"""The agents' API. Clients of OpenAgents 0.9 work with it unchanged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from ...ipc.address import check_agent_id
from ...ipc.errors import Code, InvalidEvent, ModvisorError, shown
from ...ipc.event import Event
from .agents_spec import (
    AGENT_ID,
    DESCRIBING,
    HEALTH,
    LIMIT,
    POLL,
    REGISTER,
    SECRET,
    SEND_EVENT,
    UNREGISTER,
    WAIT,
)
from .answers import Answer, event_answer, get, json_app, post, response_answer
from .bodies import SMALL_BODY, credentials, read_body
from .clients import IPAddress, client_address, counted_as, is_exempt
from .connection import Rank, connection_of, parked
from .failures import failure_body
from .intake import Intake
from .openagents import event_from, event_to
from .streams import first_of, until_disconnected
from .wire import BadBody, to_json

if TYPE_CHECKING:
    from ..operations import Operations

logger = logging.getLogger("modvisor.http")


def agents_app(
    network: Operations, stopping: asyncio.Event | None = None, make_room: Callable[[], None] = lambda: None
) -> Starlette:
    """Make the application that agents talk to.

    Args:
        stopping: set when the server stops, which ends long-polls.
        make_room: closes the connection whose body takes longest.
    """
    api = _AgentsApi(network, stopping or asyncio.Event(), make_room)
    return json_app(
        [
            get("/api/health", api.health, HEALTH),
            post("/api/register", api.register, REGISTER),
            post("/api/send_event", api.send_event, SEND_EVENT),
            get("/api/poll", api.poll, POLL),
            post("/api/unregister", api.unregister, UNREGISTER),
        ]
    )


class _AgentsApi:
    def __init__(self, network: Operations, stopping: asyncio.Event, make_room: Callable[[], None]) -> None:
        self._network = network
        self._stopping = stopping
        self._intake = Intake(lambda: network.config.http, make_room)

    async def health(self, request: Request) -> Response:
        data = self._network.health()
        agent_id, secret = credentials(request)
        if agent_id is not None and self._knows(request, agent_id, secret):
            data["agents"] = self._network.agent_directory()
        return Answer({"success": True, "status": "healthy", "data": data})

    async def register(self, request: Request) -> Response:
        body = await self._intake.read_json(request)
        agent_id = _agent_id(body)
        payload = {"agent_id": agent_id, **{key.name: key.of(body) for key in DESCRIBING}}
        event = Event("system.register_agent", agent_id, payload=payload, secret=SECRET.of(body))
        response = await self._network.process_external_event(event, address=self._counted(request))
        if not response.success:
            return response_answer(response)
        self._note_known(request, agent_id)  # no sign of life: the agent has not come back yet
        names = ("network_name", "network_id", "secret", "assigned_group")
        return Answer({"success": True, **{name: response.data[name] for name in names}})

    async def unregister(self, request: Request) -> Response:
        body = await self._intake.read_json(request)
        agent_id = _agent_id(body)
        event = Event("system.unregister_agent", agent_id, payload={"agent_id": agent_id}, secret=SECRET.of(body))
        response = await self._network.process_external_event(event, address=self._counted(request))
        return Answer({"success": True}) if response.success else response_answer(response)

    async def send_event(self, request: Request) -> Response:
        """Answer with 200 even if the event failed: OpenAgents' client reads no other body."""
        body = await self._intake.read_json(request, is_known=self._may_send_much(request))
        try:
            event = event_from(body)
        except InvalidEvent as error:
            refusal = failure_body(error.code, str(error))
            return Answer({**refusal, "event_id": body.get("event_id"), "event_name": body.get("event_name")})
        if (connection := connection_of(request)) is not None and connection.rank is Rank.STRANGER:
            self._knows(request, event.source_agent, event.secret)
        response = await self._network.process_external_event(event, address=self._counted(request))
        return event_answer(event, response)

    async def poll(self, request: Request) -> Response:
        """Take events out of the inbox, unless the client is gone and could not read them."""
        agent_id, secret = credentials(request)
        if agent_id is None:
            raise BadBody("agent_id: missing in the query")
        wait, limit = WAIT.of(request) or 0.0, LIMIT.of(request)
        await read_body(request, SMALL_BODY)  # an unread body would hide that the client is gone
        try:
            self._authenticate(request, agent_id, secret)
            if wait:
                await self._until_event(request, agent_id, wait)
                self._authenticate(request, agent_id, secret)  # the id may have been taken over meanwhile
            if await request.is_disconnected():
                return Response()
            events = await self._network.poll_events(agent_id, limit=limit)
        except ModvisorError as error:
            # With status 200, for the same reason as in `send_event`.
            return Answer({**failure_body(error.code, str(error)), "messages": [], "agent_id": agent_id})
        return Answer(render_poll(agent_id, events, self._network.dropped_events(agent_id)))

    async def _until_event(self, request: Request, agent_id: str, wait: float) -> None:
        with parked(connection_of(request)):
            await first_of(
                lambda: self._network.poll_events(agent_id, wait=wait, limit=0),
                lambda: until_disconnected(request.receive),
                self._stopping.wait,
            )

    def _may_send_much(self, request: Request) -> bool:
        agent_id, secret = credentials(request)
        return self._knows(request, agent_id, secret) or self._intake.is_known(request, self._address_of(request))

    def _address_of(self, request: Request) -> IPAddress | None:
        return client_address(request.scope, self._network.config.http)

    def _knows(self, request: Request, agent_id: str | None, secret: str | None) -> bool:
        """Return whether the secret is the agent's; then the connection is no stranger's."""
        if agent_id is None or not self._network.authenticate(agent_id, secret):
            return False
        self._note_known(request, agent_id)
        return True

    def _note_known(self, request: Request, agent_id: str) -> None:
        if (connection := connection_of(request)) is not None:
            connection.belongs_to(agent_id, is_member=self._network.is_member(agent_id))
        self._intake.know(self._address_of(request))

    def _counted(self, request: Request) -> str | None:
        """Return the name under which the client's address is counted; None: it is not counted."""
        address = self._address_of(request)
        return None if address is None or is_exempt(address, self._network.config.http) else counted_as(address)

    def _authenticate(self, request: Request, agent_id: str, secret: str | None) -> None:
        if not self._knows(request, agent_id, secret):
            who = self._counted(request) or "a trusted address"
            text = f"refused a poll of agent {shown(agent_id)} at {who}: not registered, or a wrong secret"
            self._network.note_refusal(Code.UNAUTHENTICATED, who, text)
            raise ModvisorError(
                f"agent {agent_id!r} is not registered or its secret is wrong; register and send the secret you get",
                code=Code.UNAUTHENTICATED,
            )


def render_poll(agent_id: str, events: list[Event], dropped: dict[str, Any] | None = None) -> bytes:
    """Return the answer of a poll. An event that JSON cannot carry is listed as undeliverable.

    Args:
        dropped: what the agent's inbox lost since the last poll, see `Operations.dropped_events`.
    """
    messages: list[bytes] = []
    undeliverable: list[dict[str, Any]] = []
    for event in events:
        try:
            messages.append(to_json(event_to(event)))
        # A timestamp that is no time raises ValueError or OverflowError.
        except (ModvisorError, ValueError, OverflowError) as error:
            logger.error(
                "event %s (%s) cannot be sent to agent %s: %s", event.event_id, event.event_name, agent_id, error
            )
            undeliverable.append({"event_id": event.event_id, "event_name": event.event_name, "error": str(error)})
    rest: dict[str, Any] = {"agent_id": agent_id}
    if undeliverable:
        rest["undeliverable"] = undeliverable
    if dropped is not None:
        rest["dropped"] = dropped
    return b'{"success":true,"messages":[' + b",".join(messages) + b"]," + to_json(rest)[1:]


def _agent_id(body: dict[str, Any]) -> str:
    agent_id = AGENT_ID.of(body).removeprefix("agent:")
    # Checked here, so that the failure names the id; an address of another role is forbidden later.
    return agent_id if ":" in agent_id else check_agent_id(agent_id)
