"""The whole network seen from one node: two networks with real mods, and a real NATS server between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cluster.link.link import Link
from modvisor.supervisor.cluster.nodes import looks as looks_file
from modvisor.supervisor.cluster.nodes.looks import Looks
from modvisor.supervisor.cluster.nodes.merged import Seen
from modvisor.supervisor.cluster.nodes.stores import stores
from modvisor.supervisor.cluster.nodes.views import Views
from modvisor.supervisor.fleet import ModRows

from .servers import Servers

pytestmark = pytest.mark.anyio

TALKS = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Talks(BaseMod):
    @mod_event_handler("test.say")
    async def say(self, event):
        print("says", event.payload["word"], flush=True)
        return EventResponse(True, event.payload["word"])
"""


@dataclass
class Node:
    network: AgentNetwork
    link: Link
    views: Views

    async def say(self, word: str) -> None:
        response = await self.network.process_event(Event("test.say", "agent:ann", payload={"word": word}))
        assert response.success, response.message


MakeNode = Callable[..., Awaitable[Node]]


@pytest.fixture
async def node(
    servers: Servers, linked: Callable[..., Awaitable[Link]], write_mod: Callable[..., str], tmp_path: Path
) -> AsyncIterator[MakeNode]:
    """Make a node that runs these mods; every node made is there."""
    write_mod("talks", TALKS)
    names: list[str] = []
    async with AsyncExitStack() as ends:
        tasks = await ends.enter_async_context(anyio.create_task_group())
        ends.callback(tasks.cancel_scope.cancel)

        async def make(name: str, *mods: str) -> Node:
            entries = [{"path": "./talks", "id": mod} for mod in mods]
            config = {"network": {"name": "demo", "storage": f"state-{name}"}, "mods": entries}
            network = AgentNetwork.from_config(config, base_dir=tmp_path)
            await ends.enter_async_context(network)
            parts: Any = network._running()
            rows = ModRows(lambda: parts.mods, parts.mods.families, parts.monitor, parts.history)
            link = await linked(servers, name)

            async def drained() -> EventResponse:
                return EventResponse(True, f"node {name} has handed over 0 mods")

            looks = Looks(network, link, link.subject, name, rows, drained)
            tasks.start_soon(looks.run)
            about = lambda: {"nodes": [{"node": each, "labels": []} for each in names]}  # noqa: E731
            kept = lambda: stores(link)  # noqa: E731
            views = Views(looks, link, link.subject, name, lambda: names, about, kept, network, timeout=2.0)
            network.everywhere = views
            names.append(name)
            return Node(network, link, views)

        yield make


async def until_served(views: Views) -> None:
    """Wait until all nodes that are there answer: their subjects are served a moment after they were made."""
    while any(not each.answered for each in await views.seen(None, "mods")):
        await anyio.lowlevel.checkpoint()


async def test_the_mods_of_all_nodes_are_shown_with_their_node(node: MakeNode) -> None:
    a, b = await node("a", "chat", "search"), await node("b", "search", "wiki")
    await until_served(a.views)
    answer = await a.views.mods(None)
    shown = [(mod["mod_id"], mod["node"], mod["state"]) for mod in answer["mods"]]
    assert shown == [("chat", "a", "ready"), ("search", "a", "ready"), ("search", "b", "ready"), ("wiki", "b", "ready")]
    only = await a.views.mods("b")
    assert [(mod["mod_id"], mod["node"]) for mod in only["mods"]] == [("search", "b"), ("wiki", "b")]
    assert [mod["node"] for mod in (await b.views.mods("."))["mods"]] == ["b", "b"]


async def test_what_the_nodes_count_is_added_up_and_each_is_told_apart(node: MakeNode) -> None:
    a, b = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    await a.say("one")
    await b.say("two")
    await b.say("three")
    whole = await a.views.stats(None)
    assert whole["events"]["processed"] == 3
    assert {name["node"]: name["events"]["processed"] for name in whole["nodes"]} == {"a": 1, "b": 2}
    assert whole["mods"]["wiki"]["traffic"]["events_in"] == 2
    assert (await a.views.stats("b"))["events"]["processed"] == 2


async def test_a_node_that_does_not_answer_is_named_and_the_others_are_shown(node: MakeNode, linked: Any) -> None:
    a, b = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    await b.link.close()
    answer = await a.views.mods(None)
    assert [mod["mod_id"] for mod in answer["mods"]] == ["chat"]
    silent = [each for each in answer["nodes"] if not each["answered"]]
    assert [each["node"] for each in silent] == ["b"]
    assert silent[0]["error"]


async def test_a_name_that_no_node_has_is_refused_with_those_that_there_are(node: MakeNode) -> None:
    a = await node("a", "chat")
    with pytest.raises(ModvisorError, match="no node 'c' is in this network now; there are: a") as caught:
        await a.views.mods("c")
    assert caught.value.code == Code.NOT_FOUND


async def test_the_logs_of_all_nodes_come_in_the_order_of_time(node: MakeNode) -> None:
    a, b = await node("a", "search"), await node("b", "search")
    await until_served(a.views)
    for each, word in ((a, "one"), (b, "two"), (a, "three")):
        await each.say(word)
        while not any(line.endswith(f"says {word}") for _, line in await a.views.log("search", 10, None)):
            await anyio.lowlevel.checkpoint()
    said = [(name, line.rpartition(" ")[2]) for name, line in await a.views.log("search", 10, None) if "says" in line]
    assert said == [("a", "one"), ("b", "two"), ("a", "three")]
    assert {name for name, _ in await a.views.log("search", 10, "b")} == {"b"}
    assert await a.views.log("nothing", 10, None) == []


async def test_new_lines_of_every_node_are_followed(node: MakeNode) -> None:
    a, b = await node("a", "search"), await node("b", "search")
    await until_served(a.views)
    async with a.views.follow_log("search", None) as queue:
        heard = set[str]()
        while heard != {"a", "b"}:  # following begins a moment later than it is asked for
            await a.say("word")
            await b.say("word")
            while not queue.empty():
                heard.add(queue.get_nowait()[0])


async def test_events_that_finish_on_another_node_are_followed(node: MakeNode) -> None:
    a, b = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    queue: asyncio.Queue[tuple[Event, EventResponse]] = asyncio.Queue()
    async with a.views.follow_events(queue, "test.*", None):
        while queue.empty():
            await a.say("here")
            await b.say("there")
        event, response = queue.get_nowait()
    assert (event.event_name, event.payload, response.message) == ("test.say", {"word": "there"}, "there")


async def test_a_follower_that_is_gone_is_forgotten(node: MakeNode) -> None:
    a, b = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    looks = b.views._here
    async with a.views.follow_events(asyncio.Queue(), "*", None):
        while not looks._follows:
            await anyio.lowlevel.checkpoint()
    while looks._follows:
        await anyio.lowlevel.checkpoint()


async def test_a_large_answer_comes_in_parts(node: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks_file, "PART_BYTES", 100)
    a, b = await node("a", "chat"), await node("b", "wiki", "search")
    await until_served(a.views)
    assert [mod["mod_id"] for mod in (await a.views.mods("b"))["mods"]] == ["wiki", "search"]
    assert not b.views._here._parts, "what was fetched is forgotten"


async def test_the_metrics_of_all_nodes_have_their_names(node: MakeNode) -> None:
    a, _ = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    text, _ = await a.views.metrics("text/plain", None)
    found = {
        (sample.labels.get("node"), sample.labels.get("mod"))
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if family.name in ("modvisor_mod_in_flight", "modvisor_node_up")
    }
    assert found >= {("a", None), ("b", None)}


async def test_the_rows_of_a_page_are_those_of_all_nodes(node: MakeNode) -> None:
    a, b = await node("a", "chat", "search"), await node("b", "search", "wiki")
    await until_served(a.views)
    for _ in a.network.look_at_mods(1, None):
        pass
    await a.views.look(1)
    rows = a.network.mod_rows()
    assert list(rows) == ["chat", "search/a", "search/b", "wiki"]
    assert [(row["id"], row["mod"], row["node"]) for _, row in rows.values()][2:] == [
        ("search/b", "search", "b"),
        ("wiki", "wiki", "b"),
    ]
    await b.say("one")
    await b.network.unload_mod("wiki")
    assert {each["node"] for each in a.network.whole_network_row()["nodes"]} == {"a", "b"}


async def test_another_version_that_asks_what_this_one_does_not_know_is_told_so(node: MakeNode) -> None:
    a, _ = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    (seen,) = await a.views.seen("b", "weather")
    assert seen == Seen(
        "b", error="node b: node b does not know the look 'weather'; its version differs from this node's"
    )


async def test_a_node_is_drained_from_another_one(node: MakeNode) -> None:
    a, _ = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    assert (await a.views.drain("b")).message == "node b has handed over 0 mods"
    assert (await a.views.drain("a")).message == "node a has handed over 0 mods"


async def test_the_overview_has_every_node_with_its_load(node: MakeNode) -> None:
    a, _ = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    found = await a.views.overview()
    assert [(each["node"], each["mods"], each["answered"]) for each in found["nodes"]] == [
        ("a", ["chat"], True),
        ("b", ["wiki"], True),
    ]


async def test_a_row_names_its_mod_and_its_node(node: MakeNode) -> None:
    a = await node("a", "chat")
    named = a.views.named
    assert [named(key, None) for key in ("search/b", "search", "./search", "/srv/search", "pkg.mods.wiki")] == [
        ("search", "b"), ("search", None), ("./search", None), ("/srv/search", None), ("pkg.mods.wiki", None)
    ]  # fmt: skip
    assert named("search/b", "a") == ("search", "a"), "what is asked for by name counts"


async def test_a_mod_is_described_by_the_node_that_runs_it(node: MakeNode) -> None:
    a, _ = await node("a", "chat", "search"), await node("b", "search", "wiki")
    await until_served(a.views)
    assert [(await a.views.mod(mod, on))["node"] for mod, on in (("chat", None), ("search", None), ("search", "b"))] == [
        "a", "a", "b"
    ]  # fmt: skip
    here, there = await a.views.mod("search", "a"), await a.views.mod("search", "b")
    assert here["pid"] != there["pid"]
    for mod, on in (("wiki", "a"), ("weather", None)):
        with pytest.raises(ModvisorError) as caught:
            await a.views.mod(mod, on)
        assert caught.value.code == Code.NO_SUCH_MOD


async def test_a_plan_names_all_nodes_that_would_do_it(node: MakeNode) -> None:
    a, _ = await node("a", "search"), await node("b", "search", "wiki")
    await until_served(a.views)
    assert (await a.views.plan("search", "restart"))["text"].endswith("every node that runs the mod: a, b.")
    assert "every node" not in (await a.views.plan("./talks", "restart"))["text"], "a path that names several here"


async def test_the_audits_of_all_nodes_are_read_page_by_page(node: MakeNode) -> None:
    a, b = await node("a", "chat"), await node("b", "wiki")
    await until_served(a.views)
    for network, word in ((a.network, "one"), (b.network, "two"), (a.network, "three"), (b.network, "four")):
        await network.audited("test.done", on=word, do=anyio.lowlevel.checkpoint)
    page = await a.views.audit(5, None, "test", None)
    rest = await a.views.audit(5, page["next"], "test", None)
    records = [*page["records"], *rest["records"]]
    shown = {(each["node"], each["on"], each["outcome"]) for each in records}
    words = {("a", "one"), ("b", "two"), ("a", "three"), ("b", "four")}
    assert shown == {(*each, outcome) for each in words for outcome in ("asked", "ok")}
    assert (len(page["records"]), len(rest["records"]), rest["next"]) == (5, 3, None)
    numbers = [each["n"] for each in records if each["node"] == "a"]
    assert numbers == sorted(numbers, reverse=True)
    only = await a.views.audit(9, None, "test", "b")
    assert [each["on"] for each in only["records"]] == ["four", "four", "two", "two"]
    with pytest.raises(ModvisorError, match="expected what 'next' of the page before said"):
        await a.views.audit(3, "seven", None, None)
