"""Start handlers at once: most never wait, and a task for each would cost more than they do.

A coroutine is begun right where it is started, in the name of a host: a task that waits for work.
If the coroutine ends without waiting, the host was not needed and waits for the next one. If it
waits, the host takes it over and goes on with it. So `asyncio.current_task()`, timeouts and
cancellation are those of one task, from the coroutine's first line to its last. (Python 3.12 has
eager tasks of its own. One way for all versions is simpler.)
"""

from __future__ import annotations

import asyncio
import types
from asyncio import CancelledError
from asyncio.tasks import _enter_task, _leave_task  # documented under "Extending" asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

from . import marking
from .context import current_cause

Work = Coroutine[Any, Any, None]


class Starter:
    """Begins coroutines on the running loop. They must not raise."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._prepare()

    def start(self, work: Work) -> asyncio.Task[None] | None:
        """Begin ``work``. Not to be called from a task.

        Returns:
            the task that goes on with it; None when it has ended already.
        """
        host = self._host
        if not host.is_waiting or host.wake.done():  # as `is_free`, without a call
            return self._start_later(work)
        context = copy_context()
        host.is_waiting = False  # the work may run a loop inside the loop, which starts more work
        _enter_task(self._loop, host.task)
        try:
            waits_for = context.run(work.send, None)
        except StopIteration:
            host.is_waiting = True
            if host.wake.done():  # the work has cancelled its own task
                self._prepare()
            return None
        except BaseException:
            host.is_waiting = True
            raise
        finally:
            marking.pause()
            _leave_task(self._loop, host.task)
        host.take(work, context, waits_for)
        self._prepare()
        return host.task

    def begin_later(self) -> None:
        """Begin nothing at once from now on: the mod may run the loop inside a handler.

        In a task of its own, a handler does so outside of what reads the pipe.
        """
        self.start = self._start_later

    def defer(self) -> None:
        """Begin nothing at once in the rest of this turn: scheduled callbacks go first."""
        if self._host.is_free:
            self._host.task.cancel()
            self._prepare()

    def _start_later(self, work: Work) -> asyncio.Task[None]:
        """Begin ``work`` in the next turn: the host has not run yet, or is busy, or was cancelled."""
        if self._host.task.done():
            self._prepare()
        return self._loop.create_task(work)

    def _prepare(self) -> None:
        self._host = _Host(self._loop)


class _Host:
    """A task that waits for one coroutine that was begun, and goes on with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun: tuple[Work, Context, Any] | None = None
        self.wake: asyncio.Future[None] = loop.create_future()
        self.is_waiting = False
        self._context = copy_context()
        self.task = loop.create_task(self._live(), context=self._context)

    @property
    def is_free(self) -> bool:
        """Whether it waits for work. A task that has not run yet could lose it if cancelled."""
        return self.is_waiting and not self.wake.done()

    def take(self, work: Work, context: Context, waits_for: Any) -> None:
        """Go on with work that was begun in this task and in ``context``.

        Args:
            waits_for: the future that the work waits for; None: it waits for the next turn.
        """
        self._begun = work, context, waits_for
        # The host's own steps run the work: they are marked with its event.
        self._context.run(current_cause.set, context.get(current_cause))
        if not self.wake.done():
            self.wake.set_result(None)

    async def _live(self) -> None:
        self.is_waiting = True
        cancelled = False
        try:
            await self.wake
        except CancelledError:  # perhaps meant for the work, before `take` was called
            if self._begun is None:
                raise
            cancelled = True
        if self._begun is not None:
            await _go_on(*self._begun, cancelled)


@types.coroutine
def _go_on(work: Work, context: Context, waits_for: Any, cancelled: bool) -> Generator[Any, Any, None]:
    """Await ``work``, which was begun in ``context`` and waits already."""
    try:
        if cancelled and (waits_for is None or not waits_for.cancel()):
            waits_for = context.run(work.throw, CancelledError())
        while True:
            try:
                got = yield waits_for
            except BaseException as error:  # noqa: BLE001 - meant for the work
                waits_for = context.run(work.throw, error)
            else:
                waits_for = context.run(work.send, got)
    except StopIteration:
        return
