"""Finish work that was begun, even if the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Finish ``work``, then let a cancellation of the caller take effect.

    Use it only for work that ends by itself, such as the reap after a kill. The work runs in a task
    of its own, because a shielded cancel scope does not stop ``task.cancel()`` or
    `asyncio.wait_for`.
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
            task.exception()  # retrieve it: the caller gets the cancellation instead
        raise cancelled
    return task.result()
