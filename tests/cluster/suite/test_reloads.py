"""A reload under load, whether the mod runs on the node of the agents or on another one."""

from __future__ import annotations

import asyncio

import pytest

from modvisor.supervisor import AgentNetwork, Event

from .conftest import Running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

HEAD = """
    import asyncio
    from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler
"""
STATEFUL = (
    HEAD
    + """
    class Counting(BaseMod):
        def initialize(self):
            self.seen = []

        def get_state(self):
            return self.seen

        def set_state(self, state, version):
            self.seen = list(state)

        @mod_event_handler("test.note")
        async def note(self, event):
            self.seen.append([event.source_id, event.payload["i"]])
            await asyncio.sleep(0.001)
            return EventResponse(True)

        @mod_event_handler("test.tell")
        async def tell(self, event):
            return EventResponse(True, data=self.seen)
"""
)


async def reload_under_load(network: AgentNetwork, reloads: int) -> None:
    sources, sent, stop = [f"agent:{name}" for name in "xyz"], {}, asyncio.Event()

    async def load(source: str) -> None:
        i = 0
        while not stop.is_set():
            answer = await network.process_event(Event("test.note", source, "mod:counting", payload={"i": i}))
            assert answer.success, answer
            i += 1
        sent[source] = i

    loads = [asyncio.create_task(load(source)) for source in sources]
    for _ in range(reloads):
        response = await network.reload_mod("counting")
        assert response.success, response
    stop.set()
    await asyncio.gather(*loads)
    seen = (await network.process_event(Event("test.tell", "agent:x", "mod:counting"))).data
    for source in sources:
        assert sent[source] > reloads
        assert [i for who, i in seen if who == source] == list(range(sent[source])), "each once, and in order"


async def test_no_event_is_lost_doubled_or_out_of_order_while_a_mod_is_reloaded(running: Running) -> None:
    await reload_under_load(await running(counting=STATEFUL), 2)


@pytest.mark.slow
async def test_twenty_reloads_under_load_lose_no_event(running: Running) -> None:
    await reload_under_load(await running(counting=STATEFUL), 20)
