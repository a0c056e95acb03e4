"""What is sent waits for its turn, and every address has its turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import TypeVar

import pytest

from modvisor.supervisor.http.door import read_turns
from modvisor.supervisor.http.door.read_turns import WEIGHT, Turnstile, in_steps
from tests.conftest import until

pytestmark = pytest.mark.anyio

T = TypeVar("T")


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def note(passed: list[T], what: T, size: int = 0) -> int:
    passed.append(what)
    return size


async def test_in_one_turn_some_pass_and_the_others_in_the_next_ones() -> None:
    turnstile, passed = Turnstile(4), list[int]()
    for number in range(20):
        if turnstile.has_place():
            passed.append(number)
        else:
            turnstile.queue("a", partial(note, passed, number))
    assert passed == [0, 1, 2, 3]
    await turns(2)
    assert 8 <= len(passed) < 20
    await until(lambda: passed == list(range(20)))
    assert len(turnstile) == 0


async def test_who_sends_little_does_not_wait_behind_who_sends_much() -> None:
    turnstile, passed = Turnstile(1), list[str]()
    for _ in range(1000):
        turnstile.queue("flooder", partial(note, passed, "flooder"))
    turnstile.queue("honest", partial(note, passed, "honest"))
    assert not turnstile.has_place()
    await until(lambda: "honest" in passed)
    assert passed.index("honest") <= 2


async def test_a_large_piece_takes_the_places_of_several() -> None:
    turnstile = Turnstile(4)
    assert turnstile.has_place(8 * WEIGHT)
    assert not turnstile.has_place()
    passed = list[int]()
    for number in range(3):
        turnstile.queue("a", partial(note, passed, number, 8 * WEIGHT))
    await turns(1)
    assert passed == [0]
    await until(lambda: passed == [0, 1, 2])


async def test_what_kept_the_loop_is_followed_by_a_rest_but_not_by_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_turns, "LONGEST_REST", 0.2)
    turnstile, passed = Turnstile(4, lambda: 0.25), list[float]()
    loop = asyncio.get_running_loop()
    turnstile.kept(1000.0)
    rested = loop.time()
    assert not turnstile.has_place()
    turnstile.queue("a", lambda: note(passed, loop.time()))
    await until(lambda: bool(passed))
    assert 0.19 <= passed[0] - rested < 5


async def test_all_steps_of_a_request_are_counted_and_its_result_comes() -> None:
    kept = list[float]()

    async def work() -> str:
        for _ in range(3):
            began = time.thread_time()
            while time.thread_time() - began < 0.01:
                pass
            await asyncio.sleep(0.001)
        return "done"

    assert await in_steps(work(), kept.append) == "done"
    assert len(kept) == 4
    assert sum(each >= 0.01 for each in kept) == 3


@pytest.mark.parametrize("wait", [lambda: asyncio.sleep(60), lambda: asyncio.Event().wait()])
async def test_a_request_in_steps_is_cancelled_as_any_other(wait: Callable[[], Awaitable[object]]) -> None:
    ended = list[str]()

    async def work() -> None:
        try:
            await wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            await asyncio.sleep(0)
            raise

    async def run() -> None:
        await in_steps(work(), lambda seconds: None)

    task = asyncio.create_task(run())
    await turns(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]


async def test_a_failure_in_steps_is_raised_where_the_request_is_awaited() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    numbers = count()
    with pytest.raises(KeyError, match="x"):
        await in_steps(work(), lambda seconds: next(numbers) and None)
    assert next(numbers) == 2
