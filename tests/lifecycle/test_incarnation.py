"""One incarnation on a fake worker: it starts or leaves no process, and it ends in any case."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.messages import Request
from modvisor.supervisor.lifecycle.incarnation import Incarnation, Listeners, StartFailed
from modvisor.supervisor.limits.watchdog import Exceeded
from modvisor.supervisor.process.crashes import Cause
from modvisor.supervisor.process.process import Exit
from tests.lifecycle.test_starting import make_recipe
from tests.supervisor.fake_workers import Conduct, FakeLauncher, FakeWorker

pytestmark = pytest.mark.anyio

LIMITS = {"start_timeout": "3s", "shutdown_timeout": "0.5s", "term_timeout": "0.5s"}


class Place:
    """Starts incarnations of one mod, and notes what they tell."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.config = make_recipe(folder, limits=LIMITS)
        self.conduct = Conduct()
        self.launcher = FakeLauncher(self.conduct)
        self.lost: list[ModvisorError] = []
        self.exceeded: list[Exceeded] = []
        self.cancelled: list[int | None] = []
        self.requests: list[Request] = []

    async def start(self, fault: str = "") -> Incarnation:
        if fault:
            self.conduct.starts.append(fault)
        order = await self.recipe.order(await self.recipe.find(self.config, from_snapshot=False), 1)
        listeners = Listeners(
            on_request=lambda _incarnation, request: self.requests.append(request),
            on_cancel=lambda _incarnation, request_id: self.cancelled.append(request_id),
            on_lost=lambda _incarnation, reason: self.lost.append(reason),
            on_exceeded=lambda _incarnation, exceeded: self.exceeded.append(exceeded),
        )
        return await Incarnation.start(order, self.launcher, self.recipe.log_of("work"), listeners)

    @property
    def worker(self) -> FakeWorker:
        return self.launcher.workers[-1]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    (tmp_path / "state" / "logs").mkdir(parents=True)
    yield place
    await place.launcher.close()


def now() -> float:
    return asyncio.get_running_loop().time()


# -- start


async def test_a_start_that_is_given_up_while_its_late_worker_is_asked_for_its_stacks_leaves_no_process(
    place: Place,
) -> None:
    starting = asyncio.create_task(place.start("mute"))
    while not place.launcher.workers:
        await asyncio.sleep(0)
    place.worker.process.dump_stacks = lambda: starting.cancel()  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert place.launcher.living == []


async def test_a_worker_that_has_loaded_its_mod_is_not_ready_before_it_is_activated(place: Place) -> None:
    incarnation = await place.start()
    assert incarnation.manifest is not None
    assert (incarnation.manifest.version, incarnation.served, incarnation.activating) == ("1.0", 0.0, False)
    await incarnation.activate(1.0)
    assert incarnation.activating
    await incarnation.stop(now() + 1)


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("refused", Code.START_FAILED, "no worker could be started"),
        ("exits", Code.START_FAILED, "exit code 1 before it was ready"),
        ("mute", Code.START_TIMEOUT, "not ready within its start timeout of 3 s"),
        ("stranger", Code.PROTOCOL_MISMATCH, "its worker speaks protocol 99"),
        ("import fails", Code.IMPORT_FAILED, "SyntaxError"),
        ("imports forever", Code.START_TIMEOUT, "not ready within its start timeout of 3 s"),
        ("dies importing", Code.START_FAILED, "signal SIGSEGV before it was ready"),
        ("no manifest", Code.PROTOCOL_ERROR, "manifest"),
    ],
)
async def test_a_start_that_fails_says_why_and_leaves_no_process(
    place: Place, fault: str, code: str, says: str
) -> None:
    with pytest.raises(StartFailed, match=f"mod work: .*{says}") as caught:
        await place.start(fault)
    assert caught.value.code == code
    assert place.launcher.living == []


async def test_a_start_that_is_cancelled_leaves_no_process(place: Place) -> None:
    starting = asyncio.ensure_future(place.start("imports forever"))
    while not place.launcher.living:
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert place.launcher.living == []


# -- calls of its life


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("activate fails", Code.INITIALIZE_FAILED, "the port is taken"),
        ("activates forever", Code.START_TIMEOUT, "activate() took more than 1 s"),
        ("dies activating", Code.START_FAILED, "the worker ended in activate()"),
    ],
)
async def test_activate_that_fails_names_the_call(place: Place, fault: str, code: str, says: str) -> None:
    incarnation = await place.start(fault)
    with pytest.raises(StartFailed) as caught:
        await incarnation.activate(1.0)
    assert caught.value.code == code
    assert f"mod work: {says}" in str(caught.value)
    assert bool(place.launcher.living) == (fault != "dies activating"), "the caller decides about the process"


async def test_activate_or_kill_leaves_no_process(place: Place) -> None:
    incarnation = await place.start("activate fails")
    with pytest.raises(StartFailed, match="the port is taken"):
        await incarnation.activate_or_kill()
    assert place.launcher.living == []


async def test_a_mod_that_hangs_while_it_takes_over_its_checkpoint_is_named(place: Place) -> None:
    incarnation = await place.start()
    place.worker.hang()
    with pytest.raises(StartFailed) as caught:
        await incarnation.restore({"n": 1}, "1.0", 1.0)
    assert str(caught.value) == "mod work did not take over its checkpoint: set_state() took more than 1 s"
    assert caught.value.code == Code.START_TIMEOUT


async def test_deactivate_has_a_timeout_of_its_own_code(place: Place) -> None:
    incarnation = await place.start()
    place.worker.hang()
    with pytest.raises(StartFailed, match="deactivate") as caught:
        await incarnation.deactivate(1.0)
    assert caught.value.code == Code.TIMEOUT


async def test_a_hanging_mod_does_not_answer(place: Place) -> None:
    incarnation = await place.start()
    assert await incarnation.answers(1.0)
    place.worker.hang()
    assert not await incarnation.answers(1.0)


# -- end


async def test_a_mod_that_shuts_down_is_sent_no_signal(place: Place) -> None:
    incarnation = await place.start()
    assert await incarnation.stop(now() + 5) == Exit(0, None)
    assert incarnation.end_reason == "it was stopped"
    assert incarnation.in_flight.report.result() is None, "nobody waits for a crash report"


@pytest.mark.parametrize(("heeds_sigterm", "took", "last"), [(True, 0.5, signal.SIGTERM), (False, 1.0, signal.SIGKILL)])
async def test_a_mod_that_hangs_is_sent_one_signal_after_the_other(
    place: Place, heeds_sigterm: bool, took: float, last: int
) -> None:
    incarnation = await place.start()
    place.conduct.shutdown, place.conduct.heeds_sigterm = "hangs", heeds_sigterm
    began = now()
    assert await incarnation.stop(began + 5) == Exit(None, last)
    assert now() - began == pytest.approx(took)


async def test_all_of_the_end_is_over_at_the_deadline(place: Place) -> None:
    incarnation = await place.start()
    place.conduct.shutdown, place.conduct.heeds_sigterm = "hangs", False
    began = now()
    await incarnation.stop(began + 0.2)
    assert now() - began == pytest.approx(0.2)


async def test_the_first_reason_for_an_end_counts(place: Place) -> None:
    incarnation = await place.start()
    incarnation.end("memory: used 2 of 1", Cause.LIMIT_HIT)
    incarnation.fail("it could not be activated again")
    await incarnation.process.exited
    assert (incarnation.end_reason, incarnation.end_cause) == ("memory: used 2 of 1", Cause.LIMIT_HIT)
    assert await incarnation.why_ended() == "memory: used 2 of 1"


async def test_an_end_of_the_pipe_is_told_with_all_requests_given_up(place: Place) -> None:
    incarnation = await place.start()
    place.worker.die(Exit(3, None))
    await incarnation.process.exited
    assert await incarnation.why_ended() == "exit code 3"
    assert len(place.lost) == 1
    assert place.cancelled == [None]
