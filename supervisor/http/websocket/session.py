"""One agent on one WebSocket: what its messages ask for, and what is pushed to it.

It begins with a hello, `register` or `resume`. Until then the client is a stranger, whose other
messages are refused. What an agent sends is an event like any other: its source and its secret are
the connection's, and the gateway checks them each time.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

from ....ipc.errors import Code, InvalidEvent, ModvisorError, Unserializable
from ....ipc.event import Event, EventResponse
from ...agents import Stream
from ..agents.api import AgentsApi
from ..agents.openagents import event_from
from ..content.as_json import BadBody
from ..content.bodies import MAX_BODY
from ..content.failures import INTERNAL_ERROR, failure_body
from ..requests.asked import Asked
from ..routes.answers import response_body
from . import closing, frames
from .frames import FROM_CLIENT, Frame
from .pushing import Pushing
from .socket import WebSocket

logger = logging.getLogger("modvisor.http")

_HELLO = (frames.REGISTER, frames.RESUME)
_UNREGISTER, _REGISTER = "system.unregister_agent", "system.register_agent"
_FOR_STRANGERS = (*_HELLO, frames.PING)


class Session:
    """What is done with the messages of one WebSocket.

    Attributes:
        in_flight: how many events wait for their answers.
        is_greeting: whether a hello is being answered. What comes behind it waits.
    """

    def __init__(self, socket: WebSocket, api: AgentsApi, asked: Asked) -> None:
        self._socket, self._api, self._asked = socket, api, asked
        self._network = api.network
        self.in_flight = 0
        self.is_greeting = self._is_leaving = False
        self._agent_id, self._secret = "", ""
        self._pushing: Pushing | None = None

    @property
    def is_greeted(self) -> bool:
        return self._pushing is not None

    # -- messages

    def take(self, message: dict[str, Any]) -> None:
        try:
            frame = self._frame_of(message)
            frame.check(message)
            self._do(frame, message)
        except ModvisorError as error:
            self._refuse(message.get("id"), error)
            if not self.is_greeted and error.code == Code.UNAUTHENTICATED:
                self._socket.end(closing.UNAUTHENTICATED)

    def _frame_of(self, message: dict[str, Any]) -> Frame:
        kind = message.get("type")
        frame = FROM_CLIENT.get(kind) if isinstance(kind, str) else None
        if frame is None:
            raise BadBody(f"type: expected one of {', '.join(FROM_CLIENT)}; got {str(kind)[:40]!r}")
        if self._pushing is None and frame not in _FOR_STRANGERS:
            text = f"{frame.kind}: say first who you are, with 'register' or 'resume'"
            raise ModvisorError(text, code=Code.UNAUTHENTICATED)
        if self._pushing is not None and frame in _HELLO:
            text = f"{frame.kind}: this connection is agent {self._agent_id!r} already; open another one"
            raise ModvisorError(text, code=Code.CONFLICT)
        return frame

    def _do(self, frame: Frame, message: dict[str, Any]) -> None:
        if frame is frames.SEND:
            self._send(message)
        elif frame is frames.ACK:
            self._pushed.handled(frames.ACKED.of(message))
        elif frame is frames.MORE:
            self._pushed.credit(frames.MORE_CREDIT.of(message))
        elif frame is frames.PING:
            self._socket.send({"type": "pong", "id": frames.ID.of(message)})
        elif frame is frames.UNREGISTER:
            self._wait_for(self._leave(frames.ID.of(message), self._farewell()))
        else:
            hello = {key.name: key.of(message) for key in frame.body.keys}
            self.is_greeting = True
            self._wait_for(self._greet(self._register if frame is frames.REGISTER else self._resume, hello))

    @property
    def _pushed(self) -> Pushing:
        assert self._pushing is not None
        return self._pushing

    # -- the hello

    async def _greet(self, by: Any, hello: dict[str, Any]) -> None:
        try:
            await by(hello)
        except ModvisorError as error:
            self._refuse(hello["id"], error)
            self._socket.end(closing.close_code(error.code))
        finally:
            self.is_greeting = False
        self._socket.go_on()

    async def _register(self, hello: dict[str, Any]) -> None:
        agent_id = hello["agent_id"].removeprefix("agent:")
        payload = {
            "agent_id": agent_id,
            "metadata": hello["metadata"],
            "agent_group": hello["group"],
            "password_hash": hello["password_hash"],
            **({"invite": hello["invite"]} if hello["invite"] else {}),
        }
        response = await self._api.register_agent(self._asked, payload, hello["secret"])
        if not response.success:
            raise _failed(response)
        await self._network.bring_home(agent_id)
        self._begin(agent_id, response.data["secret"], hello, is_new=True)

    async def _resume(self, hello: dict[str, Any]) -> None:
        agent_id = hello["agent_id"].removeprefix("agent:")
        await self._api.come_home(self._asked, agent_id, hello["secret"], "a resume")
        self._begin(agent_id, hello["secret"], hello, is_new=False)

    def _begin(self, agent_id: str, secret: str, hello: dict[str, Any], *, is_new: bool) -> None:
        """Welcome the agent, and begin to push."""
        if self._socket.is_over:  # the client is gone, and the agent stays registered
            return
        socket, network, most = self._socket, self._network, self._network.config.http
        self._agent_id, self._secret = agent_id, secret
        pushing = Pushing(
            self, socket.outgoing, socket.codec, self._api.encodings, lambda: network.config.http.ws_credit
        )
        stream = network.open_stream(agent_id, pushing.wake, hello.get("cursor"))
        self._pushing = pushing
        socket.know()
        socket.send(
            {
                "type": "welcome",
                "id": hello["id"],
                "agent_id": agent_id,
                **({"secret": secret} if is_new else {}),
                "network_id": network.config.network_id,
                "network_name": network.config.name,
                "assigned_group": stream.agent.group,
                "cursor": stream.cursor,
                "resumed": stream.resumed,
                "limits": {
                    "message_bytes": MAX_BODY,
                    "credit": most.ws_credit,
                    "in_flight": most.ws_in_flight,
                    "ping": most.ws_ping,
                },
            }
        )
        pushing.begin(stream, hello["credit"])

    # -- events

    def _send(self, message: dict[str, Any]) -> None:
        number, body = frames.ID.of(message), frames.EVENT_TO_SEND.of(message)
        try:
            event = event_from({**body, "source_id": self._agent_id, "secret": self._secret})
        except InvalidEvent as error:
            self._answer(number, failure_body(error.code, str(error)), body.get("event_id"), body.get("event_name"))
            return
        self.in_flight += 1
        self._wait_for(self._sent(number, event))

    async def _sent(self, number: int, event: Event) -> None:
        try:
            if event.event_name in (_UNREGISTER, _REGISTER):
                await self._leave(number, event)
            else:
                await self._process(number, event)
        finally:
            self.in_flight -= 1
            self._socket.answered()

    async def _process(self, number: int, event: Event) -> EventResponse:
        counted = self._api.counted(self._asked)
        response = await self._network.process_external_event(event, address=counted, keep=False)
        self._answer(number, response_body(response), event.event_id, event.event_name)
        return response

    def _answer(self, number: int, body: dict[str, Any], event_id: Any, event_name: Any) -> None:
        answer = {"type": "response", "id": number, **body, "event_id": event_id, "event_name": event_name}
        try:
            self._socket.send(answer)
        except Unserializable as error:
            text = f"the event was processed, but its answer cannot be written: {error}"
            self._socket.send({**answer, **failure_body(Code.UNSERIALIZABLE, text)})

    def _farewell(self) -> Event:
        return Event(_UNREGISTER, self._agent_id, payload={"agent_id": self._agent_id}, secret=self._secret)

    async def _leave(self, number: int, event: Event) -> None:
        """Process an event that may end the stream: the agent leaves, or registers anew and gets another secret.

        The answer comes first, then the connection ends.
        """
        self._is_leaving = True
        try:
            response = await self._process(number, event)
        finally:
            self._is_leaving = False
        if response.success and event.event_name == _UNREGISTER and self._pushed.has_ended:
            self._socket.end(closing.LEFT)
        else:
            self._pushed.wake()  # looks whether the stream has ended for another reason

    # -- pushing

    def push(self) -> None:
        if self._pushing is not None:
            self._pushing.push()

    def ended(self, stream: Stream) -> None:
        """End the connection: the stream is no longer the agent's."""
        if self._is_leaving:
            return
        if stream.is_gone:
            text = "the agent was unregistered; register again"
            self._socket.end(closing.UNAUTHENTICATED, Code.UNAUTHENTICATED, text)
        elif stream.is_moved:
            text = "this node was cut off, and the agent's inbox is at another node; connect again"
            self._socket.end(closing.MOVED, message=text)  # without an error clients connect again
        else:
            text = "another connection goes on as this agent"
            self._socket.end(closing.TAKEN_OVER, "taken_over", text)

    def lost(self) -> dict[str, Any] | None:
        """Return what the inbox lost since this was last asked."""
        return self._network.dropped_events(self._agent_id)

    def closed(self) -> None:
        if self._pushing is not None:
            self._pushing.close()

    # -- failures

    def _refuse(self, number: Any, error: ModvisorError) -> None:
        """Tell the client that its message was refused."""
        said = {"id": number} if type(number) is int and 0 <= number <= frames.LARGEST_ID else {}
        data = {"error": str(error.code), **error.details}
        self._socket.send({"type": "error", **said, "error": str(error.code), "message": str(error), "data": data})

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        self._socket.do(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # a mistake at one message must not end the server
            logger.exception("a message of agent %s failed", self._agent_id or "(none)")
            self._socket.end(1011, Code.INTERNAL, INTERNAL_ERROR)


def _failed(response: EventResponse) -> ModvisorError:
    details = {name: value for name, value in (response.data or {}).items() if name != "error"}
    return ModvisorError(response.message or "", code=response.error, **details)
