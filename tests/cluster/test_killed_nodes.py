"""A whole node is killed while agents are connected to it and to others: they go on elsewhere, and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from httpx import AsyncClient

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor_client import AgentClient
from tests.conftest import until
from tests.ports import free_port
from tests.processes.conftest import Marked, marked

from .networks import LEASE, NodeProcess, config_of_node, homes, name_for, take
from .servers import Servers

__all__ = ["marked"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90), pytest.mark.slow]

WORK = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Work(BaseMod):
        @mod_event_handler("work.do")
        async def do(self, event):
            if event.payload.get("kills") == self.context.fencing_token:
                os._exit(3)
            return EventResponse(True, data=self.context.fencing_token)
"""

QUICK = {"first_delay": 0, "max_delay": 0, "max_restarts": 100}


class Two:
    """Node a, which is in this process and stays, and node b, which is `modvisor run` and is killed."""

    def __init__(self, servers: Servers, network_id: str, folder: Path, mods: list[dict[str, Any]], mark: Any) -> None:
        configs = {name: config_of_node(servers, network_id, folder, name, mods) for name in "ab"}
        configs["a"]["network"].update(host="127.0.0.1", port=0)
        port = free_port()
        configs["b"]["network"].update(host="127.0.0.1", port=port)
        self.port_of_b, self.url_of_b = port, f"http://127.0.0.1:{port}"
        self.b = NodeProcess(configs["b"], folder, mark)
        self.a = AgentNetwork.from_config(configs["a"], base_dir=folder)

    @property
    def url_of_a(self) -> str:
        return f"http://127.0.0.1:{self.a.port}"

    async def b_serves(self) -> None:
        """Wait until agents can connect to node b."""
        while True:
            assert self.b.process.poll() is None, self.b.log
            with suppress(OSError):
                await (await anyio.connect_tcp("127.0.0.1", self.port_of_b)).aclose()
                return
            await asyncio.sleep(0.01)

    async def waiting(self) -> int:
        """Count the events that the stream keeps of all inboxes."""
        cluster = self.a._running().cluster
        name = cluster.link.names.stored("inbox")
        found = await cluster.link.jetstream.request(f"STREAM.INFO.{name}", {}, what="count what waits")
        return found["state"]["messages"]

    async def homes(self, **homes: str) -> None:
        """Wait until node a knows where agents are at home."""
        agents = self.a._running().agents
        await until(lambda: all((agent := agents.get(name)) and agent.home == home for name, home in homes.items()), 30)


@pytest.fixture
async def two(servers: Servers, network_id: str, tmp_path: Path, marked: Marked) -> AsyncIterator[Callable[..., Any]]:
    made: list[Two] = []

    async def two(*mods: dict[str, Any]) -> Two:
        made.append(Two(servers, network_id, tmp_path, list(mods), marked.variable))
        await made[-1].a.initialize()
        session = made[-1].a._running().cluster.session  # type: ignore[union-attr]
        await until(lambda: set(session.nodes) == {"a", "b"}, LEASE * 10)
        await made[-1].b_serves()
        return made[-1]

    yield two
    for each in made:
        await each.a.shutdown()
        each.b.kill()


async def _sent(sender: AgentClient, to: str, *numbers: int) -> None:
    for number in numbers:
        response = await sender.send("chat.message", {"number": number}, to=to)
        assert response.data["delivered"] == 1, response


async def test_agents_of_a_killed_node_go_on_at_another_one_with_what_waited(
    two: Callable[..., Any], tmp_path: Path
) -> None:
    nodes: Two = await two()
    secret = tmp_path / "secret"
    async with (
        AgentClient(nodes.url_of_a, "sender") as sender,
        AsyncClient(base_url=nodes.url_of_b) as polls_at_b,
    ):
        registered = (await polls_at_b.post("/api/register", json={"agent_id": "bob"})).json()
        async with AgentClient(nodes.url_of_b, "alice", secret_file=secret, reconnect=False) as alice:
            await nodes.homes(alice="b", bob="b")
            await _sent(sender, "alice", *range(10))
            await _sent(sender, "bob", *range(10))
            assert await take(alice, 4) == [0, 1, 2, 3]
            poll = await polls_at_b.get(
                "/api/poll", params={"agent_id": "bob", "secret": registered["secret"], "limit": 4}
            )
            assert [each["payload"]["number"] for each in poll.json()["messages"]] == [0, 1, 2, 3]
            while await nodes.waiting() != 12:  # what was taken is removed, what waits is written
                await asyncio.sleep(0.01)
            nodes.b.kill()
            await _sent(sender, "alice", *range(10, 15))  # goes to the next home, once the node is known to be gone
        await _sent(sender, "bob", *range(10, 15))
    async with (
        AgentClient(nodes.url_of_a, "alice", secret_file=secret) as alice,
        AsyncClient(base_url=nodes.url_of_a) as polls_at_a,
    ):
        assert await take(alice, 11) == list(range(4, 15))
        who = {"agent_id": "bob", "secret": registered["secret"]}
        poll = await polls_at_a.get("/api/poll", params=who)
        assert [each["payload"]["number"] for each in poll.json()["messages"]] == list(range(4, 15))
        assert (await polls_at_a.get("/api/poll", params=who)).json()["messages"] == []


async def test_dead_letters_of_a_killed_node_are_listed_and_replayed_at_another_one(
    two: Callable[..., Any], write_mod: Callable[..., str]
) -> None:
    mod_id = name_for("b", "a")
    nodes: Two = await two({"path": write_mod(mod_id, WORK), "durable": True, "max_attempts": 1, "restart": QUICK})
    a = nodes.a
    await until(lambda: homes(a) == {mod_id: "b"} and a.get_loaded_mods()[mod_id]["state"] == "ready", LEASE * 10)
    token = (await _work(a, mod_id, "asks")).data
    died = await _work(a, mod_id, "kills", kills=token)
    assert died.error == "dead_lettered", died
    nodes.b.kill()
    await until(lambda: homes(a) == {mod_id: "a"}, LEASE * 10)
    (letter,) = await a.dead_letters.list()
    assert (letter["mod_id"], letter["event"]["event_id"]) == (mod_id, "kills")
    shown = await a.dead_letters.show(letter["letter_id"])
    assert shown["event"]["payload"] == {"kills": token}
    replayed = await a.dead_letters.replay(letter["letter_id"])
    assert replayed.success, replayed
    assert replayed.data > token
    assert await a.dead_letters.list() == []


async def _work(network: AgentNetwork, mod_id: str, event_id: str, **payload: Any) -> EventResponse:
    event = Event("work.do", "agent:x", f"mod:{mod_id}", payload=payload, event_id=event_id)
    return await network.process_event(event)
