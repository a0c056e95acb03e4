"""An agent at the end of a WebSocket: messages in plain data, over the library that clients use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.http.websocket.socket import WebSocket
from tests.http.serving import Served

JSON, MSGPACK = "modvisor.json.v1", "modvisor.msgpack.v1"


class Talk:
    """One connection.

    Attributes:
        pushed: cursor and payload of each event that came.
        others: messages that came while another one was waited for.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.pushed: list[tuple[str, dict[str, Any]]] = []
        self.others: list[dict[str, Any]] = []
        self.secret = ""
        self._number = 0

    @property
    def is_packed(self) -> bool:
        return self.socket.subprotocol == MSGPACK

    async def say(self, kind: str, **keys: Any) -> None:
        message = {"type": kind, **keys}
        await self.socket.send(msgpack.packb(message, datetime=True) if self.is_packed else json.dumps(message))

    async def next(self) -> dict[str, Any]:
        """Return the next message."""
        async with asyncio.timeout(10):
            data = await self.socket.recv()
        message = msgpack.unpackb(data, timestamp=3, strict_map_key=False) if self.is_packed else json.loads(data)
        if message["type"] == "events":
            self.pushed += [(item["cursor"], item.get("event", item)) for item in message["events"]]
        return message

    async def hear(self, kind: str) -> dict[str, Any]:
        """Return the next message of this kind."""
        while (message := await self.next())["type"] != kind:
            self.others.append(message)
        return message

    async def ask(self, kind: str, **keys: Any) -> dict[str, Any]:
        """Return the answer to a message: the one that has its id."""
        self._number += 1
        await self.say(kind, id=self._number, **keys)
        while (message := await self.next()).get("id") != self._number:
            self.others.append(message)
        return message

    async def register(self, agent_id: str, **keys: Any) -> dict[str, Any]:
        welcome = await self.ask("register", agent_id=agent_id, **keys)
        assert welcome["type"] == "welcome", welcome
        self.secret = welcome["secret"]
        return welcome

    async def send(self, name: str, to: str | None = None, **fields: Any) -> dict[str, Any]:
        return await self.ask("send", event={"event_name": name, "destination_id": to, **fields})

    async def events(self, count: int) -> list[tuple[str, Any]]:
        """Wait until so many events have come. Return cursor and payload of each."""
        while len(self.pushed) < count:
            self.others.append(await self.next())
        return [(cursor, event["payload"]) for cursor, event in self.pushed]

    async def closed(self) -> tuple[int, dict[str, Any]]:
        """Wait for the end. Return its code, and the message that said why ({} without one)."""
        why: dict[str, Any] = {}
        try:
            while True:
                message = await self.next()
                why = message if message["type"] == "closing" else why
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else 1006, why


@asynccontextmanager
async def talking(network: AgentNetwork | Served, form: str | None = JSON, **how: Any) -> AsyncIterator[Talk]:
    """Open a WebSocket, without keepalive pings of its own."""
    port = (network.network if isinstance(network, Served) else network).port
    forms = None if form is None else [Subprotocol(form)]
    address = f"ws://127.0.0.1:{port}/ws"
    async with connect(address, subprotocols=forms, ping_interval=None, max_size=None, proxy=None, **how) as socket:
        yield Talk(socket)


def sockets_of(network: AgentNetwork | Served) -> list[WebSocket]:
    """Return the server's ends of all WebSockets."""
    network = network.network if isinstance(network, Served) else network
    assert network._parts is not None
    protocols = network._parts.servers._servers[0]._protocols()
    return [each.socket for each in protocols if isinstance(each.socket, WebSocket)]
