"""Two whole networks that are one: agents over HTTP and WebSocket, each at any node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.cluster.agents import deliveries
from modvisor_client import AgentClient
from tests.conftest import until

from .networks import config_of_node, take
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


@asynccontextmanager
async def network_of(servers: Servers, network_id: str, folder: Path, *names: str) -> AsyncIterator[list[AgentNetwork]]:
    made = []
    for name in names:
        config: dict[str, Any] = config_of_node(servers, network_id, folder, name)
        config["network"].update(host="127.0.0.1", port=0)
        made.append(AgentNetwork.from_config(config, base_dir=folder))
    try:
        await asyncio.gather(*(network.initialize() for network in made))
        yield made
    finally:
        await asyncio.gather(*(network.shutdown() for network in made))


def url(network: AgentNetwork) -> str:
    return f"http://127.0.0.1:{network.port}"


async def send(client: AgentClient, to: str, number: int) -> Any:
    return await client.send("chat.message", {"number": number}, to=to)


def knows(network: AgentNetwork, agent_id: str) -> bool:
    return network._running().agents.get(agent_id) is not None  # type: ignore[attr-defined]


def members(network: AgentNetwork, channel: str) -> set[str]:
    return set(network._running().agents.channel_members(channel) or ())  # type: ignore[attr-defined]


async def registered(at_a: AsyncClient, b: AgentNetwork) -> dict[str, str]:
    """Register alice at one node, and return her credentials when the other node knows them."""
    answer = (await at_a.post("/api/register", json={"agent_id": "alice"})).json()
    await until(lambda: b.authenticate("alice", answer["secret"]))
    return {"agent_id": "alice", "secret": answer["secret"]}


async def test_agents_talk_whatever_nodes_they_are_connected_to(
    servers: Servers, network_id: str, tmp_path: Path
) -> None:
    async with (
        network_of(servers, network_id, tmp_path, "a", "b") as (a, b),
        AgentClient(url(a), "alice") as alice,
        AgentClient(url(b), "bob") as bob,
    ):
        await until(lambda: knows(a, "bob") and knows(b, "alice"))
        assert (await send(alice, "agent:bob", 1)).data["delivered"] == 1
        assert (await send(bob, "agent:alice", 2)).data["delivered"] == 1
        await alice.join("hall")
        await bob.join("hall")
        await until(lambda: all(members(network, "hall") == {"alice", "bob"} for network in (a, b)))
        assert (await send(alice, "channel:hall", 3)).data["delivered"] == 1
        assert (await send(bob, "agent:broadcast", 4)).data["delivered"] == 1
        assert (await take(bob, 2), await take(alice, 2)) == ([1, 3], [2, 4])
        refused = await send(alice, "agent:nobody", 5)
        assert refused.data["error"] == "no_such_agent"


async def test_a_client_moves_with_its_secret_and_loses_nothing(
    servers: Servers, network_id: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    async with (
        network_of(servers, network_id, tmp_path, "a", "b") as (a, b),
        AgentClient(url(a), "sender") as sender,
    ):
        taken: list[int] = []
        for turn in range(6):
            node = (a, b)[turn % 2]
            async with AgentClient(url(node), "alice", secret_file=secret) as alice:
                for number in range(5):
                    assert (await send(sender, "agent:alice", turn * 10 + number)).data["delivered"] == 1
                taken += await take(alice, 5 if turn == 0 else 10)
            for number in range(5, 10):  # while it is away
                assert (await send(sender, "agent:alice", turn * 10 + number)).data["delivered"] == 1
        assert taken == [number for number in range(60) if number < 55]


async def test_an_agent_whose_node_was_only_cut_off_connects_again_by_itself(
    servers: Servers, network_id: str, tmp_path: Path
) -> None:
    async with (
        network_of(servers, network_id, tmp_path, "a", "b") as (a, b),
        AgentClient(url(a), "alice") as alice,
        AgentClient(url(b), "bob") as bob,
    ):
        agents: Any = b._running().agents  # type: ignore[attr-defined]
        await until(lambda: knows(b, "alice") and knows(a, "bob"))
        await agents.elsewhere.bring(agents.get("alice"), is_parked=True)  # as for an event that finds node a gone
        assert (await send(bob, "agent:alice", 1)).data["delivered"] == 1
        assert await take(alice, 1) == [1]
        assert (await send(alice, "agent:bob", 2)).data["delivered"] == 1, "it was not told that another one is alice"
        assert agents.get("alice").home == "a"


async def test_http_polls_at_any_node(servers: Servers, network_id: str, tmp_path: Path) -> None:
    async with (
        network_of(servers, network_id, tmp_path, "a", "b") as (a, b),
        AsyncClient(base_url=url(a)) as at_a,
        AsyncClient(base_url=url(b)) as at_b,
    ):
        who = await registered(at_a, b)
        subscribe = {"event_name": "system.subscribe_events", "source_id": "alice", "secret": who["secret"],
                     "payload": {"event_patterns": ["chat.*"]}}  # fmt: skip
        assert (await at_b.post("/api/send_event", json=subscribe)).json()["success"]
        for number, network in enumerate((a, b, a, b)):
            event = Event("chat.message", "system:system", "agent:alice", payload={"number": number})
            assert (await network.process_event(event)).data["delivered"] == 1
            unwanted = Event("news.message", "system:system", "agent:alice")
            assert (await network.process_event(unwanted)).data["delivered"] == 0
            poll = (await (at_b, at_a)[number % 2].get("/api/poll", params=who)).json()
            assert [each["payload"]["number"] for each in poll["messages"]] == [number]


async def test_a_command_to_poll_by_another_node_returns_more_than_a_message_carries(
    servers: Servers, network_id: str, tmp_path: Path
) -> None:
    async with (
        network_of(servers, network_id, tmp_path, "a", "b") as (a, b),
        AsyncClient(base_url=url(a)) as at_a,
        AsyncClient(base_url=url(b)) as at_b,
    ):
        who = await registered(at_a, b)
        assert (await at_a.get("/api/poll", params=who)).json()["messages"] == []
        for number in range(3):
            payload = {"number": number, "text": "x" * 500_000}
            event = Event("chat.message", "system:system", "agent:alice", payload=payload)
            assert (await a.process_event(event)).data["delivered"] == 1
        poll = {"event_name": "system.poll_messages", "source_id": "alice", "secret": who["secret"]}
        answer = (await at_b.post("/api/send_event", json=poll)).json()
        assert answer["success"], answer
        assert [each["payload"]["number"] for each in answer["data"]["messages"]] == [0, 1, 2]
        assert a.is_home("alice")


async def test_a_long_poll_at_one_node_ends_when_the_agent_moves(
    servers: Servers, network_id: str, tmp_path: Path
) -> None:
    async with (
        network_of(servers, network_id, tmp_path, "a", "b") as (a, b),
        AsyncClient(base_url=url(a)) as at_a,
        AsyncClient(base_url=url(b)) as at_b,
    ):
        who = await registered(at_a, b)
        waits = asyncio.ensure_future(at_a.get("/api/poll", params={**who, "wait": 30}))
        agents = a._parts.agents if a._parts is not None else None
        await until(lambda: agents is not None and any(agent.polling for agent in agents))
        assert (await at_b.get("/api/poll", params=who)).json()["messages"] == []
        assert (await waits).json()["messages"] == []
        assert b.is_home("alice")


@pytest.mark.parametrize("to", ["agent:bob", "channel:hall"])
async def test_a_sender_hears_in_time_that_the_node_of_a_receiver_does_not_answer(
    servers: Servers, network_id: str, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "ANSWER", 0.1)
    async with network_of(servers, network_id, tmp_path, "a", "b") as (a, b):
        await b.register_agent("bob")
        agents: Any = b._running().agents
        await agents.kept(lambda: agents.join("hall", "bob"))
        await until(lambda: members(a, "hall") == {"bob"})
        go = asyncio.Event()
        received: Any = agents.elsewhere._deliveries
        put = received._put

        def never(row: Any) -> Any:
            if go.is_set():
                return put(row)
            raise TimeoutError("this node is busy with something else")

        received._put = never
        event = Event("chat.message", "agent:alice", to, payload={"number": 1}, timeout=0.2)
        assert (await a.process_event(event)).error == "timeout"
        go.set()
        await until(lambda: len(agents.get("bob").inbox) == 1)
        await until(lambda: a.counters.deliveries == 1)
