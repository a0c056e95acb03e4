"""Copies of events for observers, and notifications: queued, batched, never waited for by the path of an event."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from ..ipc.errors import ChannelBroken, ChannelBusy, ChannelClosed, FrameTooLarge, RequestFailed, Unserializable
from ..ipc.messages import NOTIFY, OBSERVE
from .counters import ModCounters
from .lane import Lane

BATCH = 256  # events per request: enough to spread the cost of a round trip, few enough to stay in step with a slow mod


class CopyQueue:
    """A bounded queue of copies for one mod; when it is full the oldest is dropped and counted.

    One batch is under way at a time, so a slow observer fills this queue and nothing else.
    """

    def __init__(self, size: int, counters: ModCounters) -> None:
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self.size = size
        self.counters = counters
        self._ready = asyncio.Event()
        self._open = asyncio.Event()  # cleared while nothing may be sent
        self._open.set()
        self._resting = asyncio.Event()  # set while no batch is under way
        self._resting.set()

    def __len__(self) -> int:
        return len(self._queue)

    def observe(self, event: dict[str, Any]) -> None:
        """Queue a copy for the mod's observers."""
        self._put(OBSERVE, event)

    def notify(self, event: dict[str, Any]) -> None:
        """Queue a notification for the mod's handlers."""
        self._put(NOTIFY, event)

    def _put(self, method: str, event: dict[str, Any]) -> None:
        if len(self._queue) >= self.size:
            self._queue.popleft()
            self.counters.observe_dropped += 1
        self._queue.append((method, event))
        self._ready.set()

    async def hold(self) -> None:
        """Send nothing more for now; returns when the batch under way was handled."""
        self._open.clear()
        await self._resting.wait()

    def release(self) -> None:
        """Go on sending."""
        self._open.set()

    async def feed(self, lane: Lane) -> None:
        """Send what is queued to ``lane`` until the channel ends or the caller cancels."""
        while True:
            await self._ready.wait()
            await self._open.wait()
            method, batch = self._batch()
            if not batch:
                continue
            self._resting.clear()
            try:
                await self._give(lane, method, batch)
            except (ChannelBroken, ChannelClosed):
                self.counters.observe_dropped += len(batch)
                return
            except asyncio.CancelledError:
                self.counters.observe_dropped += len(batch)
                raise
            finally:
                self._resting.set()

    async def _give(self, lane: Lane, method: str, batch: list[dict[str, Any]]) -> None:
        """One batch; when it cannot be sent as a whole, each event alone, so that one does not take the others with it."""
        try:
            request_id, future = lane.channel.begin(method, {"events": batch})
            lane.copied(request_id, batch)
            result = (await lane.channel.finish(request_id, future)).result
        except (FrameTooLarge, Unserializable):
            if len(batch) == 1:
                self.counters.observe_dropped += 1
                return
            for event in batch:
                await self._give(lane, method, [event])
        except (RequestFailed, ChannelBusy):
            self.counters.observe_dropped += len(batch)
        else:
            self.counters.observed += len(batch)
            if isinstance(result, dict) and isinstance(failed := result.get("failed"), int):
                self.counters.failed += failed

    def _batch(self) -> tuple[str, list[dict[str, Any]]]:
        """The oldest copies of one kind; their order is kept. Empty when they were dropped meanwhile."""
        batch: list[dict[str, Any]] = []
        method = self._queue[0][0] if self._queue else OBSERVE
        while self._queue and len(batch) < BATCH and self._queue[0][0] == method:
            batch.append(self._queue.popleft()[1])
        if not self._queue:
            self._ready.clear()
        return method, batch
