"""A node that dies: another one that may run its mods takes them over, and nobody runs one twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.processes.conftest import marked

from .networks import LEASE, Nodes, Process, config_of_node, homes, name_for, nodes, ping, process
from .servers import Servers

__all__ = ["marked", "nodes", "process"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

FENCED = """
    import asyncio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Fenced(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            return EventResponse(True, data={"token": self.context.fencing_token})

        @mod_event_handler("test.hold")
        async def hold(self, event):
            await asyncio.Event().wait()
"""


@pytest.mark.slow
async def test_the_mods_of_a_killed_node_go_on_elsewhere(nodes: Nodes, process: Process, write_mod: WriteMod) -> None:
    mod_id = name_for("b", "a")
    mods = [{"path": write_mod(mod_id, FENCED)}]
    b = process("b", mods)
    a = nodes("a", mods)
    await a.initialize()
    assert b.process.poll() is None, b.log
    await until(lambda: homes(a) == {mod_id: "b"} and a.get_loaded_mods()[mod_id]["state"] == "ready", LEASE * 20)
    before = (await ping(a, mod_id)).data["token"]
    b.kill()
    await until(lambda: homes(a) == {mod_id: "a"})
    after = await ping(a, mod_id)  # waits until the mod serves here
    assert after.success, after
    assert after.data["token"] > before


@pytest.mark.slow
async def test_a_node_that_is_cut_off_ends_its_mods_and_has_them_again_when_it_is_back(
    own_server: Servers, network_id: str, tmp_path: Path, write_mod: WriteMod
) -> None:
    mods = [
        {"path": write_mod("fenced", FENCED), "limits": {"concurrency": 1}},
        {"path": write_mod("every"), "placement": {"copies": "all"}},
    ]
    config = config_of_node(own_server, network_id, tmp_path, "a", mods)
    async with AgentNetwork.from_config(config, base_dir=tmp_path) as a:
        before = (await ping(a, "fenced")).data["token"]
        pid = a.get_loaded_mods()["fenced"]["pid"]
        asked = [Event(name, "agent:alice", "mod:fenced") for name in ("test.hold", "test.ping")]
        _, waits = tasks = [asyncio.create_task(a.process_event(event)) for event in asked]
        await until(lambda: a.get_network_stats()["mods"]["fenced"]["traffic"]["queue_depth"] == 1)
        own_server[0].stop()
        await until(lambda: not psutil.pid_exists(pid), LEASE * 10)
        begun = await tasks[0]
        assert begun.error == "mod_crashed", "what was begun is not begun again"
        assert a.get_loaded_mods()["every"]["pid"] is not None, "what runs on all nodes goes on"
        assert (await ping(a, "every", i=1)).success
        own_server[0].cont()
        await until(lambda: homes(a)["fenced"] == "a", LEASE * 20)
        after = await ping(a, "fenced")
        assert after.success, after
        assert after.data["token"] > before
        assert (await waits).data == after.data, "what waited goes on"
