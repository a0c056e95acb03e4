"""Events for agents at other nodes: to one, to a channel, a group, all; each exactly once for each agent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from modvisor.ipc.errors import Code
from modvisor.supervisor import Event
from modvisor.supervisor.agents import Parcel, Receipt, Refusal
from modvisor.supervisor.cluster.agents import deliveries
from modvisor.supervisor.cluster.link.files import Files
from modvisor.supervisor.config import GroupConfig

from .nodes import Node, running, same, until
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

GROUPS = {"crew": GroupConfig("crew")}


async def _three(nodes: list[Node]) -> None:
    for node in nodes:
        await node.register(f"at.{node.name}", group="crew" if node.name != "c" else None, trusted=True)
        await node.join("hall", f"at.{node.name}")
    await same(*nodes)


async def test_an_event_reaches_agents_channels_groups_and_all_at_every_node(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b", "c", groups=GROUPS) as nodes:
        await _three(nodes)
        a = nodes[0]
        assert (await a.send("agent:at.b", 1)).reached == 1
        assert (await a.send("channel:hall", 2)).reached == 3
        assert (await a.send("channel:hall", 3, source="agent:at.c")).reached == 2
        assert (await a.send("group:crew", 4)).reached == 2
        assert (await a.send("agent:broadcast", 5)).reached == 3
        assert [node.waits(f"at.{node.name}") for node in nodes] == [[2, 3, 4, 5], [1, 2, 3, 4, 5], [2, 5]]
        assert [a.waits(f"at.{name}") for name in "bc"] == [[], []]


async def test_only_the_home_looks_at_subscriptions(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        bob = b.agents.get("bob")
        assert bob is not None
        b.agents.subscribe(bob, ["wiki.*"], [])
        assert (await a.send("agent:bob")).reached == 0
        receipt = await a.deliver(Event("wiki.page.made", "agent:sender", "agent:bob", payload={"text": "page"}))
        assert (receipt.reached, b.waits("bob")) == (1, ["page"])


async def test_a_full_inbox_refuses_at_its_home(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b", inbox_size=2, inbox_policy="reject") as (a, b):
        await b.register("bob")
        await same(a, b)
        receipts = [await a.send("agent:bob", number) for number in range(3)]
        assert [(each.reached, each.full) for each in receipts] == [(1, 0), (1, 0), (0, 1)]


async def test_an_event_that_comes_again_by_another_node_reaches_nobody_twice(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b", "c") as nodes:
        a, b, c = nodes
        await a.register("sender")
        await b.register("bob")
        await same(*nodes)
        event = Event("chat.message", "agent:sender", "agent:bob", payload={"text": "once"})
        for node in (a, c, b, a):
            assert (await node.deliver(event)).reached == 1
        assert b.waits("bob") == ["once"]
        await c.connect("bob")
        assert (await a.deliver(event)).reached == 1
        assert await c.texts("bob") == ["once"]


async def test_the_events_of_a_source_come_in_their_order(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        await asyncio.gather(*(a.send("agent:bob", number) for number in range(300)))
        assert b.waits("bob") == list(range(300))


async def test_an_event_that_is_larger_than_a_message_goes_by_the_store_of_files(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        large = "x" * (2 * deliveries.LARGE + 1_000_000)
        assert (await a.send("agent:bob", large)).reached == 1
        assert (await a.send("agent:bob", "small")).reached == 1
        assert b.waits("bob") == [large, "small"]


async def test_each_node_that_gets_a_large_event_has_a_file_of_its_own(
    servers: Servers, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped, get, drop = asyncio.Event(), Files.get, Files.drop
    async with running(servers, network_id, "a", "b", "c", groups=GROUPS) as nodes:
        a, b, c = nodes
        await _three(nodes)

        async def get_late(self: Files, name: str) -> bytes | None:
            if self._wire is c.link:
                await dropped.wait()
            return await get(self, name)

        async def drop_and_say_so(self: Files, name: str) -> None:
            await drop(self, name)
            dropped.set()

        monkeypatch.setattr(Files, "get", get_late)
        monkeypatch.setattr(Files, "drop", drop_and_say_so)
        monkeypatch.setattr(deliveries, "PATIENCE", 5.0)
        large = "x" * (deliveries.LARGE + 1)
        receipt = await a.send("channel:hall", large, source="agent:at.a")
        assert (receipt.reached, receipt.lost) == (2, [])
        assert [node.waits(f"at.{node.name}") for node in (b, c)] == [[large], [large]]


async def test_a_large_event_whose_file_is_gone_holds_up_no_other_one(
    servers: Servers, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(_: Files, name: str) -> None:
        return None

    async with running(servers, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        monkeypatch.setattr(Files, "get", gone)
        sent = [asyncio.ensure_future(a.send("agent:bob", text)) for text in ("x" * (deliveries.LARGE + 1), "small")]
        lost, reached = await asyncio.gather(*sent)
        assert (lost.lost, reached.reached, b.waits("bob")) == (["bob"], 1, ["small"])


async def test_an_agent_that_is_gone_gets_nothing(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        sent = asyncio.ensure_future(b.agents.kept(lambda: b.agents.unregister("bob")))
        receipt = await a.send("agent:bob")
        await sent
        assert (receipt.reached, receipt.gone) in [(0, ["bob"]), (1, [])]
        await until(lambda: a.agents.get("bob") is None)
        with pytest.raises(Refusal) as refused:
            await a.send("agent:bob")
        assert refused.value.code == Code.NO_SUCH_AGENT


async def test_a_delivery_outlives_a_server_that_is_killed_and_restarted(own_server: Servers, network_id: str) -> None:
    async with running(own_server, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        assert (await a.send("agent:bob", 0)).reached == 1
        own_server[0].kill()
        await until(lambda: not a.link.is_connected)
        sent = [asyncio.ensure_future(a.send("agent:bob", number)) for number in range(1, 50)]
        await asyncio.to_thread(own_server[0].restart)
        assert [receipt.reached for receipt in await asyncio.gather(*sent)] == [1] * 49
        assert b.waits("bob") == list(range(50))


async def test_events_that_wait_behind_one_that_its_node_does_not_take_are_given_up_with_it(
    servers: Servers, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "PATIENCE", 0.2)
    monkeypatch.setattr(deliveries, "ANSWER", 0.05)
    monkeypatch.setattr(deliveries, "BATCH", 1)  # each is a message of its own
    async with running(servers, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        receive, heard = b.agents.receive, list[str]()

        def never(parcel: Parcel, ids: Collection[str]) -> Receipt:
            heard.append(parcel.event.payload["text"])
            raise TimeoutError("this node is busy with something else")

        b.agents.receive = never  # type: ignore[method-assign]
        receipts = await asyncio.gather(*(a.send("agent:bob", f"event {number}") for number in range(5)))
        assert [receipt.lost for receipt in receipts] == [["bob"]] * 5
        assert set(heard) == {"event 0"}, "each has its patience from when it was sent"
        b.agents.receive = receive  # type: ignore[method-assign]
        assert (await a.send("agent:bob", "later")).reached == 1
