"""Reload of one fake worker: what it tells, and that the old one serves on after any failure."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from modvisor.ipc.errors import Code
from modvisor.supervisor.lifecycle.handover import Reloaded, ReloadFailed
from modvisor.supervisor.lifecycle.keeper import Keeper
from modvisor.supervisor.lifecycle.reload import replace_worker, revert
from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.process.process import Exit
from tests.supervisor.fixtures import MakeWorld
from tests.supervisor.world import World

pytestmark = pytest.mark.anyio


def keeper_of(world: World) -> Keeper:
    assert world.keeper is not None
    return world.keeper


async def test_a_reload_tells_what_it_was_like(make_world: MakeWorld) -> None:
    world = await make_world()
    keeper = keeper_of(world)
    slow = world.send("slow")
    await asyncio.sleep(0.1)
    reload = asyncio.ensure_future(replace_worker(keeper, keeper.config))
    await world.until(lambda: keeper.caller._in_flight is None)
    waiting = [world.send(), world.send()]
    done = await reload
    assert (done.queued, done.before, done.after, done.workers) == (2, "1.0", "1.0", None)
    assert done.state_bytes > 0
    assert (await slow.task).success
    assert all([(await sent.task).success for sent in waiting])
    assert world.launcher.living == [world.worker]
    assert list(done.to_dict()) == ["pause_ms", "queued", "state_bytes", "from", "to"]


def test_workers_are_told_of_a_mod_that_has_several() -> None:
    assert "workers" not in Reloaded.from_down(None, "1.0").to_dict()
    assert Reloaded(1.0, 2, 3, "1", "2", workers=4).to_dict()["workers"] == 4


@pytest.mark.parametrize(
    ("fault", "code", "step"),
    [
        ("import fails", Code.IMPORT_FAILED, "import"),
        ("exits", Code.START_FAILED, "start"),
        ("activate fails", Code.INITIALIZE_FAILED, "activate"),
        ("dies activating", Code.START_FAILED, "activate"),
    ],
)
async def test_a_new_one_that_fails_leaves_the_old_one_serving(
    make_world: MakeWorld, fault: str, code: str, step: str
) -> None:
    world = await make_world()
    keeper, old = keeper_of(world), world.worker
    world.conduct.starts.append(fault)
    with pytest.raises(ReloadFailed) as caught:
        await replace_worker(keeper, keeper.config)
    assert (caught.value.code, caught.value.details["step"]) == (code, step)
    assert (world.launcher.living, keeper.state) == ([old], State.READY)
    assert (await world.send().task).success


@pytest.mark.parametrize(
    ("way", "code"), [("refuses", Code.STATE_REFUSED), ("hangs", Code.TIMEOUT), ("dies", Code.MOD_CRASHED)]
)
async def test_an_old_one_that_does_not_hand_over_its_state_fails_the_reload(
    make_world: MakeWorld, way: str, code: str
) -> None:
    world = await make_world(restart={"first_delay": 0, "max_delay": 0})
    keeper = keeper_of(world)
    world.conduct.hand_over = way
    with pytest.raises(ReloadFailed) as caught:
        await replace_worker(keeper, keeper.config)
    assert (caught.value.code, caught.value.details["step"]) == (code, "get_state")
    assert (await world.send(timeout=5).task).success
    assert world.launcher.living == [world.worker]


async def test_events_that_do_not_finish_in_time_fail_the_reload(make_world: MakeWorld) -> None:
    world = await make_world(limits={"drain_timeout": "1s"})
    keeper = keeper_of(world)
    slow = world.send("slow", seconds=5)
    await asyncio.sleep(0.1)
    with pytest.raises(ReloadFailed) as caught:
        await replace_worker(keeper, keeper.config)
    assert (caught.value.code, caught.value.details["step"]) == (Code.TIMEOUT, "drain")
    assert (await slow.task).success


async def test_a_mod_that_stops_first_is_never_there_twice(make_world: MakeWorld) -> None:
    world = await make_world(reload="stop_first")
    keeper = keeper_of(world)
    most = 0
    launch = world.launcher.launch

    async def launching(*args: Any, **options: Any) -> Any:
        nonlocal most
        most = max(most, len(world.launcher.living))
        return await launch(*args, **options)

    world.launcher.launch = launching  # type: ignore[method-assign]
    await replace_worker(keeper, keeper.config)
    assert (most, keeper.probation) == (0, None)
    assert (await world.send().task).success


async def test_a_mod_that_stops_first_comes_back_if_its_successor_fails(make_world: MakeWorld) -> None:
    world = await make_world(reload="stop_first")
    keeper = keeper_of(world)
    world.conduct.starts.append("import fails")
    waiting = world.send("slow")
    with pytest.raises(ReloadFailed):
        await replace_worker(keeper, keeper.config)
    assert (await waiting.task).success
    assert keeper.state is State.READY
    assert (await world.send().task).success


async def test_a_mod_that_stops_first_and_does_not_come_back_has_failed(make_world: MakeWorld) -> None:
    world = await make_world(reload="stop_first")
    keeper = keeper_of(world)
    world.conduct.starts += ["import fails", "activate fails"]
    with pytest.raises(ReloadFailed):
        await replace_worker(keeper, keeper.config)
    assert (keeper.state, world.launcher.living) == (State.FAILED, [])
    answer = await world.send().task
    assert (answer.error, "the port is taken" in (answer.message or "")) == ("mod_away", True)


async def test_a_mod_that_is_down_is_started(make_world: MakeWorld) -> None:
    world = await make_world(restart={"max_restarts": 0})
    keeper = keeper_of(world)
    assert world.worker is not None
    world.worker.die(Exit(1, None))
    await world.until(lambda: keeper.state is State.QUARANTINED)
    done = await replace_worker(keeper, keeper.config)
    assert done == Reloaded.from_down("1.0", "1.0")
    assert (keeper.state, keeper.quarantined) == (State.READY, None)


# -- probation


async def test_a_version_on_probation_is_accepted_in_the_end(make_world: MakeWorld) -> None:
    world = await make_world(probation="5s")
    keeper = keeper_of(world)
    await replace_worker(keeper, keeper.config)
    assert keeper.probation is not None
    assert not keeper.kept.has_snapshot, "its sources are on trial"
    await asyncio.sleep(5.1)
    assert (keeper.probation, keeper.kept.has_snapshot) == (None, True)


async def test_a_tentative_reload_stays_on_probation_until_it_is_settled(make_world: MakeWorld) -> None:
    world = await make_world(probation=None)
    keeper = keeper_of(world)
    await replace_worker(keeper, keeper.config, tentative=True)
    assert keeper.probation is not None
    assert keeper.probation.until == math.inf
    await keeper.trial.settle(None)
    assert keeper.probation is None


async def test_a_version_that_ends_on_probation_gives_way_to_the_previous_one(make_world: MakeWorld) -> None:
    world = await make_world(probation="60s")
    keeper = keeper_of(world)
    await replace_worker(keeper, keeper.config)
    assert world.worker is not None
    world.worker.die(Exit(1, None))
    assert (await world.send().task).success
    assert (keeper.probation, keeper.counters.rollbacks) == (None, 1)
    assert keeper.last_rollback is not None
    said = "version 1.0 of incarnation 2 failed on probation, version 1.0 of incarnation 1 serves again"
    assert said in keeper.last_rollback


async def test_a_version_that_fails_too_often_gives_way_to_the_previous_one(make_world: MakeWorld) -> None:
    world = await make_world(probation="60s")
    keeper = keeper_of(world)
    await replace_worker(keeper, keeper.config)
    new = world.worker
    await asyncio.gather(*(world.send("raise").task for _ in range(10)))
    await world.until(lambda: keeper.counters.rollbacks == 1)
    assert world.worker is not new
    assert (await world.send().task).success
    assert world.launcher.living == [world.worker]


async def test_a_revert_that_fails_leaves_the_version_on_probation(make_world: MakeWorld) -> None:
    world = await make_world(probation="60s")
    keeper = keeper_of(world)
    await replace_worker(keeper, keeper.config)
    new, probation = world.worker, keeper.probation
    assert probation is not None
    world.conduct.starts.append("import fails")
    await revert(keeper, probation, "a test")
    assert (world.worker, keeper.probation, keeper.counters.rollbacks) == (new, None, 0)
    assert (await world.send().task).success


@pytest.mark.parametrize("turns", range(1, 30, 2))
async def test_a_reload_that_is_given_up_within_a_probation_leaves_no_process(
    make_world: MakeWorld, turns: int
) -> None:
    world = await make_world(probation="60s")
    world.conduct.resumable = True
    keeper = keeper_of(world)
    await replace_worker(keeper, keeper.config)
    await replace_worker(keeper, keeper.config)  # from here on the old one rests
    second = asyncio.ensure_future(replace_worker(keeper, keeper.config))
    for _ in range(turns):
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    await asyncio.sleep(10)
    resting = keeper.probation.resting if keeper.probation is not None else None
    known = {each.pid for each in (keeper.incarnation, resting) if each is not None}
    assert {worker.pid for worker in world.launcher.living} == known
