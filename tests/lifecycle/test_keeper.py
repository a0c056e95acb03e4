"""One mod with all that is around it, on fake workers and a virtual clock: what happened once, turn by turn."""

from __future__ import annotations

import asyncio

import pytest

from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.process.process import Exit
from tests.supervisor.fixtures import MakeWorld

pytestmark = pytest.mark.anyio

FAST = {"first_delay": 0, "max_delay": 0}


async def test_an_event_takes_as_long_as_its_handler_and_no_time_at_all(make_world: MakeWorld) -> None:
    world = await make_world()
    began = world.loop.time()
    answer = await world.send("slow", seconds=20).task
    assert (answer.data, world.loop.time() - began) == ([0, 1], 20.0)


# -- durable events


async def test_a_durable_mod_without_a_queue_takes_what_it_can_handle_at_once(make_world: MakeWorld) -> None:
    world = await make_world(durable=True, limits={"queue": 0, "concurrency": 2})
    answers = await asyncio.gather(*(world.send("slow").task for _ in range(3)))
    assert [answer.error for answer in answers] == [None, None, "overloaded"]


async def test_what_was_accepted_is_not_refused_for_want_of_room(make_world: MakeWorld) -> None:
    """More than may wait come back from the journal at once, when the mod does."""
    world = await make_world(durable=True, limits={"queue": 2, "concurrency": 1}, restart={"max_restarts": 0})
    kept = [world.send("slow", timeout=0.1) for _ in range(3)]
    assert {(await sent.task).error for sent in kept} == {"pending"}
    world.worker.die(Exit(1, None))
    await world.until(lambda: world.keeper.state is State.QUARANTINED)
    for _ in range(4):  # as many as an earlier, larger queue has left
        await world.journal.accept("work", world.event("answer"))
    assert (await world.ask.restart("work")).success
    await world.until(lambda: not world.journal.accepted)
    assert [outcome.success for _, outcome in world.late] == [True] * 7


async def test_what_is_accepted_while_the_mod_goes_away_is_kept_and_its_sender_told(make_world: MakeWorld) -> None:
    world = await make_world(durable=True)
    world.journal.lag = 0.1
    accepting = world.send()
    await asyncio.sleep(0.05)
    await world.ask.unload("work")
    answer = await accepting.task
    assert (answer.error, "handle it when it is back" in answer.message) == ("pending", True)
    assert world.loop.time() < accepting.deadline, "at once, not at its deadline"
    assert (await world.ask.load(world.mod)).success
    await world.until(lambda: not world.journal.accepted)
    assert [outcome.success for _, outcome in world.late] == [True]


# -- commands


@pytest.mark.parametrize("command", ["reload", "restart"])
async def test_a_start_that_is_given_up_is_said_to_have_failed(make_world: MakeWorld, command: str) -> None:
    """Nothing else would bring the mod back: whoever sent it events would wait in vain."""
    world = await make_world(restart={"max_restarts": 0})
    world.worker.die(Exit(1, None))
    await world.until(lambda: world.keeper.state is State.QUARANTINED)
    world.conduct.starts.append("slow import")
    asked = world.command(getattr(world.ask, command)("work"))
    await world.until(lambda: world.keeper.state is State.STARTING and bool(world.launcher.living))
    asked.cancel()
    await asyncio.wait([asked])
    answer = await world.send().task
    assert (answer.error, "gave up" in answer.message) == ("mod_away", True)
    assert (world.keeper.state, world.launcher.living) == (State.FAILED, [])
    assert (await world.ask.restart("work")).success
    assert (await world.send().task).success


@pytest.mark.parametrize("state", [State.BACKOFF, State.RESTARTING])
@pytest.mark.parametrize("moment", [0.1, 0.3])
async def test_a_reload_that_is_given_up_leaves_the_restart_under_way(
    make_world: MakeWorld, state: State, moment: float
) -> None:
    world = await make_world(restart={"first_delay": 1, "max_delay": 1})
    world.conduct.starts += ["slow import", "slow import"]
    world.worker.die(Exit(1, None))
    await world.until(lambda: world.keeper.state is state)
    world.conduct.exit_lag = 0.2  # a process that is cut short is waited for
    reload = world.command(world.ask.reload("work"))
    await asyncio.sleep(moment)
    reload.cancel()
    answer = await world.send(timeout=5).task
    assert answer.success, answer
    assert world.launcher.living == [world.worker]


@pytest.mark.parametrize("state", [State.BACKOFF, State.RESTARTING])
async def test_a_reload_that_fails_leaves_the_restart_under_way(make_world: MakeWorld, state: State) -> None:
    world = await make_world(restart={"first_delay": 1, "max_delay": 1})
    restarting = state is State.RESTARTING
    world.conduct.starts += ["slow import", "import fails"] if restarting else ["import fails"]
    world.worker.die(Exit(1, None))
    await world.until(lambda: world.keeper.state is state)
    failed = await world.ask.reload("work")
    assert (failed.error, "its restart goes on" in failed.message) == ("import_failed", True)
    assert (await world.send(timeout=5).task).success


@pytest.mark.parametrize("command", ["reload", "restart"])
async def test_a_mod_on_its_way_back_is_there_at_once_when_it_is_asked_for(make_world: MakeWorld, command: str) -> None:
    world = await make_world(restart={"first_delay": 9, "max_delay": 9})
    world.worker.die(Exit(1, None))
    await world.until(lambda: world.keeper.state is State.BACKOFF)
    waiting = world.send(timeout=1)
    assert (await getattr(world.ask, command)("work")).success
    assert (await waiting.task).success
    await asyncio.sleep(20)
    assert len(world.launcher.workers) == 2, "the restart that was due is not made any more"


async def test_a_reload_does_not_hold_the_events_of_a_successor(make_world: MakeWorld) -> None:
    """The old one died while the new one was starting, and its restart was the quicker: that one goes on."""
    world = await make_world(restart=FAST)
    world.conduct.starts.append("slow import")
    reload = world.command(world.ask.reload("work"))
    await world.until(lambda: len(world.launcher.living) == 2)
    world.worker.die(Exit(1, None))
    answer = await reload
    assert (answer.error, answer.data["step"]) == ("mod_crashed", "switch")
    assert world.keeper.state is State.READY
    assert (await world.send(timeout=1).task).success
    assert world.launcher.living == [world.worker]


async def test_a_reload_that_fails_feeds_nothing_to_a_worker_that_is_being_ended(make_world: MakeWorld) -> None:
    world = await make_world(restart=FAST)
    world.conduct.hand_over = "hangs"
    reload = world.command(world.ask.reload("work"))
    await world.until(lambda: len(world.launcher.living) == 2)
    world.worker.hang()
    await world.until(lambda: world.keeper.state is State.ENDING)
    reload.cancel()
    waiting = world.send()
    assert (await waiting.task).data == [0, 1], "it was not given to the one that hung"


# -- ends


async def test_an_end_that_was_under_way_already_is_reported_when_it_is_unloaded(make_world: MakeWorld) -> None:
    """And the dead letter that goes with it is not kept waiting for a report that never comes."""
    world = await make_world(max_attempts=1)
    world.conduct.exit_lag = 0.5
    began, poison = world.loop.time(), world.send("poison")
    await world.until(lambda: world.keeper.state is State.ENDING)
    world.command(world.ask.unload("work"))
    assert (await poison.task).error == "dead_lettered"
    assert world.loop.time() - began == pytest.approx(0.5, abs=0.01)
    (letter,) = world.journal.letters.values()
    assert letter.report["detail"] == "exit code 3"


async def test_an_end_that_was_under_way_already_is_reported_when_another_takes_over(make_world: MakeWorld) -> None:
    world = await make_world()
    world.conduct.starts.append("slow activate")
    reload = world.command(world.ask.reload("work"))
    await world.until(lambda: len(world.launcher.living) == 2)
    await asyncio.sleep(0.2)
    world.conduct.exit_lag = 0.5
    world.worker.die(Exit(7, None))
    assert (await reload).success
    assert [report.detail for report in world.keeper.crashes] == ["exit code 7"]
    assert world.keeper.state is State.READY


async def test_a_worker_that_closes_its_pipe_just_as_it_is_ready_is_ended(make_world: MakeWorld) -> None:
    world = await make_world(restart=FAST)
    world.conduct.starts.append("closes pipe when active")
    world.worker.die(Exit(1, None))
    await world.until(lambda: len(world.launcher.workers) == 2)
    assert (await world.send(timeout=5).task).success
    assert world.launcher.living == [world.worker]
    assert [report.detail for report in world.keeper.crashes] == ["exit code 1", "the peer closed the pipe"]


# -- events


async def test_an_event_that_was_never_sent_is_not_under_suspicion(make_world: MakeWorld) -> None:
    """Its worker was dead already when it was written, and nobody had noticed."""
    world = await make_world(restart=FAST, max_attempts=1)
    world.worker.die(Exit(1, None))
    assert (await world.send().task).data == [0, 1]
    (report,) = world.keeper.crashes
    assert report.in_flight_count == 0


async def test_suspects_keep_their_order_when_the_next_worker_dies_before_it_gets_one(make_world: MakeWorld) -> None:
    world = await make_world(restart=FAST)
    tasks = [world.send("slow").task for _ in range(3)]
    await asyncio.sleep(0.1)
    world.conduct.starts.append("dies when active")
    world.worker.die(Exit(1, None))
    begun: list[tuple[int, int]] = []
    world.launcher.on_event = lambda _worker, handling: begun.append((handling.event["payload"]["n"], handling.attempt))
    assert all(answer.success for answer in await asyncio.gather(*tasks))
    assert begun == [(0, 2), (1, 2), (2, 2)]


async def test_an_event_that_waits_for_the_pipe_is_finished_before_an_unload(make_world: MakeWorld) -> None:
    """It has its place, behind a large message that the worker is still reading."""
    world = await make_world()
    world.keeper.incarnation.pipe.notify("note", {"blob": bytes(30_000_000)})
    sent = world.send("slow")
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.keeper.incarnation.pipe.buffered > 10_000_000
    assert (await world.ask.unload("work")).success
    assert sent.answer is not None
    assert sent.answer.success, sent.answer
