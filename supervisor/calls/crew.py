"""Many short tasks of a task group, each for a fraction of what `TaskGroup.start_soon` costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup


class Crew:
    """Runs tasks that belong to a task group.

    One task of the group holds all of them. When the group is cancelled they are, and the group ends
    after them. If one of them fails, the group does.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] | None = None  # done when nothing is to be held any more
        self._is_dismissed = False

    def gather(self) -> None:
        """Start the task that holds the others, if there is none; `start` does so otherwise."""
        self._is_dismissed = False
        if self._over is None:
            over = asyncio.get_running_loop().create_future()
            self._tasks.start_soon(self._hold, over, name="crew")
            self._over = over

    def start(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> asyncio.Task[None]:
        """Call a coroutine function in a task. Return the task."""
        if self._over is None or self._is_dismissed:
            self.gather()
        task = asyncio.get_running_loop().create_task(function(*args))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def dismiss(self) -> None:
        """Leave the task group as soon as the last task has ended, until `start` is called again."""
        self._is_dismissed = True
        self._leave()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._leave(error)
        elif self._is_dismissed:
            self._leave()

    def _leave(self, error: BaseException | None = None) -> None:
        over = self._over
        if over is None or over.done():
            return
        if error is not None:
            over.set_exception(error)
        elif not self._running:
            over.set_result(None)
            self._over = None

    async def _hold(self, over: asyncio.Future[None]) -> None:
        try:
            await over
        finally:
            if self._over is over:
                self._over = None
                with anyio.CancelScope(shield=True):
                    await self._cancel_all()

    async def _cancel_all(self) -> None:
        running = [*self._running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
