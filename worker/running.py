"""The event loop of a worker, which runs until the worker's own end.

A mod shares this loop. Its callbacks and tasks may raise `SystemExit` or `KeyboardInterrupt`, which
asyncio lets out of the loop. It may stop the loop, or cancel every task that it finds. None of that
may end the worker: the events of others would be lost with it, and nobody would know why.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from types import FrameType
from typing import Any, TypeVar

from . import stdio
from .crash import describe

MAX_ESCAPES = 100
"""Exceptions that may leave the loop within `ESCAPES_WITHIN` seconds. With more, the worker ends: a
loop that can do nothing but raise is of no use to anybody."""

ESCAPES_WITHIN = 1.0

T = TypeVar("T")

_monotonic = time.monotonic


class WorkerLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs, even if the mod replaces `time.monotonic`."""

    time = _monotonic  # type: ignore[assignment] - a builtin function is no method, it gets no self
    is_given_up = False
    """It raised too often, and only ends its tasks."""
    on_nested: Callable[[], None] | None = None
    """Called when a callback of this loop is due inside itself, see `call_exception_handler`."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle what a callback raised; run a callback that is due inside itself.

        With nest_asyncio, a handler may run this loop inside the loop. If the callback that reads
        the pipe has called that handler, the inner loop cannot enter its context once more. Without
        reading, the inner loop would wait for ever.
        """
        handle, error = context.get("handle"), context.get("exception")
        if not isinstance(handle, asyncio.Handle) or not _could_not_enter(error):
            return super().call_exception_handler(context)
        if self.on_nested is not None:
            self.on_nested()
        try:
            copy_context().run(handle._callback, *handle._args)  # type: ignore[attr-defined]
        except (Exception, asyncio.CancelledError) as inner:  # noqa: BLE001 - as the loop itself
            super().call_exception_handler({**context, "exception": inner})
        return None


def _could_not_enter(error: Any) -> bool:
    return (
        type(error) is RuntimeError
        and "is already entered" in str(error)
        and error.__traceback__ is not None
        and error.__traceback__.tb_next is None  # else the callback has run, and raised it
    )


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run ``main`` to its end on a new loop. Return its result."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)
    with asyncio.Runner(loop_factory=WorkerLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, WorkerLoop)
        task = loop.create_task(main)
        escapes = Escapes()
        while True:
            try:
                return loop.run_until_complete(task)
            except BaseException as error:
                if task.done() or not escapes.may_go_on(error, _monotonic()):
                    loop.is_given_up = True
                    raise
                stdio.say(_text(error))


class Escapes:
    """Counts the exceptions that left the loop."""

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0

    def may_go_on(self, error: BaseException, now: float) -> bool:
        """Return whether the loop can run again."""
        if isinstance(error, OSError) and error.errno == errno.EBADF:  # its own descriptors are closed
            return False
        if now - self._since > ESCAPES_WITHIN:
            self._count, self._since = 0, now
        self._count += 1
        return self._count <= MAX_ESCAPES


async def surely(wait: Callable[[], Awaitable[T]]) -> T:
    """Await ``wait()``, and once more each time that the mod cancels this task."""
    while True:
        try:
            return await wait()
        except asyncio.CancelledError:
            if getattr(asyncio.get_running_loop(), "is_given_up", False):
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()


def _text(error: BaseException) -> str:
    told = describe(error, {})
    if told["type"] == "RuntimeError" and "Event loop stopped" in told["message"]:
        return "ERROR the mod stopped the event loop with loop.stop(); the loop runs on"
    return f"{told['traceback']}ERROR {told['message']} left a task or callback of the mod; the mod goes on"


def _end(signum: int, _frame: FrameType | None) -> None:
    """End as SIGTERM ends a process. A KeyboardInterrupt could hit any line of the worker's own code."""
    stdio.flush()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
