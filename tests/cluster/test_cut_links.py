"""A connection to the servers that is cut while a mod has an event of another node: the mod handles it once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.cluster.link.errors import NoQuorum
from modvisor.supervisor.cluster.link.files import Files
from tests.clients.python.cable import cable_to
from tests.conftest import until

from .networks import config_of_node
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

COUNTING = """
    import asyncio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counting(BaseMod):
        def initialize(self):
            self.begun, self.ended, self.gate = 0, 0, asyncio.Event()

        @mod_event_handler("count.up")
        async def up(self, event):
            self.begun += 1
            await self.gate.wait()
            self.ended += 1
            return EventResponse(True, data=[self.begun, "x" * event.payload["size"]])

        @mod_event_handler("count.go")
        async def go(self, event):
            self.gate.set()
            return EventResponse(True)

        @mod_event_handler("count.tell")
        async def tell(self, event):
            return EventResponse(True, data=[self.begun, self.ended])
"""


@asynccontextmanager
async def _two(servers: Servers, network_id: str, folder: Path, path: str, cut: str) -> AsyncIterator[tuple[Any, ...]]:
    """Run node a, and b with the mod; there is a cable between the servers and the one that is to be cut off."""
    mods: list[dict[str, Any]] = [{"path": path, "config": {"public": True}, "placement": {"on": ["b"]}}]
    async with cable_to(servers[0].port) as cable:
        configs = {name: config_of_node(servers, network_id, folder, name, mods, lease=10.0) for name in "ab"}
        configs[cut]["cluster"]["servers"] = [f"nats://127.0.0.1:{cable.port}"]
        a, b = (AgentNetwork.from_config(config, base_dir=folder) for config in configs.values())
        try:
            await asyncio.gather(a.initialize(), b.initialize())
            await until(lambda: a.get_loaded_mods()["counting"]["state"] == "ready")
            yield cable, a, b
        finally:
            await asyncio.gather(a.shutdown(), b.shutdown())


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 2_000_000], ids=["small", "large"])
@pytest.mark.parametrize("when", ["while the handler runs", "and the answer is given meanwhile"])
@pytest.mark.parametrize("cut", ["a", "b"])
async def test_an_event_is_asked_again_and_handled_once(
    servers: Servers, network_id: str, tmp_path: Path, write_mod: Callable[..., str], cut: str, when: str, size: int
) -> None:
    async with _two(servers, network_id, tmp_path, write_mod("counting", COUNTING), cut) as (cable, a, b):
        asked = asyncio.create_task(a.process_event(_event("up", size=size)))
        await _told(b, [1, 0])
        plugged = cable.plugged
        if when == "while the handler runs":
            await cable.cut()
            await until(lambda: cable.plugged > plugged)
            assert (await b.process_event(_event("go"))).success
        else:
            cable.hold()
            assert (await b.process_event(_event("go"))).success
            await _told(b, [1, 1])
            await cable.cut()
            cable.let_go()
        answer = await asked
        assert (answer.success, answer.data) == (True, [1, "x" * size]), answer.message
        assert (await b.process_event(_event("tell"))).data == [1, 1]


@pytest.mark.slow
async def test_events_that_find_nobody_go_on_when_the_node_is_connected_again(
    servers: Servers, network_id: str, tmp_path: Path, write_mod: Callable[..., str]
) -> None:
    async with _two(servers, network_id, tmp_path, write_mod("counting", COUNTING), "b") as (cable, a, _):
        cable.hold()
        await cable.cut()
        asked = [asyncio.create_task(a.process_event(_event("tell"))) for _ in range(3)]
        await _found_nobody(a)
        cable.let_go()
        assert [(await each).data for each in asked] == [[0, 0]] * 3


@pytest.mark.slow
async def test_an_answer_that_cannot_be_fetched_is_a_failure(
    servers: Servers, network_id: str, tmp_path: Path, write_mod: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise NoQuorum("the servers do not answer")

    async with _two(servers, network_id, tmp_path, write_mod("counting", COUNTING), "a") as (_, a, b):
        assert (await b.process_event(_event("go"))).success
        monkeypatch.setattr(Files, "get", fail)
        answer = await a.process_event(_event("up", size=2_000_000))
        assert (answer.success, answer.error) == (False, "cluster_down")
        assert "the servers do not answer" in str(answer.message)


async def _told(network: AgentNetwork, counts: list[int]) -> None:
    while (await network.process_event(_event("tell"))).data != counts:
        await asyncio.sleep(0)


def _event(what: str, **payload: Any) -> Event:
    return Event(f"count.{what}", "agent:alice", "mod:counting", payload=payload, timeout=20.0)


async def _found_nobody(network: AgentNetwork) -> None:
    """Wait until the events of a node for the mod wait for the node that has it."""
    parts = network._parts
    assert parts is not None
    assert parts.cluster is not None
    lines = parts.cluster.asking._lines
    await until(lambda: lines and lines["counting", None]._going == 3)
