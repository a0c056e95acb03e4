"""The agents' API. Clients of OpenAgents 0.9 work with it unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ....ipc.address import check_agent_id
from ....ipc.errors import Code, InvalidEvent, ModvisorError, shown
from ....ipc.event import Event, EventResponse
from ....ipc.topic import check_pattern
from ..content.as_json import BadBody, to_json
from ..content.as_msgpack import to_msgpack, wants_packed
from ..content.bodies import SMALL_BODY, credentials, read_body
from ..content.failures import failure_body, status_of
from ..door.clients import counted_as, is_exempt
from ..door.connection import parked
from ..door.places import Rank
from ..requests.asked import Asked
from ..requests.direct import Endpoint
from ..requests.intake import Intake
from ..requests.spans import in_trace_of
from ..routes.answers import (
    Answer,
    Write,
    failure,
    get,
    json_app,
    post,
    render_answer,
    render_response,
    response_answer,
    response_body,
)
from ..routes.streams import first_of, until_disconnected
from ..wire.protocol import HttpProtocol
from .codec import Encodings
from .openagents import event_from
from .polled import render_poll
from .spec import (
    AGENT_ID,
    CURSOR,
    DESCRIBING,
    EVENTS,
    HEALTH,
    LIMIT,
    NAMES,
    POLL,
    REGISTER,
    SECRET,
    SEND_EVENT,
    SOCKET,
    UNREGISTER,
    WAIT,
)
from .sse import EventStream

if TYPE_CHECKING:
    from ...operations import Operations


def agents_app(network: Operations) -> Starlette:
    """Make the application that agents talk to."""
    return AgentsApi(network).app()


class AgentsApi:
    """What agents ask of a network.

    Args:
        stopping: set when the server stops, which ends long-polls.
        make_room: closes the connection whose body takes longest.

    Attributes:
        network: the network that is asked.
        intake: reads the bodies.
        encodings: the newest events as bytes, which streams and WebSockets share.
    """

    def __init__(
        self, network: Operations, stopping: asyncio.Event | None = None, make_room: Callable[[], None] = lambda: None
    ) -> None:
        self.network = network
        self._stopping = stopping or asyncio.Event()
        self.intake = Intake(lambda: network.config.http, make_room)
        self.encodings = Encodings()
        self._is_traced = network.config.tracing.otlp is not None  # which needs a restart to change

    def app(self, more: Sequence[Route] = ()) -> Starlette:
        """Make the application.

        Args:
            more: routes that are no agent's.
        """
        return json_app(
            [
                get("/api/health", self.health, HEALTH),
                post("/api/register", self.register, REGISTER),
                post("/api/send_event", self.send_event, SEND_EVENT),
                get("/api/poll", self.poll, POLL),
                get("/api/events", self.events, EVENTS),
                post("/api/unregister", self.unregister, UNREGISTER),
                get("/ws", self.no_socket, SOCKET),
            ],
            more,
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
        data = self.network.health()
        agent_id, secret = credentials(asked)
        if agent_id is not None and self._knows(asked, agent_id, secret):
            data["agents"] = self.network.agents_known_to(agent_id)
        return to_json({"success": True, "status": "healthy", "data": data})

    async def register(self, request: Request) -> Response:
        status, answer = await self._register(self._asked(request), await self.intake.read_json(request))
        return Answer(answer, status)

    async def _register_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> tuple[int, bytes]:
        return await self._register(asked, self.intake.small_json(asked.headers, body))

    async def _register(self, asked: Asked, body: dict[str, Any]) -> tuple[int, bytes]:
        """Return status and body of the answer to a registration."""
        agent_id = _agent_id(body)
        payload = {"agent_id": agent_id, **{key.name: key.of(body) for key in DESCRIBING}}
        response = await self.register_agent(asked, payload, SECRET.of(body))
        if not response.success:
            return status_of(response.error), render_response(response_body(response))
        names = ("network_name", "network_id", "secret", "assigned_group")
        return 200, _writer(asked)({"success": True, **{name: response.data[name] for name in names}})

    async def register_agent(self, asked: Asked, payload: dict[str, Any], secret: str | None) -> EventResponse:
        """Register an agent; the payload is that of `system.register_agent`."""
        event = Event("system.register_agent", payload["agent_id"], payload=payload, secret=secret)
        response = await self.network.process_external_event(event, address=self.counted(asked))
        if response.success:
            self.note_known(asked, payload["agent_id"])  # no sign of life: the agent has not come back yet
        return response

    async def unregister(self, request: Request) -> Response:
        asked, body = self._asked(request), await self.intake.read_json(request)
        agent_id = _agent_id(body)
        event = Event("system.unregister_agent", agent_id, payload={"agent_id": agent_id}, secret=SECRET.of(body))
        response = await self.network.process_external_event(event, address=self.counted(asked))
        if not response.success:
            return response_answer(response)
        return Answer(_writer(asked)({"success": True}))

    async def send_event(self, request: Request) -> Response:
        """Answer with 200 even if the event failed: OpenAgents' client reads no other body."""
        asked = self._asked(request)
        body = await self.intake.read_json(request, is_known=self._may_send_much(asked))
        return Answer(await self._send_event(asked, body))

    def _send_event_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> Coroutine[Any, Any, bytes]:
        self._may_send_much(asked)  # notes who sends it; nothing that comes this way is large
        return self._send_event(asked, self.intake.small_json(asked.headers, body))

    async def _send_event(self, asked: Asked, body: dict[str, Any]) -> bytes:
        try:
            event = event_from(body)
        except InvalidEvent as error:
            refusal = failure_body(error.code, str(error))
            return _writer(asked)({**refusal, "event_id": body.get("event_id"), "event_name": body.get("event_name")})
        if asked.connection is not None and asked.connection.rank is Rank.STRANGER:
            self._knows(asked, event.source_agent, event.secret)
        if self._is_traced:
            in_trace_of(event, asked.headers)
        counted = self.counted(asked)
        response = await self.network.process_external_event(event, address=counted, keep=False)
        return render_answer(event, response, _writer(asked))

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
        network, agent_id, write = self.network, poll.agent_id, _writer(poll.asked)
        try:
            self.authenticate(poll.asked, agent_id, poll.secret, "a poll")
            if poll.wait:
                with parked(poll.asked.connection):
                    await until_event()
                self.authenticate(
                    poll.asked, agent_id, poll.secret, "a poll"
                )  # the id may have been taken over meanwhile
            if await is_gone():
                return None
            if poll.wait and not network.is_home(agent_id):  # it moved meanwhile, and must not come back for this
                return render_poll(agent_id, [], None, write)
            events = await network.poll_events(agent_id, limit=poll.limit)
        except ModvisorError as error:
            # With status 200, for the same reason as in `send_event`.
            return write({**failure_body(error.code, str(error)), "messages": [], "agent_id": agent_id})
        return render_poll(agent_id, events, network.dropped_events(agent_id), write)

    async def events(self, request: Request) -> Response:
        """Write events as they come, until the client goes."""
        asked = self._asked(request)
        agent_id, secret = credentials(asked)
        if agent_id is None:
            raise BadBody("agent_id: missing in the query")
        names = tuple(check_pattern(each.strip()) for each in (NAMES.of(asked) or "").split(",") if each.strip())
        await self.come_home(asked, agent_id, secret, "a stream of events")
        cursor = asked.headers.get("last-event-id") or CURSOR.of(asked) or None
        return EventStream(self.network, agent_id, names, cursor, self.encodings, self._stopping, asked.connection)

    async def no_socket(self, request: Request) -> Response:
        """Answer a request for a WebSocket that is no handshake; see `websocket.upgrades`."""
        text = "connect with a WebSocket client, by HTTP/1.1: ws://HOST:PORT/ws"
        answer = failure(Code.BAD_INPUT, text, 426)
        answer.headers["upgrade"] = "websocket"
        return answer

    async def _event(self, poll: _Poll) -> None:
        await self.network.poll_events(poll.agent_id, wait=poll.wait, limit=0)

    # -- who asks

    def _asked(self, request: Request) -> Asked:
        return Asked.by(request, self.network.config.http)

    def _may_send_much(self, asked: Asked) -> bool:
        agent_id, secret = credentials(asked)
        return self._knows(asked, agent_id, secret) or self.intake.is_known(asked.connection, asked.address)

    def _knows(self, asked: Asked, agent_id: str | None, secret: str | None) -> bool:
        """Return whether the secret is the agent's; then the connection is no stranger's."""
        if agent_id is None or not self.network.authenticate(agent_id, secret):
            return False
        self.note_known(asked, agent_id)
        return True

    def note_known(self, asked: Asked, agent_id: str) -> None:
        if asked.connection is not None:
            asked.connection.belongs_to(agent_id, is_member=self.network.is_member(agent_id))
        self.intake.know(asked.address)

    def counted(self, asked: Asked) -> str | None:
        """Return the name under which the client's address is counted; None: it is not counted."""
        address, connection = asked.address, asked.connection
        if address is None or is_exempt(address, self.network.config.http):
            return None
        if connection is not None and address is connection.peer:
            return connection.counted
        return counted_as(address)

    async def come_home(self, asked: Asked, agent_id: str, secret: str | None, what: str) -> None:
        """Check that whoever asks for this is the agent, and have this node hold its events; raises `ModvisorError`."""
        self.authenticate(asked, agent_id, secret, what)
        await self.network.bring_home(agent_id)
        self.authenticate(asked, agent_id, secret, what)  # the id may have been taken over meanwhile

    def authenticate(self, asked: Asked, agent_id: str, secret: str | None, what: str) -> None:
        """Check that whoever asks for this has the agent's secret; raises `ModvisorError` (unauthenticated)."""
        if not self._knows(asked, agent_id, secret):
            who = self.counted(asked) or "a trusted address"
            text = f"refused {what} of agent {shown(agent_id)} at {who}: not registered, or a wrong secret"
            self.network.note_refusal(Code.UNAUTHENTICATED, who, text)
            raise ModvisorError(
                f"agent {agent_id!r} is not registered or its secret is wrong; register and send the secret you get",
                code=Code.UNAUTHENTICATED,
            )


class _Poll(NamedTuple):
    """A poll of an agent's inbox, as it is asked for."""

    asked: Asked
    agent_id: str
    secret: str | None
    wait: float
    limit: int | None


def _writer(asked: Asked) -> Write:
    """Return what writes an answer in the form that the client asks for."""
    return to_msgpack if wants_packed(asked.headers) else to_json


def _agent_id(body: dict[str, Any]) -> str:
    agent_id = AGENT_ID.of(body).removeprefix("agent:")
    # Checked here, so that the failure names the id; an address of another role is forbidden later.
    return agent_id if ":" in agent_id else check_agent_id(agent_id)
