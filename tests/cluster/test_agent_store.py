"""The cluster's bucket as a store of agents, and what its nodes learn of one another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor.agents import AgentRegistry, Refusal
from modvisor.supervisor.cluster.agents.forgetting import BUCKET
from modvisor.supervisor.cluster.agents.keys import agent_key
from modvisor.supervisor.cluster.link import LinkDown
from tests.agents.store_contract import CONFIG, GROUPS, AgentStoreContract

from .nodes import Node, Present, running, same, until
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class TestBucket(AgentStoreContract):
    @pytest.fixture(autouse=True)
    def place(self, servers: Servers, network_id: str) -> None:
        self._servers, self._network = servers, network_id

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AgentRegistry]:
        more = {"channels_per_agent": CONFIG.channels_per_agent, "groups": GROUPS}
        async with running(self._servers, self._network, "a", **more) as (node,):
            yield node.agents


async def test_what_one_node_changes_every_node_knows(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b", "c", groups=GROUPS) as (a, b, c):
        secret = await a.register("alice", group="admins", trusted=True)
        await same(a, b, c)
        await b.register("bob", address="192.0.2.7")
        await b.agents.kept(lambda: b.agents.create("den", "bob", private=True))
        _, code = await c.agents.kept(lambda: c.agents.invite(uses=2))
        await same(a, b, c)
        assert (a.knows()["private"], list(a.knows()["channels"]["den"])) == ({"den": "bob"}, ["bob"])
        await a.register("carol", invite=code)
        await c.join("hall", "alice")
        found = b.agents.authenticate("alice", secret)
        assert found is not None
        assert (found.home, found.rights.permissions) == ("a", {"agents", "mods"})
        await same(a, b, c)
        assert list(b.knows()["invites"].values()) == [1]
        await c.agents.kept(lambda: c.agents.unregister("bob"))
        await same(a, b, c)
        assert (set(a.knows()["agents"]), a.knows()["private"]) == ({"alice", "carol"}, {})


async def test_a_node_that_comes_later_knows_all(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a") as (a,):
        for number in range(50):
            await a.register(f"agent.{number}@host")
            await a.join(f"channel.{number % 7}", f"agent.{number}@host")
        later = await Node(servers, network_id, "b", Present()).open()
        assert later.knows() == a.knows()
        await later.close()


async def test_of_two_nodes_that_register_one_id_one_is_refused(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as nodes:
        begun = [
            node.agents.begin(lambda node=node: node.agents.register("alice", {"at": node.name})) for node in nodes
        ]
        done = await asyncio.gather(*(saved for _, saved in begun if saved is not None), return_exceptions=True)
        refused = [error for error in done if error is not None]
        assert [(type(error), getattr(error, "code", "")) for error in refused] == [(Refusal, Code.CONFLICT)]
        assert "agent 'alice'" in str(refused[0])
        winner = nodes[done.index(None)]
        await same(*nodes)
        (agent,) = nodes[0].agents
        assert (agent.metadata, agent.home) == ({"at": winner.name}, winner.name)


async def test_two_agents_join_a_new_channel_at_two_nodes(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        await b.register("bob")
        await same(a, b)
        await asyncio.gather(a.join("hall", "alice"), b.join("hall", "bob"))
        await same(a, b)
        assert a.knows()["channels"] == {"hall": {"alice", "bob"}}
        await asyncio.gather(
            a.agents.kept(lambda: a.agents.leave("hall", "alice")), b.agents.kept(lambda: b.agents.leave("hall", "bob"))
        )
        await same(a, b)
        assert a.knows()["channels"] == {}


async def test_a_private_channel_is_not_shared_with_who_took_its_name_in_the_same_moment(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        await b.register("bob")
        await same(a, b)
        done = await asyncio.gather(
            a.agents.kept(lambda: a.agents.create("den", "alice", private=True)),
            b.agents.kept(lambda: b.agents.join("den", "bob")),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in done) == ["NoneType", "Refusal"]
        await same(a, b)
        kept = {"alice"} if done[0] is None else {"bob"}
        assert (a.knows()["channels"], set(a.knows()["private"])) == (
            {"den": kept},
            {"den"} if done[0] is None else set(),
        )


async def test_an_invite_is_used_no_more_often_than_it_says(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b", "c") as nodes:
        _, code = await nodes[0].agents.kept(lambda: nodes[0].agents.invite(uses=2))
        await same(*nodes)
        registered = await asyncio.gather(
            *(node.register(f"at.{node.name}", invite=code) for node in nodes), return_exceptions=True
        )
        assert sorted(isinstance(each, str) for each in registered) == [False, True, True]
        await same(*nodes)
        assert (len(nodes[0].knows()["agents"]), nodes[0].knows()["invites"]) == (2, {})


async def test_an_agent_that_went_while_the_watch_was_away_goes_though_a_change_of_it_fails_meanwhile(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a") as (a,):
        await a.register("alice")
        store, jetstream, key = a.cluster._store, a.link.jetstream, agent_key("alice")
        bucket = await a.link.bucket(BUCKET)

        async def go_and_fail(*_: Any, **__: Any) -> int:
            purged = {"filter": f"$KV.{bucket.name}.{key}"}
            await jetstream.request(f"STREAM.PURGE.{bucket.stream}", purged, what="remove an agent without a mark")
            store._told(key, None, store.revision_of("alice"))  # as a watch does that begins afresh
            raise LinkDown("the connection was lost")

        setattr(jetstream, "store", go_and_fail)  # noqa: B010
        with pytest.raises(ModvisorError):
            await a.agents.kept(lambda: a.agents.unregister("alice"))
        await until(lambda: a.agents.get("alice") is None)


async def test_changes_while_no_server_answers_are_taken_back_and_known_again(
    own_server: Servers, network_id: str
) -> None:
    async with running(own_server, network_id, "a", "b") as (a, b):
        await a.register("alice")
        await same(a, b)
        own_server[0].kill()
        with pytest.raises(ModvisorError):
            await a.register("bob")
        assert set(a.knows()["agents"]) == {"alice"}
        await asyncio.to_thread(own_server[0].restart)
        await until(lambda: a.link.is_connected and b.link.is_connected)
        await b.register("carol")
        await same(a, b)
        assert set(a.knows()["agents"]) >= {"alice", "carol"}
