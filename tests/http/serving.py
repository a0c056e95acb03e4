"""A network that is served, with a client for each of its APIs."""

from __future__ import annotations

import os
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.http.door.sockets import reachable
from modvisor.supervisor.http.requests.intake import Intake

JSON = {"Content-Type": "application/json"}

TALKER = """
    import asyncio, datetime

    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Talker(BaseMod):
        version = "1.0"

        @mod_event_handler("test.ping")
        async def ping(self, event):
            return EventResponse(True, "pong", data={"i": event.payload.get("i"), "from": event.source_id})

        @mod_event_handler("test.values")
        async def values(self, event):
            when = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
            return EventResponse(True, data={"bytes": b"hi", "when": when, "nan": float("nan"), 1: float("inf")})

        @mod_event_handler("test.unwritable")
        async def unwritable(self, event):
            return EventResponse(True, data={"inner": {b"key": 1}})

        @mod_event_handler("test.raise")
        async def fail(self, event):
            raise RuntimeError("the handler failed")

        @mod_event_handler("test.hold")
        async def hold(self, event):
            print("holding", flush=True)
            await asyncio.sleep(60)

        @mod_event_handler("test.say")
        async def say(self, event):
            print(event.payload["text"], flush=True)
            return EventResponse(True)
"""


@dataclass
class Served:
    """``agents`` talks to the TCP port, ``admin`` to the unix socket."""

    network: AgentNetwork
    agents: httpx.AsyncClient
    admin: httpx.AsyncClient

    async def register(self, agent_id: str, **more: Any) -> str:
        response = await self.agents.post("/api/register", json={"agent_id": agent_id, **more})
        assert response.status_code == 200, response.text
        return response.json()["secret"]

    async def send(
        self, source: str | None, secret: str, name: str, target: str = "", /, **more: Any
    ) -> dict[str, Any]:
        """As OpenAgents' client sends it; returns the body of the answer, which has status 200 always."""
        body = {
            "event_id": os.urandom(8).hex(),
            "event_name": name,
            "source_id": source,
            "target_agent_id": target,
            "payload": {},
            "metadata": {},
            "visibility": "network",
            "secret": secret,
            **more,
        }
        response = await self.agents.post("/api/send_event", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def poll(self, agent_id: str, secret: str, /, **params: Any) -> dict[str, Any]:
        response = await self.agents.get("/api/poll", params={"agent_id": agent_id, "secret": secret, **params})
        assert response.status_code == 200, response.text
        return response.json()

    async def forget_agents(self) -> None:
        """Leave nobody registered to the next test that shares this network."""
        for agent_id in self.network.agent_directory():
            assert (await self.network.unregister_agent(agent_id)).success

    def requests_in_flight(self) -> int:
        assert self.network._parts is not None
        return sum(len(server.server_state.tasks) for server in self.network._parts.servers._servers)

    def waits(self, agent_id: str) -> bool:
        """Whether a long-poll of the agent waits for its first event."""
        assert self.network._parts is not None
        agent = self.network._parts.agents.get(agent_id)
        return agent is not None and agent.arrival is not None and bool(agent.arrival._waiters)


def intake_of(served: Served) -> Intake:
    assert served.network._parts is not None
    [server, *_] = served.network._parts.servers._servers
    guarded: Any = server._requests._app
    gate = guarded._app._gate
    return gate._agents.routes[1].endpoint.__self__.intake


@asynccontextmanager
async def serving(network: AgentNetwork) -> AsyncIterator[Served]:
    """Start the network, which whoever made it shuts down, and connect to it."""
    await network.initialize(admin=True)
    with reachable(network.state_dir.admin_socket) as socket_file:
        transport = httpx.AsyncHTTPTransport(uds=socket_file)
        async with (
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{network.port or 1}", trust_env=False, timeout=30, headers=JSON
            ) as agents,
            httpx.AsyncClient(base_url="http://admin", transport=transport, timeout=30, headers=JSON) as admin,
        ):
            yield Served(network, agents, admin)


@asynccontextmanager
async def shared_network(folder: Path, loaded: dict[str, str], **keys: Any) -> AsyncIterator[Served]:
    """A network that all tests of a file share, with mods by name and source."""
    for name, source in loaded.items():
        (folder / "mods" / name).mkdir(parents=True)
        (folder / "mods" / name / "mod.py").write_text(textwrap.dedent(source))
    config = {
        "network": {"name": "test", "storage": "state", "port": 0},
        "mods": [f"./{name}" for name in loaded],
        **keys,
    }
    network = AgentNetwork.from_config(config, base_dir=folder)
    try:
        async with serving(network) as served:
            yield served
    finally:
        await network.shutdown()
