"""Whether the event loop of a mod still answers."""

from __future__ import annotations

import asyncio

import anyio

from ..process import Cause
from .incarnation import Incarnation

STALL = 0.25
"""Seconds by which our own timers may be late before a measurement of a mod is mistrusted."""


async def falls_silent(incarnation: Incarnation, hang_timeout: float) -> bool:
    """Ping the mod's own event loop until it does not answer for ``hang_timeout`` seconds.

    Then note why the incarnation is to be ended, and return True. Return False when its pipe has
    ended.
    """
    loop = asyncio.get_running_loop()
    while incarnation.pipe.closed is None:
        await anyio.sleep(hang_timeout / 2)
        due = loop.time() + hang_timeout
        if await incarnation.answers(hang_timeout) or incarnation.pipe.closed is not None:
            continue
        if loop.time() - due > STALL:  # our own loop stood still: the answer may lie in the pipe
            continue
        incarnation.end(*_why_silent(incarnation, hang_timeout))
        return True
    return False


def _why_silent(incarnation: Incarnation, hang_timeout: float) -> tuple[str, Cause]:
    """Return why a worker does not answer, in words and as a cause."""
    if (by := incarnation.process.stopped_by()) is None:
        return f"its event loop was blocked for more than {hang_timeout:g} s", Cause.HANG
    return (
        f"its process was stopped by {by} when it did not answer for {hang_timeout:g} s; to stop a worker for longer, "
        "raise its limits.hang_timeout",
        Cause.STOPPED,
    )
