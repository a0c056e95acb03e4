"""What must be finished once it was begun, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Finish ``work`` whatever happens to the caller; only for what ends by itself, such as the reap after a kill.

    In a task of its own, since the shield of a cancel scope knows nothing of ``task.cancel()`` or `asyncio.wait_for`. A
    cancellation meanwhile takes effect afterwards.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller gets
        raise cancelled
    return task.result()
