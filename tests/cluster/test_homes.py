"""Agents that move from node to node, with what waits for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.agents import Refusal
from modvisor.supervisor.cluster.agents import homes, inbox_stream, inboxes
from modvisor.supervisor.cluster.agents.inbox_stream import InboxStream
from modvisor.supervisor.cluster.link import Link, LinkDown

from .nodes import Node, Present, running, same, until
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


async def test_an_agent_that_moves_keeps_its_inbox_subscriptions_and_cursor(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        alice = a.agents.get("alice")
        assert alice is not None
        a.agents.subscribe(alice, ["chat.*"], [])
        await same(a, b)
        for number in range(6):
            await a.send("agent:alice", number)
        stream = a.agents.open_stream(alice, lambda: None)
        taken = [stream.take() for _ in range(4)]
        assert taken[3] is not None
        assert taken[1] is not None
        stream.handled(taken[1][0])
        await b.connect("alice")
        assert stream.is_replaced
        await b.send("agent:alice", 6)
        moved = b.agents.get("alice")
        assert moved is not None
        goes_on = b.agents.open_stream(moved, lambda: None, taken[2][0] if taken[2] is not None else None)
        assert goes_on.resumed
        assert [event.payload["text"] for _, event in iter(goes_on.take, None)] == [3, 4, 5, 6]
        assert len(moved.subscriptions) == 1
        assert (a.waits("alice"), alice.subscriptions) == ([], {})


async def test_an_inbox_larger_than_a_message_moves(
    servers: Servers, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "PAGE", 2000)
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        await same(a, b)
        for number in range(60):
            await a.send("agent:alice", f"{number} {'x' * 300}")
        await b.connect("alice")
        assert [text.split()[0] for text in b.waits("alice")] == [str(number) for number in range(60)]


async def test_an_event_larger_than_a_message_moves(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        await same(a, b)
        large = "x" * 1_500_000
        for text in (large, "small"):
            await a.send("agent:alice", text)
        await b.connect("alice")
        assert b.waits("alice") == [large, "small"]
        await until(lambda: _is_written(b))  # it is not tried again and again


async def test_events_that_come_while_an_agent_moves_are_behind_what_waited(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b", "c") as nodes:
        a, b, c = nodes
        await a.register("alice")
        await same(*nodes)
        sent = []
        for number in range(60):
            sent.append(asyncio.ensure_future(c.send("agent:alice", number)))
            if number % 20 == 10:
                await asyncio.gather(*sent)
                await nodes[number // 20 % 2].connect("alice")
        assert sum(receipt.reached for receipt in await asyncio.gather(*sent)) == 60
        assert await b.texts("alice") == list(range(60))


async def test_what_waited_at_a_node_that_was_killed_is_read_from_the_stream(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        secret = await a.register("alice")
        await same(a, b)
        for number in range(5):
            await b.send("agent:alice", number)
        agent = a.agents.get("alice")
        assert agent is not None
        inbox = agent.inbox
        await until(lambda: not getattr(inbox, "unwritten"))  # noqa: B009 - of the inboxes of a cluster alone
        assert [event.payload["text"] for event in await a.agents.poll(agent, limit=2)] == [0, 1]
        await until(lambda: not getattr(inbox, "removed"))  # noqa: B009
        await a.kill()
        assert (await b.send("agent:alice", 5)).reached == 1  # this node is the home now
        assert b.agents.authenticate("alice", secret) is not None
        assert await b.texts("alice") == [2, 3, 4, 5]


async def test_a_node_that_comes_back_has_what_waited_for_its_agents(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        await same(a, b)
        for number in range(3):
            await b.send("agent:alice", number)
        await a.close()
        present = Present()
        again = await Node(servers, network_id, "a", present).open()
        assert again.waits("alice") == [0, 1, 2]
        assert await again.texts("alice") == [0, 1, 2]
        await again.close()
        present = Present()
        later = await Node(servers, network_id, "c", present).open()
        assert await later.texts("alice") == []
        await later.close()


async def test_a_node_that_ends_while_it_writes_inboxes_writes_all_of_them(
    servers: Servers, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, write = asyncio.Event(), InboxStream.write

    async def write_late(self: InboxStream, subject: str, body: Any) -> int:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()  # until the node ends
        return await write(self, subject, body)

    monkeypatch.setattr(InboxStream, "write", write_late)
    async with running(servers, network_id, "a") as (a,):
        await a.register("alice")
        await a.send("agent:alice", "waits")
        await begun.wait()
    async with running(servers, network_id, "a") as (again,):
        assert again.waits("alice") == ["waits"]


async def test_an_event_that_is_taken_while_it_is_written_is_removed_though_the_servers_fail_first(
    servers: Servers, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, failed, write = asyncio.Event(), asyncio.Event(), InboxStream.write
    begun, request = asyncio.Event(), InboxStream._request

    async def write_late(self: InboxStream, subject: str, body: Any) -> int:
        begun.set()
        await taken.wait()
        return await write(self, subject, body)

    async def fail_once(self: InboxStream, name: str, body: dict[str, Any]) -> None:
        if not failed.is_set():
            failed.set()
            raise LinkDown("the servers are away")
        await request(self, name, body)

    monkeypatch.setattr(InboxStream, "write", write_late)
    monkeypatch.setattr(InboxStream, "_request", fail_once)
    monkeypatch.setattr(inboxes, "_AGAIN", 0.01)
    async with running(servers, network_id, "a") as (a,):
        await a.register("alice")
        await a.send("agent:alice", 1)
        await begun.wait()
        assert await a.texts("alice") == [1]
        taken.set()
        await failed.wait()
        while await InboxStream(a.link).read(f"{a.link.subject('inbox')}.>"):
            await asyncio.sleep(0.01)


async def test_what_an_agent_takes_is_removed_from_the_stream(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a") as (a,):
        log = InboxStream(a.link)
        everything = f"{a.link.subject('inbox')}.>"
        for name in ("alice", "bob"):
            await a.register(name)
            for number in range(4):
                await a.send(f"agent:{name}", number)
        while len(await log.read(everything)) < 8:
            await asyncio.sleep(0.01)
        assert await a.texts("alice") == [0, 1, 2, 3]
        await a.agents.kept(lambda: a.agents.unregister("bob"))
        while await log.read(everything):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("keeps_inboxes", [True, False])
async def test_what_an_agent_took_never_comes_again_wherever_it_moves(
    servers: Servers, network_id: str, *, keeps_inboxes: bool
) -> None:
    async with running(servers, network_id, "a", "b", "c", keeps_inboxes=keeps_inboxes) as nodes:
        a, _, c = nodes
        await a.register("alice")
        await same(*nodes)
        for number in range(8):
            await c.send("agent:alice", number, event_id=f"event{number}")
            if keeps_inboxes:
                await until(lambda home=nodes[number % 3]: _is_written(home))
            assert await nodes[number % 3].texts("alice") == [number]
            assert await nodes[(number + 1) % 3].texts("alice") == []
            await a.send("agent:alice", number, event_id=f"event{number}")  # its sender heard no answer
            assert await nodes[(number + 1) % 3].texts("alice") == []


async def test_a_stream_is_read_to_its_end_while_messages_are_removed_from_it(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a") as (a,):
        log = InboxStream(a.link)
        subject = a.link.subject("inbox", "alice", "1")
        for _ in range(12):
            for number in range(30):
                await log.write(subject, number)
            found, _ = await asyncio.gather(log.read(subject), log.remove(subject, None))
            assert [body for _, _, body in found] == list(range(30))[30 - len(found) :]


async def test_what_an_agent_took_before_a_move_is_removed_from_the_stream(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        await same(a, b)
        await a.send("agent:alice", 1)
        agent = a.agents.get("alice")
        assert agent is not None
        await until(lambda: not getattr(agent.inbox, "unwritten"))  # noqa: B009
        assert await a.texts("alice") == [1]
        await b.connect("alice")
        while await InboxStream(b.link).read(f"{b.link.subject('inbox')}.>"):
            await asyncio.sleep(0.01)


async def test_of_two_nodes_that_an_agent_connects_to_one_becomes_its_home(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b", "c") as nodes:
        await nodes[0].register("alice")
        await same(*nodes)
        await nodes[0].send("agent:alice", "waits")
        await asyncio.gather(*(node.connect("alice") for node in nodes[1:]), return_exceptions=True)
        await same(*nodes)
        home = nodes[0].knows()["agents"]["alice"][3]
        assert home in ("b", "c")
        (there,) = (node for node in nodes if node.name == home)
        assert await there.texts("alice") == ["waits"]


async def test_a_node_that_does_not_hear_that_it_became_the_home_brings_what_waits(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await a.register("alice")
        alice = a.agents.get("alice")
        assert alice is not None
        a.agents.subscribe(alice, ["chat.*"], [])
        await same(a, b)
        await a.send("agent:alice", "waits")
        jetstream = b.link.jetstream
        store = jetstream.store

        async def stored_unheard(*args: Any, **more: Any) -> int:
            jetstream.store = store
            await store(*args, **more)
            raise LinkDown("the connection was lost before the answer came", was_sent=True)

        jetstream.store = stored_unheard
        with pytest.raises(ModvisorError):
            await b.connect("alice")
        await same(a, b)
        await b.connect("alice")
        moved = b.agents.get("alice")
        assert moved is not None
        assert (b.waits("alice"), len(moved.subscriptions), a.waits("alice")) == (["waits"], 1, [])


async def test_an_event_follows_an_agent_that_connects_elsewhere_while_its_lost_home_is_replaced(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b", "c") as (a, b, c):
        await c.register("alice")
        await same(a, b, c)
        await c.kill()
        homes_of_a: Any = a.agents.elsewhere
        bring = homes_of_a.bring

        async def bring_and_lose(agent: Any, **how: Any) -> None:
            await bring(agent, **how)
            await b.connect("alice")
            await same(a, b)

        homes_of_a.bring = bring_and_lose
        receipt = await a.send("agent:alice", "follows")
        assert (receipt.reached, b.waits("alice")) == (1, ["follows"])


async def test_a_node_that_only_parks_an_agent_does_not_take_it_from_where_it_connects(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b", "c") as (a, b, c):
        await c.register("alice")
        await same(a, b, c)
        await c.kill()
        jetstream = a.link.jetstream
        store = jetstream.store

        async def store_late(*args: Any, **more: Any) -> int:
            jetstream.store = store
            await b.connect("alice")
            return await store(*args, **more)

        jetstream.store = store_late
        receipt = await a.send("agent:alice", "parked")
        assert (receipt.reached, b.waits("alice"), b.knows()["agents"]["alice"][3]) == (1, ["parked"], "b")


async def test_a_stream_that_is_not_read_to_its_end_in_time_is_a_failure_of_the_servers(
    servers: Servers, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_stream._Reader, "complete", lambda _: None)
    async with running(servers, network_id, "a") as (a,):
        a.link.config = replace(a.link.config, timeout=0.01)
        with pytest.raises(ModvisorError, match="did not send all of it in time"):
            await InboxStream(a.link).read(f"{a.link.subject('inbox')}.>")


async def test_an_agent_that_registers_again_elsewhere_keeps_its_inbox(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        secret = await a.register("alice")
        await same(a, b)
        await b.send("agent:alice", "waits")
        fresh = await b.register("alice", secret=secret)
        assert await b.texts("alice") == ["waits"]
        await same(a, b)
        assert (a.agents.authenticate("alice", secret), a.agents.authenticate("alice", fresh) is not None) == (
            None,
            True,
        )


async def test_without_kept_inboxes_they_move_from_node_to_node_and_end_with_one(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b", keeps_inboxes=False) as (a, b):
        await a.register("alice")
        await same(a, b)
        await a.send("agent:alice", "moves")
        await b.connect("alice")
        assert b.waits("alice") == ["moves"]
        await a.connect("alice")
        assert (a.waits("alice"), b.waits("alice")) == (["moves"], [])
        await a.kill()
        assert (await b.send("agent:alice", "later")).reached == 1
        assert await b.texts("alice") == ["later"]


async def test_only_its_home_lets_an_agent_expire(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b", expire_after=0.001) as (a, b):
        await b.register("bob")
        await same(a, b)
        await until(lambda: b.agents.expired() == ["bob"])
        assert a.agents.expired() == []
        await b.kill()
        await until(lambda: a.agents.expired() == ["bob"])


async def test_a_kick_keeps_an_id_away_from_every_node(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a", "b") as (a, b):
        await b.register("bob")
        await same(a, b)
        await a.agents.kept(lambda: a.agents.kick("bob"))
        await until(lambda: b.agents.get("bob") is None)
        with pytest.raises(Refusal, match="was kicked"):
            await _until_refused(b)


def _is_written(node: Node) -> bool:
    agent = node.agents.get("alice")
    return agent is not None and not getattr(agent.inbox, "unwritten", ())


async def _until_refused(node: Node) -> None:
    while True:  # the word of the kick is on its way
        await node.register("bob")
        await node.agents.kept(lambda: node.agents.unregister("bob"))


async def test_a_message_on_our_subjects_from_a_stranger_moves_nothing(servers: Servers, network_id: str) -> None:
    async with running(servers, network_id, "a") as (a,):
        await a.register("alice")
        await a.send("agent:alice", "mine")
        stranger = Link(a.link.config, "another", "x")
        await stranger.open()
        try:
            stranger.tell(a.link.subject("node", "a", "release"), ["alice", "x", 0])
            await until(lambda: sum(a.link.dropped.values()) == 1)
        finally:
            await stranger.close()
        assert a.waits("alice") == ["mine"]
