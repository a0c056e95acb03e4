"""An event to a mod on another node: answers, order, deadlines, causes, retries, moves and deaths."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.cluster.mods.placement import ranked
from tests.conftest import until
from tests.processes.conftest import Marked, marked

from .networks import NodeProcess, Nodes, config_of_node, nodes
from .servers import Servers

__all__ = ["marked", "nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

HEAD = """
    import asyncio, os
    from modvisor.mods import BaseMod, Event, EventResponse, Refused, mod_event_handler

    class Mod(BaseMod):
"""


def mod(write_mod: WriteMod, name: str, body: str, node: str | None = None, **more: Any) -> dict[str, Any]:
    """An entry of the network file: a mod that runs on a node."""
    source = HEAD + textwrap.indent(textwrap.dedent(body), " " * 8)
    where = {} if node is None else {"placement": {"on": [node]}}
    return {"path": write_mod(name, source), "config": {"public": True}, **where, **more}


async def send(network: AgentNetwork, name: str, to: str | None = None, **more: Any) -> EventResponse:
    source = more.pop("source", "agent:alice")
    fields = {key: more.pop(key) for key in ("event_id", "timeout") if key in more}
    return await network.process_event(Event(name, source, to, payload=more, **fields))


Two = Callable[..., Awaitable[tuple[AgentNetwork, AgentNetwork]]]


@pytest.fixture
def two(nodes: Nodes) -> Two:
    """Two running nodes, a and b, where every mod serves somewhere."""

    async def two(*mods: dict[str, Any], **cluster: Any) -> tuple[AgentNetwork, AgentNetwork]:
        a, b = (nodes(name, list(mods), **{"lease": 5.0, **cluster}) for name in ("a", "b"))
        await asyncio.gather(a.initialize(), b.initialize())
        for network in (a, b):
            await until(lambda: all(each["state"] == "ready" for each in network.get_loaded_mods().values()))  # noqa: B023
        return a, b

    return two


ANSWERS = """
    @mod_event_handler("test.*")
    async def handle(self, event):
        match event.event_name:
            case "test.none":
                return None
            case "test.raise":
                raise ValueError("a mistake")
            case "test.refuse":
                raise Refused("not like this", field="x")
            case "test.change":
                return Event("test.none", payload={"changed": True})
            case "test.seen":
                return EventResponse(True, "seen", {
                    "source": event.source_id, "via": event.via, "hops": event.hops, "cause": event.cause,
                    "attempt": event.attempt, "payload": event.payload, "group": event.source_agent_group})
"""


async def test_every_kind_of_answer_comes_back_as_from_a_mod_here(two: Two, write_mod: WriteMod) -> None:
    a, b = await two(mod(write_mod, "one", ANSWERS, "b"))
    await b.register_agent("bob")
    for name, payload in (
        ("test.none", {}),
        ("test.raise", {}),
        ("test.refuse", {}),
        ("test.change", {}),
        ("test.seen", {"i": 1, "bytes": b"x" * 10, "deep": [{"a": [1, None, 2.5]}]}),
    ):
        here = await send(b, name, "mod:one", **payload)
        there = await send(a, name, "mod:one", **payload)
        assert (there.success, there.message, there.data) == (here.success, here.message, here.data)
    assert (await send(a, "other.name", "mod:one")).error == "unknown_event"


async def test_mods_are_walked_in_their_order_over_nodes_and_may_change_the_event(
    two: Two, write_mod: WriteMod
) -> None:
    passing = """
        @mod_event_handler("test.walk")
        async def handle(self, event):
            event.payload["seen"].append("{name}")
            if event.payload.get("stop") == "{name}":
                return EventResponse(True, data=event.payload["seen"])
            return event
    """
    where = {"one": "b", "two": "a", "three": "b", "four": "a"}
    entries = [mod(write_mod, name, passing.replace("{name}", name), node) for name, node in where.items()]
    for network in await two(*entries):
        for index, name in enumerate(where):
            response = await send(network, "test.walk", seen=[], stop=name)
            assert response.data == list(where)[: index + 1]


SLOW = """
    @mod_event_handler("test.slow")
    async def slow(self, event):
        log = open(event.payload["log"], "a", buffering=1)
        print("begun", event.payload.get("i", ""), event.attempt, file=log)
        try:
            while not os.path.exists(event.payload["log"] + ".go"):
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            print("cancelled", file=log)
            raise
        print("done", file=log)
        return EventResponse(True, data={"pid": os.getpid(), "attempt": event.attempt})

    @mod_event_handler("test.quick")
    async def quick(self, event):
        return EventResponse(True)
"""


def lines_of(log: Any) -> list[str]:
    return [line.strip() for line in log.read_text().splitlines()] if log.exists() else []


async def test_past_its_deadline_the_sender_hears_timeout_and_the_handler_is_cancelled(
    two: Two, write_mod: WriteMod, tmp_path: Any
) -> None:
    a, _ = await two(mod(write_mod, "one", SLOW, "b"))
    log = tmp_path / "log"
    response = await send(a, "test.slow", "mod:one", log=str(log), timeout=0.3)
    assert response.error == "timeout"
    await until(lambda: lines_of(log) == ["begun  1", "cancelled"])
    assert (await send(a, "test.quick", "mod:one")).success


@pytest.mark.slow
async def test_a_caller_that_gives_up_has_the_handler_cancelled(two: Two, write_mod: WriteMod, tmp_path: Any) -> None:
    a, _ = await two(mod(write_mod, "one", SLOW, "b"))
    log = tmp_path / "log"
    asked = asyncio.create_task(send(a, "test.slow", "mod:one", log=str(log)))
    await until(lambda: lines_of(log) == ["begun  1"])
    asked.cancel()
    await until(lambda: lines_of(log) == ["begun  1", "cancelled"])


CHAIN = """
    @mod_event_handler("test.loop")
    async def loop(self, event):
        response = await self.context.send_event(Event("test.loop", destination_id="mod:{other}"))
        return EventResponse(response.success, response.message, response.data)

    @mod_event_handler("test.there")
    async def there(self, event):
        response = await self.context.send_event(Event("test.back", destination_id="mod:{other}"))
        return EventResponse(response.success, response.message, response.data)

    @mod_event_handler("test.back")
    async def back(self, event):
        response = await self.context.send_event(Event("test.seen", destination_id="mod:{other}"))
        return EventResponse(response.success, response.message, response.data)

    @mod_event_handler("test.seen")
    async def seen(self, event):
        return EventResponse(True, data={"via": event.via, "hops": event.hops, "cause": event.cause is not None,
                                         "source": event.source_id})
"""


@pytest.mark.slow
async def test_a_loop_over_nodes_is_cut_and_hops_and_via_hold(two: Two, write_mod: WriteMod) -> None:
    one = mod(write_mod, "one", CHAIN.replace("{other}", "two"), "a")
    other = mod(write_mod, "two", CHAIN.replace("{other}", "one"), "b")
    a, b = await two(one, other)
    for network in (a, b):
        assert (await send(network, "test.loop", "mod:one")).error == "loop"
        response = await send(network, "test.there", "mod:one")
        assert response.data == {"via": "mod:two", "hops": 2, "cause": True, "source": "mod:two"}, response


@pytest.mark.slow
async def test_mods_that_ask_one_another_over_nodes_do_not_wait_for_themselves(two: Two, write_mod: WriteMod) -> None:
    narrow = {"limits": {"concurrency": 1}}
    one = mod(write_mod, "one", CHAIN.replace("{other}", "two"), "a", **narrow)
    other = mod(write_mod, "two", CHAIN.replace("{other}", "one"), "b", **narrow)
    for network in await two(one, other):
        async with asyncio.timeout(20):  # far below the event's own deadline
            for each in ("one", "two"):
                answers = await asyncio.gather(*(send(network, "test.there", f"mod:{each}") for _ in range(5)))
                assert [answer.success for answer in answers] == [True] * 5, answers


ORDERED = """
    def initialize(self):
        self.seen = []

    @mod_event_handler("test.note")
    async def note(self, event):
        self.seen.append((event.source_id, event.payload["i"]))
        await asyncio.sleep(0)
        return EventResponse(True)

    @mod_event_handler("test.tell")
    async def tell(self, event):
        return EventResponse(True, data=self.seen)
"""


async def test_events_of_one_source_begin_in_their_order_large_ones_too(two: Two, write_mod: WriteMod) -> None:
    a, _ = await two(mod(write_mod, "one", ORDERED, "b"))
    sources = [f"agent:{name}" for name in "xyz"]
    answers = await asyncio.gather(
        *(
            send(a, "test.note", "mod:one", source=source, i=i, more="x" * (2_000_000 if i % 10 == 3 else 10))
            for i in range(25)
            for source in sources
        )
    )
    assert all(answer.success for answer in answers), answers
    seen = (await send(a, "test.tell", "mod:one")).data
    for source in sources:
        assert [i for who, i in seen if who == source] == list(range(25))


@pytest.mark.slow
async def test_a_large_event_and_answer_go_by_a_file_or_are_refused_by_the_limits_name(
    two: Two, write_mod: WriteMod
) -> None:
    body = """
        @mod_event_handler("test.*")
        async def handle(self, event):
            return EventResponse(True, data={"got": len(event.payload.get("data", "")), "back": "y" * event.payload["n"]})
    """
    a, _ = await two(mod(write_mod, "one", body, "b"), max_payload="3MB")
    response = await send(a, "test.it", "mod:one", data="x" * 2_000_000, n=2_000_000)
    assert response.success, response
    assert (response.data["got"], len(response.data["back"])) == (2_000_000, 2_000_000)
    for data, n in (("x" * 4_000_000, 1), ("x", 4_000_000)):
        response = await send(a, "test.it", "mod:one", data=data, n=n)
        assert response.error == "too_large"
        assert "cluster.max_payload" in str(response.message)


async def test_a_retry_gets_the_first_answer_over_whichever_node_it_comes(two: Two, write_mod: WriteMod) -> None:
    body = """
        count = 0

        @mod_event_handler("test.count")
        async def handle(self, event):
            Mod.count += 1
            await asyncio.sleep(0.05)
            return EventResponse(True, data=Mod.count)
    """
    a, b = await two(mod(write_mod, "one", body, "b"))
    for number, ways in enumerate(((a, b), (b, a), (a, a)), start=1):
        both = await asyncio.gather(*(send(way, "test.count", "mod:one", event_id=f"e{number}") for way in ways))
        again = [await send(way, "test.count", "mod:one", event_id=f"e{number}") for way in ways]
        assert {answer.data for answer in [*both, *again]} == {number}


@pytest.mark.slow
async def test_observers_get_copies_and_mods_notifications_on_another_node(two: Two, write_mod: WriteMod) -> None:
    body = """
        def initialize(self):
            self.seen = []

        @mod_event_handler("*", observe=True)
        async def watch(self, event):
            self.seen.append(event.event_name)

        @mod_event_handler("test.tell")
        async def tell(self, event):
            return EventResponse(True, data=self.seen)
    """
    a, _ = await two(mod(write_mod, "watcher", body, "b"), mod(write_mod, "one", ANSWERS, "a"))
    await send(a, "test.seen", "mod:one")
    async with asyncio.timeout(10):
        while "test.seen" not in (await send(a, "test.tell", "mod:watcher")).data:
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_the_audience_of_a_mod_holds_on_every_node(two: Two, write_mod: WriteMod) -> None:
    entry = mod(write_mod, "one", ANSWERS, "b", audience={"agents": ["alice"]})
    for network in await two(entry):
        assert (await send(network, "test.seen", "mod:one")).success
        assert (await send(network, "test.seen", "mod:one", source="agent:bob")).error == "not_in_audience"


async def test_a_mod_that_does_not_answer_costs_its_events_and_no_more(
    two: Two, write_mod: WriteMod, tmp_path: Any
) -> None:
    narrow = {"limits": {"concurrency": 2, "queue": 3}}
    a, _ = await two(mod(write_mod, "one", SLOW, "b", **narrow), mod(write_mod, "other", SLOW, "b"))
    log = tmp_path / "log"
    asked = [asyncio.create_task(send(a, "test.slow", "mod:one", log=str(log), i=i)) for i in range(20)]
    await until(lambda: sum(task.done() for task in asked) == 15)
    assert {task.result().error for task in asked if task.done()} == {"overloaded"}
    assert (await send(a, "test.quick", "mod:other")).success
    (tmp_path / "log.go").touch()
    assert sum(answer.success for answer in await asyncio.gather(*asked)) == 5


async def test_events_wait_for_the_next_node_until_their_deadline(nodes: Nodes, write_mod: WriteMod) -> None:
    entry = mod(write_mod, "one", ANSWERS, "b")
    a, b = nodes("a", [entry]), nodes("b", [entry])
    await asyncio.gather(a.initialize(), b.initialize())
    await b.shutdown()
    response = await send(a, "test.seen", "mod:one", timeout=0.2)
    assert response.error in ("mod_away", "timeout"), response
    late = [asyncio.create_task(send(a, "test.seen", "mod:one", i=i)) for i in range(5)]
    b = nodes("b", [entry])
    await b.initialize()
    assert all([(await task).success for task in late])


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
async def test_of_a_node_that_is_killed_a_begun_event_fails_or_is_asked_again_with_the_next_attempt(
    nodes: Nodes, write_mod: WriteMod, servers: Servers, network_id: str, tmp_path: Any, delivery: str, marked: Marked,
) -> None:  # fmt: skip
    entry = mod(write_mod, "one", SLOW, None, delivery=delivery)
    entry["placement"] = {"on": ["b", "c"]}
    configs = {name: config_of_node(servers, network_id, tmp_path, name, [entry]) for name in "bc"}
    for config in configs.values():
        config["network"]["sandbox"] = "off"  # the handler writes a file of the test
    others = {name: NodeProcess(config, tmp_path, marked.variable) for name, config in configs.items()}
    try:
        a = nodes("a", [entry])
        await a.initialize()
        await until(lambda: a.get_loaded_mods()["one"]["state"] == "ready", 30)
        log = tmp_path / "log"
        asked = asyncio.create_task(send(a, "test.slow", "mod:one", log=str(log)))
        await until(lambda: lines_of(log) == ["begun  1"])
        holder = str(a.mod_nodes()["one"])
        others.pop(holder).kill()
        if delivery == "at_least_once":
            await until(lambda: "begun  2" in lines_of(log), 30)
            (tmp_path / "log.go").touch()
            response = await asked
            assert response.success, response
            assert response.data["attempt"] == 2
        else:
            response = await asked
            assert response.error == "mod_away"
            assert f"node {holder} is gone" in str(response.message)
            # A worker may see its pipe end just before the kernel kills it: then it has cancelled the handler.
            assert [line for line in lines_of(log) if line != "cancelled"] == ["begun  1"]
    finally:
        for other in others.values():
            other.stop()


MOVES = f"""{ORDERED}
    def get_state(self):
        return self.seen

    def set_state(self, state, version):
        self.seen = [tuple(each) for each in state]
"""


@pytest.mark.slow
async def test_events_of_one_source_begin_in_their_order_while_the_mod_moves(nodes: Nodes, write_mod: WriteMod) -> None:
    entry = mod(write_mod, "one", MOVES, None, placement={"on": ["b", "c"]})
    networks = {name: nodes(name, [entry], lease=5.0) for name in "abc"}
    await asyncio.gather(*(network.initialize() for network in networks.values()))
    a, sources = networks["a"], [f"agent:{name}" for name in "xyz"]
    asked: dict[str, list[asyncio.Task[EventResponse]]] = {source: [] for source in sources}
    moved = asyncio.Event()

    async def work(source: str) -> None:
        while not moved.is_set():
            begun = [
                asyncio.create_task(send(a, "test.note", "mod:one", source=source, i=len(asked[source]) + i))
                for i in range(5)
            ]
            asked[source] += begun
            await begun[1]  # so that three of them are under way when the next ones are sent

    async def move() -> None:
        for _ in range(3):
            had = str(a.mod_nodes()["one"])
            cluster = networks[had]._parts.cluster
            await until(lambda: a.get_loaded_mods()["one"]["state"] == "ready")
            await cluster.drain()
            await until(lambda: a.mod_nodes()["one"] not in (None, had))  # noqa: B023
            cluster.placing.duties.is_draining = False
            cluster.session.describe(draining=False, soon=True)
            await until(lambda: not a._parts.cluster.session.nodes[had].value["draining"])  # noqa: B023
        moved.set()

    await asyncio.gather(*(work(source) for source in sources), move())
    for source in sources:
        assert {answer.error for answer in await asyncio.gather(*asked[source])} == {None}
    seen = (await send(a, "test.tell", "mod:one")).data
    for source in sources:
        assert [i for who, i in seen if who == source] == list(range(len(asked[source])))


@pytest.mark.slow
async def test_of_a_mod_with_a_copy_on_every_node_another_one_is_asked_when_the_asked_node_is_killed(
    nodes: Nodes, write_mod: WriteMod, servers: Servers, network_id: str, tmp_path: Any, marked: Marked,
) -> None:  # fmt: skip
    names = [name for number in range(100) if ranked(f"{(name := f'mod{number}')} a", ["b", "c"])[0] == "b"]
    once, more = names[:2]
    where = {"on": ["b", "c"], "copies": "all"}
    entries = [
        mod(write_mod, name, SLOW, None, placement=where, delivery=delivery)
        for name, delivery in ((once, "at_most_once"), (more, "at_least_once"))
    ]
    configs = {name: config_of_node(servers, network_id, tmp_path, name, entries) for name in "bc"}
    for config in configs.values():
        config["network"]["sandbox"] = "off"  # the handler writes a file of the test
    others = {name: NodeProcess(config, tmp_path, marked.variable) for name, config in configs.items()}
    try:
        await until(lambda: all(node.is_ready for node in others.values()), 30)  # or c is asked, which is there first
        a = nodes("a", entries)
        await a.initialize()
        for name in (once, more):
            assert (await send(a, "test.quick", f"mod:{name}", timeout=30)).success
        logs = {name: tmp_path / f"{name}.log" for name in (once, more)}
        asked = {
            name: asyncio.create_task(send(a, "test.slow", f"mod:{name}", log=str(log), timeout=300))
            for name, log in logs.items()
        }
        await until(lambda: [lines_of(log) for log in logs.values()] == [["begun  1"]] * 2)
        others.pop("b").kill()
        response = await asked[once]
        assert response.error == "mod_away"
        assert "node b is gone" in str(response.message)
        assert (await send(a, "test.quick", f"mod:{once}")).success, "the other copy answers"
        await until(lambda: "begun  2" in lines_of(logs[more]), 30)
        (tmp_path / f"{more}.log.go").touch()
        assert (await asked[more]).data["attempt"] == 2
    finally:
        for node in others.values():
            node.stop()
