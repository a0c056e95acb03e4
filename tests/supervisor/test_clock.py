"""The clock without pauses, and loops whose timers follow it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.supervisor.clock import BEAT, TOLERANCE, AwakeTime, new_loop
from modvisor.supervisor.runtime import ASYNCIO, UVLOOP, has_uvloop

PAUSE = BEAT + TOLERANCE + 0.3  # seconds; shorter ones are not told from a busy machine


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_pause_does_not_count_and_what_follows_does() -> None:
    clock = Clock()
    awake = AwakeTime(clock)
    began = awake.time()
    clock.now += 60
    assert awake.time() == pytest.approx(began + BEAT)
    clock.now += 0.2
    assert awake.time() == pytest.approx(began + BEAT + 0.2)


def test_a_turn_that_is_a_little_late_counts() -> None:
    clock = Clock()
    awake = AwakeTime(clock)
    began = awake.time()
    for _ in range(100):
        clock.now += BEAT + TOLERANCE / 2
        awake.beat()
    assert awake.paused == 0
    assert awake.time() == pytest.approx(began + 100 * (BEAT + TOLERANCE / 2))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=50))
def test_it_never_runs_backwards_and_never_ahead(steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    awake = AwakeTime(clock)
    last = awake.time()
    for seconds, beats in steps:
        clock.now += seconds
        if beats:
            awake.beat()
        now = awake.time()
        assert -1e-6 <= now - last <= seconds + 1e-6
        last = now


@pytest.fixture(params=[ASYNCIO, UVLOOP])
def loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    if request.param == UVLOOP and not has_uvloop():
        pytest.skip("uvloop is not installed here")
    return partial(new_loop, request.param)


def test_deadlines_are_put_off_by_a_pause(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def wait() -> float:
        answered = asyncio.Event()
        async with asyncio.timeout(PAUSE / 2):
            await asyncio.sleep(0.01)
            began = asyncio.get_running_loop().time()
            time.sleep(PAUSE)
            asyncio.get_running_loop().call_later(0.05, answered.set)
            await answered.wait()
        return asyncio.get_running_loop().time() - began

    with asyncio.Runner(loop_factory=loop) as runner:
        assert 0.04 < runner.run(wait()) < PAUSE / 2 + BEAT


def test_deadlines_end_all_the_same(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def wait() -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        cancelled = asyncio.get_running_loop().call_later(0.01, pytest.fail, "it was cancelled")
        cancelled.cancel()
        assert cancelled.cancelled()
        await asyncio.sleep(0.03)
        return time.monotonic() - began

    with asyncio.Runner(loop_factory=loop) as runner:
        assert 0.07 < runner.run(wait()) < 1
