"""A mod that floods another one: whoever else asks that mod has its turn, mods and agents alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.processes.test_events import send

pytestmark = pytest.mark.anyio

SLOW = """
    import asyncio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Slow(BaseMod):
        handled = 0

        @mod_event_handler("slow.do")
        async def do(self, event):
            await asyncio.sleep(0.005)
            self.handled += 1
            return EventResponse(True, data=self.handled)
"""

SENDER = """
    import asyncio
    from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

    class Sender(BaseMod):
        @mod_event_handler("NAME.send")
        async def send(self, event):
            async def ask():
                return (await self.context.send_event(Event("slow.do", destination_id="mod:slow"))).data
            answers = [asyncio.create_task(ask()) for _ in range(event.payload["n"])]
            return EventResponse(True, data=await asyncio.gather(*answers))
"""


@pytest.mark.parametrize("durable", [False, True])
async def test_a_mod_that_floods_another_one_leaves_a_turn_to_other_callers(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], durable: bool
) -> None:
    slow = {"path": write_mod("slow", SLOW), "durable": durable, "limits": {"concurrency": 2, "queue": 250}}
    senders = [write_mod(name, SENDER.replace("NAME", name)) for name in ("flood", "modest")]
    network = make_network(mods=[slow, *senders])
    await network.initialize()
    await network.register_agent("alice")
    flood = asyncio.create_task(send(network, "flood.send", "mod:flood", n=250))
    stats = network.get_network_stats
    await until(lambda: stats()["mods"]["slow"]["traffic"]["queue_depth"] >= 200)
    asked = await network.process_event(Event("slow.do", "agent:alice", "mod:slow"))
    modest = await send(network, "modest.send", "mod:modest", n=3)
    assert not flood.done()
    # Alice asks at once: of the 250 only those that were handled already, and one for each slot and turn.
    assert asked.data < 40
    assert max(modest.data) - asked.data < 40
    assert sorted((await flood).data)[-1] == 254
