"""Functions that block, called in threads."""

from __future__ import annotations

import asyncio
import gc
import threading

import anyio
import pytest

from modvisor.supervisor.aside import Aside
from tests.conftest import until

pytestmark = pytest.mark.anyio


async def test_a_call_returns_or_raises_what_the_function_does() -> None:
    aside = Aside(1, "aside-test")
    assert await aside.run(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await aside.run(divmod, 7, 0)


async def test_threads_begin_as_they_are_needed_and_end_with_their_owner() -> None:
    aside, go = Aside(2, "aside-counted"), threading.Event()
    assert await aside.run(threading.current_thread) in _threads()
    assert await aside.run(int) == 0
    assert len(_threads()) == 1
    waiting = [asyncio.ensure_future(aside.run(go.wait, 10)) for _ in range(5)]
    await asyncio.sleep(0)
    assert len(_threads()) == 2
    go.set()
    assert await asyncio.gather(*waiting) == [True] * 5
    del aside, waiting
    gc.collect()
    await until(lambda: not _threads())


async def test_threads_that_are_closed_end_and_others_begin() -> None:
    aside = Aside(2, "aside-counted")
    first = await aside.run(threading.current_thread)
    aside.close()
    assert not first.is_alive()
    assert await aside.run(threading.current_thread) is not first
    aside.close()
    assert not _threads()


async def test_what_was_asked_before_the_end_is_done() -> None:
    aside, go = Aside(1, "aside-test"), threading.Event()
    asked = [asyncio.ensure_future(aside.run(go.wait, 10)), asyncio.ensure_future(aside.run(int))]
    await asyncio.sleep(0)
    aside.close()
    go.set()
    assert await asyncio.gather(*asked) == [True, 0]


@pytest.mark.parametrize("by_scope", [True, False])
async def test_who_is_cancelled_learns_of_it_when_the_call_is_over(by_scope: bool) -> None:
    aside, go, done = Aside(1, "aside-test"), threading.Event(), threading.Event()
    scope = anyio.CancelScope()

    def work() -> None:
        go.wait(10)
        done.set()

    async def caller() -> bool:
        with scope:
            await aside.run(work)
            await anyio.lowlevel.checkpoint()
        return done.is_set()

    task = asyncio.ensure_future(caller())
    await asyncio.sleep(0)
    (scope if by_scope else task).cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    if by_scope:
        assert await task
    else:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert done.is_set()


def _threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "aside-counted"]
