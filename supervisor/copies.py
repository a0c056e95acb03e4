"""Copies of events for observers, and notifications: queued, batched, never waited for by the path of an event."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from ..ipc.errors import ChannelBroken, ChannelBusy, ChannelClosed, FrameTooLarge, RequestFailed, Unserializable
from ..ipc.messages import NOTIFY, OBSERVE
from .counters import ModCounters
from .port import Lane

BATCH = 256  # events per request: enough to spread the cost of a round trip, few enough to stay in step with a slow mod


class CopyQueue:
    """A bounded queue of copies for one mod; when it is full the oldest is dropped and counted.

    One batch is under way at a time, so a slow observer fills this queue and nothing else.
    """

    def __init__(self, size: int, counters: ModCounters) -> None:
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._size = size
        self.counters = counters
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def observe(self, event: dict[str, Any]) -> None:
        """Queue a copy for the mod's observers."""
        self._put(OBSERVE, event)

    def notify(self, event: dict[str, Any]) -> None:
        """Queue a notification for the mod's handlers."""
        self._put(NOTIFY, event)

    def _put(self, method: str, event: dict[str, Any]) -> None:
        if len(self._queue) >= self._size:
            self._queue.popleft()
            self.counters.observe_dropped += 1
        self._queue.append((method, event))
        self._ready.set()

    async def feed(self, lane: Lane) -> None:
        """Send what is queued to ``lane`` until the channel ends or the caller cancels."""
        while True:
            await self._ready.wait()
            method, batch = self._batch()
            try:
                result = await lane.channel.request(method, {"events": batch})
            except (ChannelBroken, ChannelClosed):
                return
            except (RequestFailed, ChannelBusy, FrameTooLarge, Unserializable):
                self.counters.observe_dropped += len(batch)
            else:
                self.counters.observed += len(batch)
                if isinstance(result, dict) and isinstance(failed := result.get("failed"), int):
                    self.counters.failed += failed

    def _batch(self) -> tuple[str, list[dict[str, Any]]]:
        """The oldest copies of one kind; their order is kept."""
        method, first = self._queue.popleft()
        batch = [first]
        while self._queue and len(batch) < BATCH and self._queue[0][0] == method:
            batch.append(self._queue.popleft()[1])
        if not self._queue:
            self._ready.clear()
        return method, batch
