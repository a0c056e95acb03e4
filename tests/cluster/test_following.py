"""Events that wait for a mod which leaves its node go on at the node that has it next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.cluster.cluster import Cluster
from tests.conftest import until

from .networks import Nodes, config_of_node, homes, nodes, ping
from .servers import Servers
from .test_starts import WAITS

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

DIES = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Dies(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            if event.payload.get("die"):
                os._exit(1)
            return EventResponse(True, data={"attempt": event.attempt})
"""


def cluster_of(network: AgentNetwork) -> Cluster:
    cluster = network._running().cluster
    assert cluster is not None
    return cluster


def waiting(network: AgentNetwork, mod: str) -> int:
    return network.get_network_stats()["mods"][mod]["traffic"]["queue_depth"]


async def both(nodes: Nodes, path: str, **entry: Any) -> tuple[AgentNetwork, AgentNetwork]:
    """Run two nodes with one mod. Returns the one that has it, and the other one."""
    mods = [{"path": path, "placement": {"on": ["a", "b"]}, **entry}]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    (mod,) = homes(a)
    await until(lambda: all(each.get_loaded_mods()[mod]["state"] == "ready" for each in (a, b)))
    return (a, b) if homes(a)[mod] == "a" else (b, a)


async def test_an_event_that_waits_for_a_start_which_the_servers_hold_up_waits_for_the_next_one(
    own_server: Servers, network_id: str, tmp_path: Path, write_mod: WriteMod, caplog: pytest.LogCaptureFixture
) -> None:
    mods = [{"path": write_mod("waits", WAITS), "config": {"folder": str(tmp_path)}, "sandbox": "off"}]
    (tmp_path / "go").touch()
    config = config_of_node(own_server, network_id, tmp_path, "a", mods, lease=2.0, timeout=0.2)
    async with AgentNetwork.from_config(config, base_dir=tmp_path) as network:
        try:
            (tmp_path / "go").unlink()
            (tmp_path / "begun").unlink()
            await (await cluster_of(network).link.bucket("nodes")).delete("a")
            await until((tmp_path / "begun").exists)
            asked = asyncio.create_task(ping(network, "waits"))
            await until(lambda: waiting(network, "waits") == 1)
            own_server[0].stop()
            (tmp_path / "go").touch()
            await until(lambda: "its checkpoint cannot be read" in caplog.text)
            own_server[0].cont()
            answer = await asked
            assert answer.success, answer
        finally:
            own_server[0].cont()


async def test_an_event_that_waits_for_a_restart_goes_along_when_the_mod_is_handed_over(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    restart = {"first_delay": 60.0, "max_delay": 60.0}
    here, there = await both(nodes, write_mod("dies", DIES), restart=restart, max_attempts=1)
    assert (await ping(here, "dies", die=True)).error in ("mod_crashed", "dead_lettered")
    asked = [asyncio.create_task(ping(network, "dies")) for network in (here, there)]
    await until(lambda: waiting(here, "dies") == 2)
    drained = asyncio.create_task(cluster_of(here).drain())
    for answer in await asyncio.gather(*asked):
        assert answer.success, answer
        assert answer.data["attempt"] == 1
    await drained
    assert there.mods_here() == {"dies"}


@pytest.mark.parametrize("copies", [1, 2])
async def test_an_event_that_a_node_cannot_accept_which_was_shut_out_is_accepted_by_the_next_one(
    nodes: Nodes, write_mod: WriteMod, copies: int
) -> None:
    entry: dict[str, Any] = {"placement": {"copies": copies}} if copies > 1 else {}
    here, there = await both(nodes, write_mod("dies", DIES), durable=True, **entry)
    refused = asyncio.Queue[None]()

    async def shut_out(*_: Any) -> int:
        refused.put_nowait(None)
        raise ModvisorError("mod dies runs on another node by now, which shut this one out", code=Code.MOD_AWAY)

    journal: Any = cluster_of(here)._journal
    journal.log.accept = shut_out
    events = [
        (network, Event("test.ping", f"agent:{sender}", "mod:dies"))
        for network in (here, there)
        for sender in ("alice", "bob", "carol")
    ]
    asked = [asyncio.create_task(network.process_event(event)) for network, event in events]
    await refused.get()
    if copies == 1:  # else some are for the copy on the other node
        for _ in events[1:]:
            await refused.get()
        assert not any(task.done() for task in asked)
    await cluster_of(here).drain()
    for answer in await asyncio.gather(*asked):
        assert answer.success, answer


async def test_an_event_that_no_node_takes_in_time_says_why_the_mod_left(nodes: Nodes, write_mod: WriteMod) -> None:
    restart = {"first_delay": 60.0, "max_delay": 60.0}
    mods = [{"path": write_mod("dies", DIES), "restart": restart, "max_attempts": 1}]
    a = nodes("a", mods)
    await a.initialize()
    await ping(a, "dies", die=True)
    event = Event("test.ping", "agent:alice", "mod:dies", timeout=0.5)
    asked = asyncio.create_task(a.process_event(event))
    await until(lambda: waiting(a, "dies") == 1)
    cluster = cluster_of(a)
    cluster.placing.is_open = False
    cluster._lost("a test says so")
    answer = await asked
    assert answer.error == "mod_away"
    assert "before that: mod dies is being ended here: this node was cut off" in str(answer.message)


async def test_nothing_is_kept_of_what_was_asked_of_mods_that_the_network_has_no_more(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    path = write_mod("dies", DIES)
    b, a = nodes("b", []), nodes("a", [])
    await asyncio.gather(a.initialize(), b.initialize())
    lines: Any = cluster_of(a).asking._lines
    for number in range(3):
        name = f"dies{number}"
        loaded = await b.load_mod(path, mod_id=name, placement={"on": ["b"]})
        assert loaded.success, loaded
        await until(lambda name=name: a.get_loaded_mods().get(name, {}).get("state") == "ready")
        assert (await ping(a, name)).success
        assert [mod_id for mod_id, _ in lines] == [name]
        assert (await b.unload_mod(name)).success
        await until(lambda: not a.get_loaded_mods())


NOTES = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Notes(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            if event.payload.get("die"):
                os._exit(1)
            self.seen = [*getattr(self, "seen", ()), event.payload.get("number")]
            return EventResponse(True, data={"seen": self.seen})
"""


async def test_events_that_go_along_come_before_newer_ones_of_their_sender(nodes: Nodes, write_mod: WriteMod) -> None:
    restart = {"first_delay": 60.0, "max_delay": 60.0}
    here, there = await both(nodes, write_mod("notes", NOTES), restart=restart, max_attempts=1)
    await ping(here, "notes", die=True)
    asked = [asyncio.create_task(ping(here, "notes", number=number)) for number in range(5)]
    await until(lambda: waiting(here, "notes") == 5)
    stand_ins: Any = cluster_of(here).placing._stand_ins
    send_away, moving = stand_ins.send_away, asyncio.Event()

    def send_away_and_tell(*args: Any, **how: Any) -> Any:
        asked.extend(asyncio.create_task(ping(here, "notes", number=number)) for number in range(5, 8))
        stand_in = send_away(*args, **how)
        moving.set()
        return stand_in

    stand_ins.send_away = send_away_and_tell
    drained = asyncio.create_task(cluster_of(here).drain())
    await moving.wait()
    asked += [asyncio.create_task(ping(here, "notes", number=number)) for number in range(8, 10)]
    await asyncio.gather(*asked)
    await drained
    assert (await ping(there, "notes", number=10)).data["seen"] == list(range(11))
