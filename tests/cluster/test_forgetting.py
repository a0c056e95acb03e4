"""What a cluster keeps of an agent is deleted on request: in the buckets, in the streams, and on each node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.cluster.link import Link
from modvisor.supervisor.cluster.moving.moving import forget_at_rest
from modvisor.supervisor.config import parse_config
from modvisor.supervisor.journal import JournalAtRest
from tests.conftest import until

from .conftest import Linked
from .networks import Nodes, config_of_node, nodes
from .servers import Servers
from .test_moving import LETTER, NOTES, join, note

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

REPORT = {"mod_id": "notes", "in_flight": [{"source_id": "agent:alice", "event_name": "note.add"}]}


@pytest.fixture
def mods(write_mod: Callable[..., str]) -> list[dict[str, Any]]:
    return [{"path": write_mod("notes", NOTES), "config": {"gate": "/"}, "durable": True, "placement": {"on": ["a"]}}]


async def lived(a: AgentNetwork, b: AgentNetwork) -> None:
    """Have alice leave traces everywhere: on node b a crash report."""
    await asyncio.gather(a.initialize(), b.initialize())
    await until(lambda: a.get_loaded_mods().get("notes", {}).get("state") == "ready", 20)
    for agent_id in ("alice", "bob"):
        assert (await a.register_agent(agent_id)).success
    await join(a, "den", "bob", "alice")
    assert (await a.make_invite(agent="alice")).success
    assert (await note(a, "x", "id-1")).success
    journal = a._running().journal  # type: ignore[attr-defined]
    at = time.time()
    await journal.bury(replace(LETTER, at=at))
    other = {**LETTER.event, "source_id": "agent:bob", "event_id": "other"}
    await journal.bury(replace(LETTER, at=at, event=other, report=REPORT))
    b._running().journal.keep_crash("notes", at, REPORT)  # type: ignore[attr-defined]
    await a.process_event(Event("chat.message", "agent:bob", "agent:alice", payload={"text": "hello"}))


async def traces(link: Link, name: bytes = b"alice") -> list[str]:
    """Return the subjects of the messages in the streams of a network that name an agent."""
    found: list[str] = []
    for stored in ("durable", "inbox"):
        stream = link.names.stored(stored)
        info = await link.jetstream.request(f"STREAM.INFO.{stream}", what="look")
        for seq in range(1, info["state"]["last_seq"] + 1):
            message = await link.jetstream.read(stream, what="look", seq=seq)
            if message is not None and (name in message.data or name in message.subject.encode()):
                found.append(message.subject)
    agents = await (await link.bucket("agents")).all()
    return found + [key for key, value in agents.items() if name.decode() in f"{key} {value}"]


async def test_every_node_forgets_an_agent(
    nodes: Nodes, mods: list[dict[str, Any]], linked: Linked, servers: Servers, tmp_path: Path
) -> None:
    a, b = nodes("a", mods), nodes("b", mods)
    await lived(a, b)
    link = await linked(servers, "x")
    assert await traces(link)
    response = await a.forget_agent("alice")
    assert response.success, response.message
    assert response.data == {
        "agent_id": "alice", "inbox": 1, "registered": True, "channels": 1, "invites": 1, "dead_letters": 1,
        "answers": 1, "reports": 2, "waiting": 0,
    }  # fmt: skip
    assert b.list_agents("alice")[1] == 0 or await gone(b)
    [letter] = await b.dead_letters.list()
    assert letter["event"]["source_id"] == "agent:bob"
    await asyncio.gather(a.shutdown(), b.shutdown())
    assert await traces(link) == []
    with JournalAtRest(b.state_dir.database) as journal:
        assert [report["in_flight"][0]["source_id"] for report in journal.crashes(None)] == ["agent:forgotten"]


async def gone(network: AgentNetwork) -> bool:
    await until(lambda: network.list_agents("alice")[1] == 0, 10)
    return True


async def test_a_cluster_at_rest_forgets_an_agent(
    nodes: Nodes, mods: list[dict[str, Any]], linked: Linked, servers: Servers, network_id: str, tmp_path: Path
) -> None:
    config = parse_config(config_of_node(servers, network_id, tmp_path, "a", mods), base_dir=tmp_path)
    a, b = nodes("a", mods), nodes("b", mods)
    await lived(a, b)
    with pytest.raises(ModvisorError, match="nodes of this network run: a, b"):
        await forget_at_rest(config, "alice")
    await asyncio.gather(a.shutdown(), b.shutdown())
    found = await forget_at_rest(config, "alice")
    assert (found.registered, found.channels, found.invites, found.dead_letters, found.answers, found.reports) == (
        True, 1, 1, 1, 1, 1,
    )  # fmt: skip
    assert await traces(await linked(servers, "x")) == []
