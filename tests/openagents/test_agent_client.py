"""OpenAgents' own `AgentClient` over HTTP sees the same of the thirteen mods here and in its own network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openagents.models.event import Event
from openagents.sdk.client import AgentClient

from tests.ports import free_port

from .clients import Clients, can_connect, clients_of, plain
from .driver import Driver, Record
from .ours import Ours, our_network
from .script import GROUPS, SCRIPT
from .theirs import Theirs, their_network

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
async def theirs(tmp_path: Path) -> list[Record]:
    folder, port = tmp_path / "theirs", free_port()
    async with their_network(folder, port=port), clients_of(port, Theirs.own) as clients:
        return await Driver(clients, str(folder)).run(SCRIPT)


@pytest.mark.slow
async def test_clients_see_the_same_of_all_mods_as_in_their_own_network(theirs: list[Record], tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    async with our_network(folder, port=0) as network, clients_of(network.network.port, Ours.own) as clients:
        ours = await Driver(clients, str(folder)).run(SCRIPT)
    for here, there in zip(ours, theirs, strict=True):
        assert here == there, here.step


async def told(client: AgentClient, name: str, **payload: Any) -> dict[str, Any]:
    """Have a client send an event; returns the answer."""
    to = payload.pop("to", None)
    return plain(
        await client.send_event(Event(event_name=name, source_id=client.agent_id, destination_id=to, payload=payload))
    )


async def join(clients: Clients, agent: str, group: str | None = None) -> AgentClient:
    """Connect an agent, with the password of a group."""
    payload = {"metadata": {}, "password_hash": GROUPS[group] if group else None}
    event = {"event_name": "system.register_agent", "source_id": agent, "payload": payload}
    assert (await clients.send(event))["success"]
    return clients[agent]


@pytest.fixture
async def ours(tmp_path: Path) -> AsyncIterator[Ours]:
    """A network whose group of administrators may kick."""
    mods: dict[str, dict[str, Any]] = {"openagents.mods.workspace.forum": {}, "openagents.mods.workspace.messaging": {}}
    async with our_network(tmp_path, mods, permissions={"admin": ["agents"]}, port=0) as network:
        yield network


@pytest.fixture
async def clients(ours: Ours) -> AsyncIterator[Clients]:
    async with clients_of(ours.network.port, Ours.own) as clients:
        yield clients


async def test_groups_decide_what_an_agent_sees_and_may(clients: Clients) -> None:
    alice, bob = await join(clients, "alice", "developers"), await join(clients, "bob")
    groups = {agent["agent_id"]: agent["group"] for agent in await alice.list_agents()}
    assert groups == {"alice": "developers", "bob": "guest"}
    topic = {"action": "create", "title": "Ours", "content": "x", "allowed_groups": ["developers"]}
    created = await told(alice, "forum.topic.create", **topic)
    question = {"query_type": "get_topic", "topic_id": created["data"]["topic_id"]}
    assert (await told(alice, "forum.topic.get", **question))["success"]
    assert "Permission denied" in (await told(bob, "forum.topic.get", **question))["message"]


async def test_an_event_to_a_group_reaches_its_members_alone(clients: Clients) -> None:
    alice = await join(clients, "alice", "developers")
    for agent, group in (("bob", None), ("carol", "admin"), ("dora", "developers"), ("emil", "developers")):
        await join(clients, agent, group)
    sent = await told(alice, "build.run.done", to="group:developers", n=1)
    assert sent["success"]
    received = {
        agent: [event["payload"] for event in await clients.poll(agent)] for agent in ("bob", "carol", "dora", "emil")
    }
    assert received == {"bob": [], "carol": [], "dora": [{"n": 1}], "emil": [{"n": 1}]}
    assert await clients.poll("alice") == []  # not its own


async def test_who_proves_nothing_gets_nothing(clients: Clients, ours: Ours) -> None:
    alice = await join(clients, "alice", "developers")
    port = ours.network.port
    assert not await can_connect(port, "mallory", password_hash="f" * 64)
    assert not await can_connect(port, "alice")  # it is live
    forged = Event(event_name="forum.topics.list", source_id="alice", secret="guessed")
    bob = await join(clients, "bob")
    assert not plain(await bob.send_event(forged))["success"]
    as_alice = Event(event_name="forum.topics.list", source_id="alice")  # signed with bob's secret
    assert not plain(await bob.send_event(as_alice))["success"]
    assert (await told(alice, "forum.topics.list", query_type="list_topics"))["success"]


async def test_an_administrator_kicks_an_agent(clients: Clients, ours: Ours) -> None:
    alice, bob = await join(clients, "alice", "developers"), await join(clients, "bob")
    carol = await join(clients, "carol", "admin")
    refused = await told(alice, "system.kick_agent", target_agent_id="bob")
    assert not refused["success"]
    kicked = await told(carol, "system.kick_agent", target_agent_id="bob")
    assert kicked["data"] | {"request_id": None} == {
        "type": "system_response", "command": "kick_agent", "request_id": None,
        "target_agent_id": "bob", "kicked_by": "carol", "target_group": "guest",
    }  # fmt: skip
    (heard,) = await clients.poll("alice")
    assert (heard["event_name"], heard["payload"]["target_agent_id"]) == ("system.agent_kicked", "bob")
    assert not (await told(bob, "forum.topics.list", query_type="list_topics"))["success"]
    assert not await can_connect(ours.network.port, "bob")  # not for a minute
    channels = (await told(alice, "thread.channels.list", action="list_channels"))["data"]["channels"]
    assert all("bob" not in channel["agents"] for channel in channels)
