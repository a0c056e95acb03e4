"""The agents' API. Clients of OpenAgents 0.9 work with it unchanged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

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
from .answers import Answer, get, json_app, post, render_answer, render_response, response_answer, response_body
from .asked import Asked
from .bodies import SMALL_BODY, credentials, read_body
from .clients import counted_as, is_exempt
from .connection import parked
from .direct import Endpoint
from .failures import failure_body, status_of
from .intake import Intake
from .openagents import event_from, event_to
from .places import Rank
from .protocol import HttpProtocol
from .streams import first_of, until_disconnected
from .wire import BadBody, to_json

if TYPE_CHECKING:
    from ..operations import Operations

logger = logging.getLogger("modvisor.http")


def agents_app(network: Operations) -> Starlette:
    """Make the application that agents talk to."""
    return AgentsApi(network).app()


class AgentsApi:
    """What agents ask of a network.

    Args:
        stopping: set when the server stops, which ends long-polls.
        make_room: closes the connection whose body takes longest.

    Attributes:
        intake: reads the bodies.
    """

    def __init__(
        self, network: Operations, stopping: asyncio.Event | None = None, make_room: Callable[[], None] = lambda: None
    ) -> None:
        self._network = network
        self._stopping = stopping or asyncio.Event()
        self.intake = Intake(lambda: network.config.http, make_room)

    def app(self) -> Starlette:
        return json_app(
            [
                get("/api/health", self.health, HEALTH),
                post("/api/register", self.register, REGISTER),
                post("/api/send_event", self.send_event, SEND_EVENT),
                get("/api/poll", self.poll, POLL),
                post("/api/unregister", self.unregister, UNREGISTER),
            ]
        )

    def direct(self) -> dict[tuple[str, str], Endpoint]:
        """Return the endpoints of the routes that are asked all the time."""
        return {
            ("GET", "/api/health"): self._health_directly,
            ("POST", "/api/register"): self._register_directly,
            ("POST", "/api/send_event"): self._send_event_directly,
            ("GET", "/api/poll"): self._poll_directly,
        }

    # -- routes

    async def health(self, request: Request) -> Response:
        return Answer(self._health(self._asked(request)))

    async def _health_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> bytes:
        return self._health(asked)

    def _health(self, asked: Asked) -> bytes:
        data = self._network.health()
        agent_id, secret = credentials(asked)
        if agent_id is not None and self._knows(asked, agent_id, secret):
            data["agents"] = self._network.agents_known_to(agent_id)
        return to_json({"success": True, "status": "healthy", "data": data})

    async def register(self, request: Request) -> Response:
        status, answer = await self._register(self._asked(request), await self.intake.read_json(request))
        return Answer(answer, status)

    async def _register_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> tuple[int, bytes]:
        return await self._register(asked, self.intake.small_json(body))

    async def _register(self, asked: Asked, body: dict[str, Any]) -> tuple[int, bytes]:
        """Return status and body of the answer to a registration."""
        agent_id = _agent_id(body)
        payload = {"agent_id": agent_id, **{key.name: key.of(body) for key in DESCRIBING}}
        event = Event("system.register_agent", agent_id, payload=payload, secret=SECRET.of(body))
        response = await self._network.process_external_event(event, address=self._counted(asked))
        if not response.success:
            return status_of(response.error), render_response(response_body(response))
        self._note_known(asked, agent_id)  # no sign of life: the agent has not come back yet
        names = ("network_name", "network_id", "secret", "assigned_group")
        return 200, to_json({"success": True, **{name: response.data[name] for name in names}})

    async def unregister(self, request: Request) -> Response:
        asked, body = self._asked(request), await self.intake.read_json(request)
        agent_id = _agent_id(body)
        event = Event("system.unregister_agent", agent_id, payload={"agent_id": agent_id}, secret=SECRET.of(body))
        response = await self._network.process_external_event(event, address=self._counted(asked))
        return Answer({"success": True}) if response.success else response_answer(response)

    async def send_event(self, request: Request) -> Response:
        """Answer with 200 even if the event failed: OpenAgents' client reads no other body."""
        asked = self._asked(request)
        body = await self.intake.read_json(request, is_known=self._may_send_much(asked))
        return Answer(await self._send_event(asked, body))

    def _send_event_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> Coroutine[Any, Any, bytes]:
        self._may_send_much(asked)  # notes who sends it; nothing that comes this way is large
        return self._send_event(asked, self.intake.small_json(body))

    async def _send_event(self, asked: Asked, body: dict[str, Any]) -> bytes:
        try:
            event = event_from(body)
        except InvalidEvent as error:
            refusal = failure_body(error.code, str(error))
            return to_json({**refusal, "event_id": body.get("event_id"), "event_name": body.get("event_name")})
        if asked.connection is not None and asked.connection.rank is Rank.STRANGER:
            self._knows(asked, event.source_agent, event.secret)
        counted = self._counted(asked)
        response = await self._network.process_external_event(event, address=counted, keep=False)
        return render_answer(event, response)

    async def poll(self, request: Request) -> Response:
        """Take events out of the inbox, unless the client is gone and could not read them."""
        poll = self._poll_of(self._asked(request))
        await read_body(request, SMALL_BODY)  # an unread body would hide that the client is gone

        async def until_event() -> None:
            await first_of(lambda: self._event(poll), lambda: until_disconnected(request.receive), self._stopping.wait)

        body = await self._poll(poll, until_event, request.is_disconnected)
        return Response() if body is None else Answer(body)

    async def _poll_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> bytes:
        poll = self._poll_of(asked)

        async def until_event() -> None:
            with http.waiting():
                await self._event(poll)

        return await self._poll(poll, until_event, http.is_disconnected) or b""

    def _poll_of(self, asked: Asked) -> _Poll:
        agent_id, secret = credentials(asked)
        if agent_id is None:
            raise BadBody("agent_id: missing in the query")
        return _Poll(asked, agent_id, secret, WAIT.of(asked) or 0.0, LIMIT.of(asked))

    async def _poll(
        self, poll: _Poll, until_event: Callable[[], Awaitable[None]], is_gone: Callable[[], Awaitable[bool]]
    ) -> bytes | None:
        """Return the answer to a poll; None if the client is gone.

        Args:
            until_event: waits for the first event, or until nobody waits for it any more.
        """
        network, agent_id = self._network, poll.agent_id
        try:
            self._authenticate(poll)
            if poll.wait:
                with parked(poll.asked.connection):
                    await until_event()
                self._authenticate(poll)  # the id may have been taken over meanwhile
            if await is_gone():
                return None
            events = await network.poll_events(agent_id, limit=poll.limit)
        except ModvisorError as error:
            # With status 200, for the same reason as in `send_event`.
            return to_json({**failure_body(error.code, str(error)), "messages": [], "agent_id": agent_id})
        return render_poll(agent_id, events, network.dropped_events(agent_id))

    async def _event(self, poll: _Poll) -> None:
        await self._network.poll_events(poll.agent_id, wait=poll.wait, limit=0)

    # -- who asks

    def _asked(self, request: Request) -> Asked:
        return Asked.by(request, self._network.config.http)

    def _may_send_much(self, asked: Asked) -> bool:
        agent_id, secret = credentials(asked)
        return self._knows(asked, agent_id, secret) or self.intake.is_known(asked.connection, asked.address)

    def _knows(self, asked: Asked, agent_id: str | None, secret: str | None) -> bool:
        """Return whether the secret is the agent's; then the connection is no stranger's."""
        if agent_id is None or not self._network.authenticate(agent_id, secret):
            return False
        self._note_known(asked, agent_id)
        return True

    def _note_known(self, asked: Asked, agent_id: str) -> None:
        if asked.connection is not None:
            asked.connection.belongs_to(agent_id, is_member=self._network.is_member(agent_id))
        self.intake.know(asked.address)

    def _counted(self, asked: Asked) -> str | None:
        """Return the name under which the client's address is counted; None: it is not counted."""
        address, connection = asked.address, asked.connection
        if address is None or is_exempt(address, self._network.config.http):
            return None
        if connection is not None and address is connection.peer:
            return connection.counted
        return counted_as(address)

    def _authenticate(self, poll: _Poll) -> None:
        if not self._knows(poll.asked, poll.agent_id, poll.secret):
            who = self._counted(poll.asked) or "a trusted address"
            text = f"refused a poll of agent {shown(poll.agent_id)} at {who}: not registered, or a wrong secret"
            self._network.note_refusal(Code.UNAUTHENTICATED, who, text)
            raise ModvisorError(
                f"agent {poll.agent_id!r} is not registered or its secret is wrong; register and send the secret you get",
                code=Code.UNAUTHENTICATED,
            )


class _Poll(NamedTuple):
    """A poll of an agent's inbox, as it is asked for."""

    asked: Asked
    agent_id: str
    secret: str | None
    wait: float
    limit: int | None


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
