"""Starting handlers at once: most of them never wait, and a task for each would cost more than they do.

A coroutine is begun right where it is asked for, as the work of a task that has been waiting for some. If it ends without
having to wait for anything, that task was not needed and keeps waiting for the next. If it does wait, it is handed to that
task, which goes on with it: `asyncio.current_task()`, timeouts and cancellation are those of one task from its first line to
its last. (From Python 3.12 on asyncio has eager tasks of its own; one way for all versions is the simpler one.)
"""

from __future__ import annotations

import asyncio
import types
from asyncio import CancelledError
from asyncio.tasks import _enter_task, _leave_task  # meant for such as us: "Extending" in asyncio's documentation
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

Work = Coroutine[Any, Any, None]


class Starter:
    """Begins coroutines on the running loop. They must not raise."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._prepare()

    def start(self, work: Work) -> asyncio.Task[None] | None:
        """Begin; returns the task in which it goes on, None when it has ended already. Not to be called from a task."""
        host = self._host
        if not host.is_free:  # it will be, in the next turn
            return self._loop.create_task(work)
        context = copy_context()
        _enter_task(self._loop, host.task)
        try:
            waits_for = context.run(work.send, None)
        except StopIteration:
            if not host.is_free:  # its own task was cancelled by it
                self._prepare()
            return None
        finally:
            _leave_task(self._loop, host.task)
        host.take(work, context, waits_for)
        self._prepare()
        return host.task

    def defer(self) -> None:
        """Begin nothing at once in this turn of the loop any more: what was called for before goes first."""
        if self._host.is_free:
            self._host.task.cancel()
            self._prepare()

    def _prepare(self) -> None:
        self._host = _Host(self._loop)


class _Host:
    """A task that waits for one piece of work that was begun, and goes on with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun: tuple[Work, Context, Any] | None = None
        self._wake: asyncio.Future[None] = loop.create_future()
        self._waits = False
        self.task = loop.create_task(self._live())

    @property
    def is_free(self) -> bool:
        """Whether it waits for work: a task that has not run yet would lose it if it was cancelled first."""
        return self._waits and not self._wake.done()

    def take(self, work: Work, context: Context, waits_for: Any) -> None:
        """Go on with what was begun in this task and ``context``, and waits for a future (None: for the next turn)."""
        self._begun = work, context, waits_for
        if not self._wake.done():
            self._wake.set_result(None)

    async def _live(self) -> None:
        self._waits = True
        cancelled = False
        try:
            await self._wake
        except CancelledError:  # perhaps of the work, before it came here
            if self._begun is None:
                raise
            cancelled = True
        if self._begun is not None:
            await _go_on(*self._begun, cancelled)


@types.coroutine
def _go_on(work: Work, context: Context, waits_for: Any, cancelled: bool) -> Generator[Any, Any, None]:
    """Await ``work``, which has been begun in ``context`` and waits already."""
    try:
        if cancelled and (waits_for is None or not waits_for.cancel()):
            waits_for = context.run(work.throw, CancelledError())
        while True:
            try:
                got = yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is the work's
                waits_for = context.run(work.throw, error)
            else:
                waits_for = context.run(work.send, got)
    except StopIteration:
        return
