"""Two nodes show one network: its mods are split among them, claimed, and moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until

from .conftest import Linked
from .networks import Nodes, homes, name_for, nodes, ping
from .servers import Servers

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

COUNTING = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counting(BaseMod):
        def initialize(self):
            self.count = 0

        @mod_event_handler("test.ping")
        async def ping(self, event):
            self.count += 1
            return EventResponse(True, data={"count": self.count})

        def get_state(self):
            return {"count": self.count}

        def set_state(self, state, from_version):
            self.count = state["count"]
"""


def pinned(write_mod: WriteMod, **where: str) -> list[dict[str, Any]]:
    return [
        {"path": write_mod(name), "config": {"public": True}, "placement": {"on": [node]}}
        for name, node in where.items()
    ]


async def started(*networks: AgentNetwork) -> None:
    await asyncio.gather(*(network.initialize() for network in networks))


def serves(network: AgentNetwork, mod_id: str) -> Callable[[], bool]:
    return lambda: network.get_loaded_mods().get(mod_id, {}).get("state") == "ready"


async def test_each_node_runs_its_mods_and_answers_for_all(nodes: Nodes, write_mod: WriteMod) -> None:
    mods = pinned(write_mod, one="a", two="b")
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    for network in (a, b):
        assert list(network.get_loaded_mods()) == ["one", "two"]
        assert homes(network) == {"one": "a", "two": "b"}
        for mod in ("one", "two"):
            await until(serves(network, mod))
            response = await ping(network, mod, i=3)
            assert response.success, response
            assert response.data["pong"] == 3
    assert (a.get_loaded_mods()["one"]["pid"] is None, a.get_loaded_mods()["two"]["pid"] is None) == (False, True)


async def test_a_node_that_comes_when_all_mods_serve_knows_them_at_once(nodes: Nodes, write_mod: WriteMod) -> None:
    mods = pinned(write_mod, one="a")
    a, b = nodes("a", mods), nodes("b", mods)
    await a.initialize()
    await until(serves(a, "one"))
    async with asyncio.timeout(10):
        await b.initialize()
    answer = await b.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))
    assert answer.data["pong"] == 1, answer


@pytest.mark.slow
async def test_a_mod_that_another_node_should_have_moves_there_without_losing_an_event(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    mod_id = name_for("b", "a")
    mods = [{"path": write_mod(mod_id, COUNTING)}]
    a, b = nodes("a", mods), nodes("b", mods)
    await a.initialize()
    assert homes(a) == {mod_id: "a"}
    for _ in range(3):
        assert (await ping(a, mod_id)).success
    await b.initialize()
    moved = asyncio.create_task(until(lambda: homes(a) == homes(b) == {mod_id: "b"}))
    answers = []
    while not moved.done():
        answers += await asyncio.gather(*(ping(network, mod_id) for network in (a, b)))
    answers += [await ping(a, mod_id)]
    assert [answer for answer in answers if not answer.success] == []
    assert sorted(answer.data["count"] for answer in answers) == list(range(4, 4 + len(answers))), (
        "its state went along"
    )


async def test_commands_are_done_on_the_node_that_has_the_mod_whichever_node_is_asked(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    mods = pinned(write_mod, one="a", two="b")
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(serves(b, "one"))
    reloaded = await b.reload_mod("one")
    assert reloaded.success, reloaded
    assert (await b.restart_mod("one")).success
    loaded = await b.load_mod(write_mod("three"), mod_id="three", placement={"on": ["a"]})
    assert loaded.success, loaded
    for network in (a, b):
        await until(serves(network, "three"))
        assert homes(network) == {"one": "a", "two": "b", "three": "a"}
        assert (await ping(network, "three", i=1)).data["pong"] == 1
    assert (await b.load_mod("./three", mod_id="three")).error == "already_loaded"
    unloaded = await a.unload_mod("two")
    assert unloaded.success, unloaded
    await until(lambda: list(a.get_loaded_mods()) == list(b.get_loaded_mods()) == ["one", "three"])
    swapped = await b.swap_mod("three", write_mod("four"), placement={"on": ["a"]})
    assert swapped.success, swapped
    await until(lambda: list(a.get_loaded_mods()) == list(b.get_loaded_mods()) == ["one", "four"])
    await until(serves(b, "four"))
    assert (await ping(b, "four", i=2)).data["pong"] == 2
    assert (await b.reload_mod("nothing")).error == "no_such_mod"


async def test_commands_on_one_mod_from_two_nodes_are_done_one_after_the_other(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    mods = pinned(write_mod, one="a")
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(serves(b, "one"))
    answers = await asyncio.gather(*(network.reload_mod("one") for network in (a, b, a, b)))
    assert [answer for answer in answers if not answer.success] == []
    assert len({answer.data["pause_ms"] for answer in answers}) > 1, "each was a reload of its own"


async def test_a_mod_on_all_nodes_runs_on_each_and_is_asked_where_its_sender_is(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    mods = [{"path": write_mod("every"), "placement": {"copies": "all"}}]
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    for network in (a, b):
        assert network.get_loaded_mods()["every"]["pid"] is not None
        assert (await ping(network, "every", i=1)).data["pong"] == 1
    assert (await a.reload_mod("every")).success


async def test_a_node_that_leaves_hands_its_mods_over(nodes: Nodes, write_mod: WriteMod) -> None:
    mod_id = name_for("a", "b")
    mods = [{"path": write_mod(mod_id, COUNTING)}]
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(serves(b, mod_id))
    await until(lambda: homes(b) == {mod_id: "a"})
    first = await ping(b, mod_id)
    await a.shutdown()
    second = await ping(b, mod_id)
    assert (first.data["count"], second.data["count"]) == (1, 2)
    assert homes(b) == {mod_id: "b"}


async def test_a_node_with_another_file_is_refused_and_told_what_differs(nodes: Nodes, write_mod: WriteMod) -> None:
    path = write_mod("one")
    a, b = nodes("a", [{"path": path}]), nodes("b", [{"path": path, "config": {"x": 1}}])
    await a.initialize()
    with pytest.raises(ModvisorError, match="the entry of mod one differs"):
        await b.initialize()
    mixed = nodes("c", [{"path": path, "config": {"x": 1}}], allow_mixed=True)
    await mixed.initialize()


async def test_a_command_that_no_node_can_do_says_so(nodes: Nodes, write_mod: WriteMod) -> None:
    a = nodes("a", [])
    await a.initialize()
    response = await a.load_mod(write_mod("gpu"), placement={"on": ["gpu"]})
    assert response.error == "mod_away"
    assert "no node that is there may run the mod" in str(response.message)


async def test_audiences_promotions_and_rollbacks_hold_on_every_node(nodes: Nodes, write_mod: WriteMod) -> None:
    path = write_mod("wiki")
    mods = [
        {"path": path, "id": "wiki", "placement": {"on": ["a"]}},
        {"path": path, "id": "wiki@2", "placement": {"on": ["b"]}, "audience": {"percent": 0}},
    ]
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(serves(a, "wiki@2"))
    await until(serves(b, "wiki"))

    def default(network: AgentNetwork) -> str | None:
        return network.get_audience("wiki").data["default"]

    assert default(a) == default(b) == "wiki"
    promoted = await a.promote_mod("wiki@2")
    assert promoted.success, promoted
    await until(lambda: default(a) == default(b) == "wiki@2")
    back = await b.rollback_mod("wiki")
    assert back.success, back
    await until(lambda: default(a) == default(b) == "wiki")
    assert (await b.set_audience("wiki@2", percent=40)).success
    late = nodes("c", mods)
    await late.initialize()
    assert late.get_audience("wiki@2").data["versions"][1]["audience"]["percent"] == 40


async def test_a_mod_that_only_an_absent_node_may_run_holds_up_no_start(
    nodes: Nodes, write_mod: WriteMod, linked: Linked, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    mods = pinned(write_mod, away="b", here="a")
    claims = await (await linked(servers, "tester")).bucket("claims")
    await claims.create("away", {"node": "b", "session": "b/1", "handed": False})  # a run before this one ended there
    async with asyncio.timeout(25):
        await nodes("a", mods, lease=1.0).initialize()
    assert "mod away waits for a node that may run it (placement.on: b); the network starts without it" in caplog.text
