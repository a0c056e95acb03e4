"""The real `AgentClient` of OpenAgents over HTTP, one for each agent of a script."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openagents.models.event import Event
from openagents.sdk.client import AgentClient


class Clients:
    """A network as its agents see it through their clients.

    Args:
        own: matches the messages with which that network itself answers.
    """

    def __init__(self, port: int, own: re.Pattern[str]) -> None:
        self.own = own
        self._port = port
        self._clients: dict[str, AgentClient] = {}
        self._inboxes: dict[str, list[dict[str, Any]]] = {}

    def __getitem__(self, agent: str) -> AgentClient:
        return self._clients[agent]

    async def send(self, event: dict[str, Any]) -> dict[str, Any]:
        agent, name = event["source_id"], event["event_name"]
        if name == "system.register_agent":
            return await self._connect(agent, event["payload"])
        if name == "system.unregister_agent":
            return {"success": await self._clients.pop(agent).disconnect(), "message": None, "data": None}
        return plain(await self._clients[agent].send_event(Event(**event)))

    async def poll(self, agent: str) -> list[dict[str, Any]]:
        await self._connector(agent).poll_messages()
        inbox = self._inboxes[agent]
        events, inbox[:] = list(inbox), []
        return events

    async def close(self) -> None:
        for client in self._clients.values():
            await client.disconnect()

    def _connector(self, agent: str) -> Any:
        return self._clients[agent].connector

    async def _connect(self, agent: str, payload: dict[str, Any]) -> dict[str, Any]:
        client = AgentClient(agent)
        more = {"metadata": payload["metadata"], "password_hash": payload.get("password_hash")}
        connected = await client.connect_to_server("127.0.0.1", self._port, **more)
        if connected:
            self._clients[agent], self._inboxes[agent] = client, []
            self._receive(client, self._inboxes[agent])
        data = {"secret": self._connector(agent).secret, "assigned_group": None} if connected else None
        return {"success": connected, "message": None, "data": data}

    @staticmethod
    def _receive(client: AgentClient, inbox: list[dict[str, Any]]) -> None:
        """Collect all that the client hears. Its own polling, once a second, waits for ours."""

        async def received(event: Event) -> None:
            inbox.append(event.model_dump(mode="json"))

        connector: Any = client.connector
        connector.register_event_handler(received)
        poll, turn = connector.poll_messages, asyncio.Lock()

        async def one_at_a_time() -> Any:
            async with turn:
                return await poll()

        connector.poll_messages = one_at_a_time


async def can_connect(port: int, agent: str, **more: Any) -> bool:
    """Tell whether a client is let in, and close its session, which a client that is refused leaves open."""
    client = AgentClient(agent)
    try:
        return await client.connect_to_server("127.0.0.1", port, **more)
    finally:
        connector: Any = client.connector
        await connector.session.close()


def plain(response: Any) -> dict[str, Any]:
    """Return success, message and data of an answer. A client drops the data of a failure."""
    return {"success": response.success, "message": response.message or None, "data": response.data}


@asynccontextmanager
async def clients_of(port: int, own: re.Pattern[str]) -> AsyncIterator[Clients]:
    clients = Clients(port, own)
    try:
        yield clients
    finally:
        await clients.close()
