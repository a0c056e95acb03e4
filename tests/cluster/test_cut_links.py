"""A node whose connection to the servers is cut while a mod elsewhere has its event: the mod handles it once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
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
            return EventResponse(True, data=self.begun)

        @mod_event_handler("count.go")
        async def go(self, event):
            self.gate.set()
            return EventResponse(True)

        @mod_event_handler("count.tell")
        async def tell(self, event):
            return EventResponse(True, data=[self.begun, self.ended])
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["while the handler runs", "and the answer is given meanwhile"])
async def test_an_event_is_asked_again_and_handled_once(
    servers: Servers, network_id: str, tmp_path: Path, write_mod: Callable[..., str], when: str
) -> None:
    mods: list[dict[str, Any]] = [
        {"path": write_mod("counting", COUNTING), "config": {"public": True}, "placement": {"on": ["b"]}}
    ]
    async with cable_to(servers[0].port) as cable:
        configs = [config_of_node(servers, network_id, tmp_path, name, mods, lease=10.0) for name in "ab"]
        configs[0]["cluster"]["servers"] = [f"nats://127.0.0.1:{cable.port}"]
        a, b = (AgentNetwork.from_config(config, base_dir=tmp_path) for config in configs)
        await asyncio.gather(a.initialize(), b.initialize())
        await until(lambda: a.get_loaded_mods()["counting"]["state"] == "ready")
        asked = asyncio.create_task(a.process_event(_event("up")))
        while (await b.process_event(_event("tell"))).data != [1, 0]:
            await asyncio.sleep(0)
        plugged = cable.plugged
        if when == "while the handler runs":
            await cable.cut()
            await until(lambda: cable.plugged > plugged)
            assert (await b.process_event(_event("go"))).success
        else:
            cable.hold()
            assert (await b.process_event(_event("go"))).success
            while (await b.process_event(_event("tell"))).data != [1, 1]:
                await asyncio.sleep(0)
            await cable.cut()
            cable.let_go()
        answer = await asked
        assert (answer.success, answer.data) == (True, 1), answer
        assert (await b.process_event(_event("tell"))).data == [1, 1]
        await asyncio.gather(a.shutdown(), b.shutdown())


def _event(what: str) -> Event:
    return Event(f"count.{what}", "agent:alice", "mod:counting")
