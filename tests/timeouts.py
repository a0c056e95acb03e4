"""A test that waits for ever on an event loop is ended at its timeout, and its fixtures clean up after it.

pytest-timeout raises `Failed` wherever the signal finds the process. A loop that waits is a bad place for that: uvloop
logs the exception and waits on, asyncio's loop breaks off while the test waits on and stands in the way of its fixtures.
So there the task of the test is cancelled instead.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import signal
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import pytest
from _pytest.outcomes import OutcomeException

RUNNER = "TestRunner._run_tests_and_fixtures"  # of anyio: one task for a test and its fixtures

_failed: list[OutcomeException] = []
"""Why the task of the test that runs was cancelled."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item) -> Iterator[None]:
    """Look where the signal finds the process."""
    done = yield
    _failed.clear()
    fail = signal.getsignal(signal.SIGALRM)
    if callable(fail):
        signal.signal(signal.SIGALRM, functools.partial(_in_time, fail))
    return done


def _in_time(fail: Callable[[int, FrameType | None], Any], signum: int, frame: FrameType | None) -> None:
    try:
        fail(signum, frame)
    except OutcomeException as failed:
        runner = _runner()
        if runner is None or runner is asyncio.current_task():
            raise
        _failed.append(failed)
        runner.get_loop().call_soon_threadsafe(runner.cancel)


def _runner() -> asyncio.Task[Any] | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return next((task for task in asyncio.all_tasks(loop) if _name(task.get_coro()) == RUNNER), None)


def _name(coro: Any) -> str:
    return getattr(coro, "__qualname__", "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Tell of the timeout, not of the cancellation."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _told(item.obj)
    return (yield)


def _told(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def run(**arguments: Any) -> None:
        try:
            await test(**arguments)
        except asyncio.CancelledError:
            if not _failed:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            raise _failed.pop() from None

    return run
