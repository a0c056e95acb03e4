"""Copies of events for observers, and notifications: queued, batched, never waited for by the path of an event."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from ...ipc.errors import FrameTooLarge, PipeBroken, PipeBusy, PipeClosed, RequestFailed, Unserializable
from ...ipc.messages import NOTIFY, OBSERVE, weight
from ...ipc.pipe import HIGH_WATER
from .counters import ModCounters
from .in_flight import InFlight

BATCH = 256  # events per request: enough to spread the cost of a round trip, few enough to stay in step with a slow mod
BATCH_BYTES = 1024 * 1024  # of memory, for the same reason; a larger event goes alone
MAX_BYTES = 64 * 1024 * 1024  # of memory that the copies for one mod take up, unless its limits say otherwise

_REMEMBERED = 64 * 1024  # bytes of an event that may be kept until the next one, for its weight


class CopyQueue:
    """A queue of copies for one mod, bounded in number and bytes; when it is full the oldest are dropped and counted.

    One batch is under way at a time, so a slow observer fills this queue and nothing else.

    Args:
        size: copies that may wait; ``max_bytes``: about the memory they may take up together. One that is larger is dropped.
    """

    def __init__(self, size: int, counters: ModCounters, max_bytes: int = MAX_BYTES) -> None:
        self._queue: deque[tuple[str, dict[str, Any], int]] = deque()
        self._bytes = 0
        self.size = size
        self.max_bytes = max_bytes
        self.counters = counters
        self._ready = asyncio.Event()
        self._open = asyncio.Event()  # cleared while nothing may be sent
        self._open.set()
        self._resting = asyncio.Event()  # set while no batch is under way
        self._resting.set()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """About the memory that the waiting copies take up; what several queues hold is counted in each."""
        return self._bytes

    def observe(self, event: dict[str, Any]) -> None:
        """Queue a copy for the mod's observers."""
        self._put(OBSERVE, event)

    def notify(self, event: dict[str, Any]) -> None:
        """Queue a notification for the mod's handlers."""
        self._put(NOTIFY, event)

    def _put(self, method: str, event: dict[str, Any]) -> None:
        size = _weight_of(event)
        if size > self.max_bytes:
            self.counters.observe_dropped += 1
            return
        while self._queue and (len(self._queue) >= self.size or self._bytes + size > self.max_bytes):
            self._next()
            self.counters.observe_dropped += 1
        self._queue.append((method, event, size))
        self._bytes += size
        self._ready.set()

    def _next(self) -> dict[str, Any]:
        _, event, size = self._queue.popleft()
        self._bytes -= size
        return event

    async def hold(self) -> None:
        """Send nothing more for now; returns when the batch under way was handled."""
        self._open.clear()
        await self._resting.wait()

    def release(self) -> None:
        """Go on sending."""
        self._open.set()

    async def feed(self, in_flight: InFlight) -> None:
        """Send what is queued to ``in_flight`` until the pipe ends or the caller cancels."""
        while True:
            await self._ready.wait()
            await self._open.wait()
            method, batch = self._batch()
            if not batch:
                continue
            self._resting.clear()
            try:
                await self._give(in_flight, method, batch)
            except (PipeBroken, PipeClosed):
                self.counters.observe_dropped += len(batch)
                return
            except asyncio.CancelledError:
                self.counters.observe_dropped += len(batch)
                raise
            finally:
                self._resting.set()

    async def _give(self, in_flight: InFlight, method: str, batch: list[dict[str, Any]]) -> None:
        """One batch; when it cannot be sent as a whole, each event alone, so that one does not take the others with it."""
        try:
            if in_flight.pipe.buffered > HIGH_WATER:
                await in_flight.pipe.writable()
            request_id, future = in_flight.pipe.begin(method, {"events": batch})
            in_flight.copied(request_id, batch)
            result = (await in_flight.pipe.finish(request_id, future)).result
        except (FrameTooLarge, Unserializable):
            if len(batch) == 1:
                self.counters.observe_dropped += 1
                return
            for event in batch:
                await self._give(in_flight, method, [event])
        except (RequestFailed, PipeBusy):
            self.counters.observe_dropped += len(batch)
        else:
            self.counters.observed += len(batch)
            if isinstance(result, dict) and isinstance(failed := result.get("failed"), int):
                self.counters.failed += failed

    def _batch(self) -> tuple[str, list[dict[str, Any]]]:
        """The oldest copies of one kind; their order is kept. Empty when they were dropped meanwhile."""
        batch: list[dict[str, Any]] = []
        left = BATCH_BYTES
        method = self._queue[0][0] if self._queue else OBSERVE
        while self._queue and len(batch) < BATCH and self._queue[0][0] == method:
            left -= self._queue[0][2]
            if left < 0 and batch:
                break
            batch.append(self._next())
        if not self._queue:
            self._ready.clear()
        return method, batch


_weighed: tuple[Any, int] = (None, 0)


def _weight_of(event: dict[str, Any]) -> int:
    """Its `weight`. The copies for several mods are one object, made one after the other: it is weighed once."""
    global _weighed
    if event is not _weighed[0]:
        size = weight(event)
        if size > _REMEMBERED:
            return size
        _weighed = event, size
    return _weighed[1]
