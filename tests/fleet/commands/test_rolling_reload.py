"""Reload of a mod with several workers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.process.process import Exit

from ..conftest import MakeWorld

pytestmark = pytest.mark.anyio


async def test_workers_are_replaced_one_after_the_other(make_world: MakeWorld) -> None:
    world = await make_world(workers=2)
    before = [worker.pid for worker in world.launcher.living]
    response = await world.ask.reload("work")
    assert (response.success, response.data["workers"], response.data["from"], response.data["to"]) == (
        True,
        2,
        "1.0",
        "1.0",
    )
    await world.until(lambda: len(world.launcher.living) == 2)
    assert not {worker.pid for worker in world.launcher.living} & set(before)
    assert response.data["state_bytes"] > 0


async def test_a_worker_that_cannot_be_replaced_reverts_those_before_it(make_world: MakeWorld) -> None:
    world = await make_world(workers=2)
    world.conduct.starts.extend(["", "import fails"])
    response = await world.ask.reload("work")
    assert (response.error, response.data["worker"]) == ("import_failed", 1)
    (mod,) = world.mods
    assert mod.state is State.READY
    first, second = mod.keepers
    assert "worker 1 could not be reloaded" in str(first.last_rollback)
    assert second.last_rollback is None


async def test_workers_that_are_all_down_are_started(make_world: MakeWorld) -> None:
    world = await make_world(workers=2, restart={"max_restarts": 0})
    for worker in world.launcher.living:
        worker.die(Exit(1, None))
    (mod,) = world.mods
    await world.until(lambda: all(worker.state is State.QUARANTINED for worker in mod.keepers))
    response = await world.ask.reload("work", replace(world.mod, workers=3))
    assert (response.success, response.data["pause_ms"], response.data["queued"]) == (True, 0.0, 0)
    assert [worker.mod_id for worker in mod.keepers] == ["work#0", "work#1", "work#2"]
    assert mod.state is State.READY
