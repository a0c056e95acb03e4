"""A mod with several workers."""

from __future__ import annotations

import asyncio

import pytest

from modvisor.ipc.partition import key_of, partition_of
from modvisor.supervisor.fleet.mods.workers import configs_of, pids_of
from modvisor.supervisor.lifecycle.states import State

from ..conftest import MakeWorld
from ..fake_mods import config

pytestmark = pytest.mark.anyio


async def test_each_worker_has_a_config_of_its_own() -> None:
    configs = configs_of(config("wiki", workers=2))
    assert [(own.mod_id, own.replica, own.workers) for own in configs] == [("wiki#0", 0, None), ("wiki#1", 1, None)]
    assert configs_of(config("wiki")) == []


async def test_the_events_of_a_source_go_to_one_worker(make_world: MakeWorld) -> None:
    world = await make_world(workers=3)
    (mod,) = world.mods
    for source in ("agent:a", "agent:b", "agent:c"):
        await world.send(source=source).task
        index = partition_of(key_of("source", source, {}), 3)
        assert mod.keeper_of(world.event(source=source)) is mod.keepers[index]
    assert mod.counters.answered == sum(worker.counters.answered for worker in mod.keepers) == 3
    assert pids_of(mod) == {"pid": None, "pids": [worker.pid for worker in world.launcher.living]}


async def test_a_mod_is_as_ready_as_its_least_ready_worker(make_world: MakeWorld) -> None:
    world = await make_world(workers=2)
    (mod,) = world.mods
    await mod.keepers[1].unload()
    assert (mod.state, mod.incarnation is mod.keepers[0].incarnation) == (mod.keepers[1].state, True)
    assert mod.state is not State.READY


async def test_events_wait_while_the_workers_change(make_world: MakeWorld) -> None:
    world = await make_world(workers=2, limits={"queue": 1})
    (mod,) = world.mods
    await mod.settle(1.0)
    waits, refused = world.send(), world.send()
    assert (await refused.task).error == "overloaded"
    assert mod.reopen() == 1
    assert (await waits.task).success


async def test_a_settled_mod_waits_for_events_in_flight(make_world: MakeWorld) -> None:
    world = await make_world(workers=2)
    (mod,) = world.mods
    slow = world.send("slow", seconds=5)
    await asyncio.sleep(0.1)
    with pytest.raises(TimeoutError):
        await mod.settle(1.0)
    mod.reopen()
    assert (await slow.task).success
