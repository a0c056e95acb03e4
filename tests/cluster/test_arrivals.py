"""Agents that go on, or come back, before what they took along has come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError

from .nodes import Node, running, same, until
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class Held:
    """Has a node answer nobody who asks for what an agent takes along, until it is let go."""

    def __init__(self, node: Node) -> None:
        self.asked, self._go = asyncio.Event(), asyncio.Event()
        homes: Any = node.agents.elsewhere
        release = homes._release

        async def held(*args: Any) -> None:
            self.asked.set()
            await self._go.wait()
            await release(*args)

        homes._release = held

    def let_go(self) -> None:
        self._go.set()


async def _waits_at(a: Node, b: Node, c: Node) -> str:
    """Register an agent at the first node, where two events wait for it. Returns its secret."""
    secret = await a.register("alice")
    await same(a, b, c)
    for number in (1, 2):
        await a.send("agent:alice", number)
    return secret


async def test_an_agent_that_goes_on_and_comes_back_at_once_has_all_that_waited_at_its_first_home(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b", "c") as (a, b, c):
        secret = await _waits_at(a, b, c)
        at_a = Held(a)
        await b.register("alice", secret=secret)
        await same(a, b, c)
        going = asyncio.ensure_future(c.connect("alice"))
        await at_a.asked.wait()  # by b, because c has asked b
        coming = asyncio.ensure_future(b.connect("alice"))
        await until(lambda: b.knows()["agents"]["alice"][3] == "b")
        await same(a, b, c)
        await c.send("agent:alice", 3)
        at_a.let_go()
        await asyncio.gather(going, return_exceptions=True)
        await coming
        await same(a, b, c)
        assert sorted(b.waits("alice")) == [1, 2, 3]
        assert (a.waits("alice"), c.waits("alice"), b.agents.arriving) == ([], [], {})


async def test_an_agent_that_goes_on_after_its_inbox_could_not_be_brought_has_it_at_the_next_node(
    servers: Servers, network_id: str
) -> None:
    async with running(servers, network_id, "a", "b", "c") as (a, b, c):
        await _waits_at(a, b, c)
        homes: Any = b.agents.elsewhere
        luggage, release = homes._luggage, homes._release
        begun, c_waits = asyncio.Event(), asyncio.Event()

        async def fail_once(*args: Any) -> Any:
            homes._luggage = luggage
            begun.set()
            await c_waits.wait()
            raise ModvisorError("node 'a' does not answer; try again")

        async def release_and_tell(*args: Any) -> None:
            asyncio.get_running_loop().call_soon(c_waits.set)  # when it waits
            await release(*args)

        homes._luggage, homes._release = fail_once, release_and_tell
        fails = asyncio.ensure_future(b.connect("alice"))
        await begun.wait()
        await same(b, c)
        await c.connect("alice")
        with pytest.raises(ModvisorError, match="does not answer"):
            await fails
        assert await c.texts("alice") == [1, 2]
