"""Suspects are tried in a process of their own, beside the one that serves. Fake workers, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modvisor.ipc.errors import Code
from modvisor.ipc.manifest import Manifest
from modvisor.supervisor.config.mods.mod import LimitsConfig, ModConfig
from modvisor.supervisor.lifecycle.keeper import Keeper
from modvisor.supervisor.lifecycle.reload import replace_worker
from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.lifecycle.trial_process import permits_trials
from modvisor.supervisor.process.process import Exit
from tests.supervisor.fake_workers import FakeWorker
from tests.supervisor.fixtures import MakeWorld
from tests.supervisor.world import Sent, World

pytestmark = pytest.mark.anyio

FAST = {"first_delay": 0, "max_delay": 0, "max_restarts": 1}
MANIFEST = Manifest("mod:Mod", "1.0", "", ("work.*",), (), "/mod.py", side_by_side=True)
MOD = ModConfig("./mod", "mod")


async def serving(make_world: MakeWorld, **mod: Any) -> tuple[World, Keeper]:
    """Return a mod that permits trial processes."""
    world = await make_world(probation=None, restart=FAST, **mod)
    world.conduct.side_by_side = True
    keeper = world.keeper
    assert keeper is not None
    await replace_worker(keeper, keeper.config)
    return world, keeper


def tried_in(world: World) -> FakeWorker | None:
    """Return the trial process."""
    assert world.keeper is not None
    tried = world.keeper.beside.incarnation
    return None if tried is None else next(worker for worker in world.launcher.workers if worker.pid == tried.pid)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that no event tells of, for a minute at most."""
    for _ in range(1200):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came")


async def on_trial(world: World, do: str = "poison later", seconds: float = 5.0) -> Sent:
    """Send an event that kills its worker each time; return it in its trial."""
    sent = world.send(do, seconds=seconds)
    await until(lambda: (worker := tried_in(world)) is not None and bool(worker.handling))
    return sent


async def test_new_events_are_handled_while_a_culprit_is_tried(make_world: MakeWorld) -> None:
    world, keeper = await serving(make_world)
    culprit = await on_trial(world)
    tried, serves = tried_in(world), world.worker
    assert tried is not serves
    answers = [await world.send().task for _ in range(20)]
    assert all(answer.success for answer in answers)
    assert tried_in(world) is tried, "the trial goes on"
    assert (await culprit.task).error == Code.DEAD_LETTERED
    assert world.worker is serves, "the trial ended another process"
    assert [(crash.alone, crash.trial) for crash in keeper.crashes] == [(False, False), (True, True)]
    assert (keeper.counters.restarts, keeper.state) == (1, State.READY)


async def test_the_ends_of_trial_processes_do_not_count_against_the_mod(make_world: MakeWorld) -> None:
    """One restart is allowed within a minute; each of three culprits ends a trial process."""
    world, keeper = await serving(make_world)
    culprits = [world.send("poison later", seconds=0.1) for _ in range(3)]
    assert [(await culprit.task).error for culprit in culprits] == [Code.DEAD_LETTERED] * 3
    trials = [crash for crash in keeper.crashes if crash.trial]
    assert len(trials) > 2
    assert (keeper.state, keeper.quarantined, keeper.counters.restarts) == (State.READY, None, 1)
    assert keeper.last_error is not None
    assert f"incarnation {trials[-1].incarnation} " not in keeper.last_error


async def test_a_suspect_that_does_not_kill_is_answered_and_its_process_ends(make_world: MakeWorld) -> None:
    world, keeper = await serving(make_world)
    sent = world.send("answer and die once")
    answer = await sent.task
    assert answer.data == [sent.n, 2]
    await until(lambda: world.launcher.living == [world.worker])
    assert [crash.trial for crash in keeper.crashes] == [False]


async def test_suspects_that_nobody_names_are_tried_beside_in_halves(make_world: MakeWorld) -> None:
    world, keeper = await serving(make_world)
    sent = [world.send("poison later" if n == 3 else "slow", seconds=1.0) for n in range(6)]
    await asyncio.sleep(0.1)
    assert world.worker is not None
    world.worker.die(Exit(None, 9))
    await until(lambda: (worker := tried_in(world)) is not None and len(worker.handling) == 3)
    assert (await world.send().task).success
    assert [(await each.task).success for each in sent] == [True, True, True, False, True, True]
    assert sent[3].answer is not None
    assert sent[3].answer.error == Code.DEAD_LETTERED
    assert keeper.counters.restarts == 1


async def test_what_a_suspect_causes_goes_to_its_own_process(make_world: MakeWorld) -> None:
    world, keeper = await serving(make_world)
    nest = world.send("nest poison")
    assert (await nest.task).error == Code.DEAD_LETTERED
    assert [crash.trial for crash in keeper.crashes] == [False, True]
    assert {event["event_id"] for crash in keeper.crashes for event in crash.in_flight} >= {nest.event.event_id}


async def test_a_trial_process_that_hangs_is_killed_and_the_mod_serves_on(make_world: MakeWorld) -> None:
    world, keeper = await serving(make_world, limits={"hang_timeout": "2s"})
    culprit = world.send("spin")
    assert (await culprit.task).error == Code.DEAD_LETTERED
    assert [(str(crash.cause), crash.trial) for crash in keeper.crashes] == [("hang", False), ("hang", True)]
    assert keeper.counters.restarts == 1


@pytest.mark.parametrize("do", ["garbage", "close pipe"])
async def test_a_trial_process_that_loses_its_pipe_is_killed(make_world: MakeWorld, do: str) -> None:
    world, keeper = await serving(make_world)
    assert (await world.send(do).task).error == Code.DEAD_LETTERED
    assert [crash.trial for crash in keeper.crashes] == [False, True]
    assert world.launcher.living == [world.worker]


async def test_a_reload_lets_the_trial_finish(make_world: MakeWorld) -> None:
    world, keeper = await serving(make_world, limits={"drain_timeout": "10s"})
    culprit = await on_trial(world, seconds=3.0)
    await replace_worker(keeper, keeper.config)
    assert culprit.answer is not None
    assert culprit.answer.error == Code.DEAD_LETTERED
    assert world.launcher.living == [world.worker]


async def test_what_a_reload_cuts_short_is_tried_beside_the_new_version(make_world: MakeWorld) -> None:
    world, keeper = await serving(make_world, limits={"drain_timeout": "1s"})
    culprit = await on_trial(world, seconds=5.0)
    first = tried_in(world)
    reload = asyncio.ensure_future(replace_worker(keeper, keeper.config))
    await asyncio.sleep(0.5)
    assert (await world.send().task).success, "nothing waits while the trial is drained"
    await reload
    await until(lambda: tried_in(world) not in (None, first))
    serves = world.worker
    assert (await culprit.task).error == Code.DEAD_LETTERED
    assert (world.worker, keeper.state) == (serves, State.READY)


@pytest.mark.parametrize("seconds", [0.5, 30.0])
async def test_an_unload_ends_the_trial(make_world: MakeWorld, seconds: float) -> None:
    world, _ = await serving(make_world, limits={"drain_timeout": "1s", "unload_timeout": "4s"})
    culprit = await on_trial(world, "poison later", seconds=20.0)
    innocent = world.send("slow", seconds=seconds)
    await asyncio.sleep(0.1)
    assert (await world.ask.unload("work")).success
    assert world.launcher.living == []
    assert (await culprit.task).error == Code.MOD_UNLOADED
    assert (await innocent.task).success is (seconds < 1)


async def test_a_crash_of_the_serving_process_leaves_the_trial_alone(make_world: MakeWorld) -> None:
    world, _ = await serving(make_world)
    culprit = await on_trial(world, seconds=3.0)
    tried = tried_in(world)
    assert world.worker is not None
    world.worker.die(Exit(1, None))
    assert (await world.send().task).success is False, "one restart is allowed, and this is the second end"
    assert tried_in(world) is tried
    assert (await culprit.task).error in (Code.DEAD_LETTERED, Code.MOD_CRASHED)
    await until(lambda: world.launcher.living == [])


@pytest.mark.parametrize("fault", ["refused", "exits", "activate fails"])
async def test_suspects_are_tried_in_the_one_process_if_no_other_one_starts(make_world: MakeWorld, fault: str) -> None:
    world, keeper = await serving(make_world)
    world.conduct.starts.extend(["", fault])  # the restart, then the trial process
    assert (await world.send("poison").task).error == Code.DEAD_LETTERED
    assert [crash.trial for crash in keeper.crashes] == [False, False]
    assert (await world.send().task).success


async def test_trial_processes_that_end_for_no_event_are_given_up(make_world: MakeWorld) -> None:
    """They end as soon as they are active: the suspect is tried in the process that serves."""
    world, keeper = await serving(make_world)
    world.conduct.starts.extend(["", *["dies when active"] * 5])
    sent = world.send("answer and die once")
    assert (await sent.task).data == [sent.n, 2]
    assert not keeper.beside.incarnation


async def test_a_mod_on_probation_starts_no_trial_process(make_world: MakeWorld) -> None:
    world = await make_world(probation="60s", restart=FAST)
    world.conduct.side_by_side = True
    keeper = world.keeper
    assert keeper is not None
    await replace_worker(keeper, keeper.config)
    assert not keeper.permits_trials()
    await keeper.trial.end()
    assert keeper.permits_trials()


@pytest.mark.parametrize(
    ("changes", "permits"),
    [
        ({}, True),
        ({"suspects": "alone"}, False),
        ({"reload": "stop_first"}, False),
        ({"delivery": "at_most_once"}, False),
        ({"limits": LimitsConfig(concurrency=1)}, False),
        ({"checkpoint_every": 5.0}, False),
        ({"partition_by": "source"}, False),
        ({"partition_by": "payload.order", "overlap": True}, False),
        ({"partition_by": "least_loaded"}, True),
        ({"partition_by": "least_loaded", "replica": 1}, True),
        ({"replica": 1}, False),
    ],
)
def test_a_trial_process_runs_beside_mods_that_do_not_notice(changes: dict[str, Any], permits: bool) -> None:
    assert permits_trials(replace(MOD, **changes), MANIFEST) is permits
    assert not permits_trials(replace(MOD, **changes), replace(MANIFEST, side_by_side=False))
    assert not permits_trials(replace(MOD, **changes), None)
