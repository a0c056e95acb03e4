"""Copies of events for observers, and notifications: queued and sent in batches.

No event ever waits for them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ...ipc.address import SYSTEM
from ...ipc.errors import FrameTooLarge, PipeBroken, PipeBusy, PipeClosed, RequestFailed, Unserializable
from ...ipc.messages import NOTIFY, OBSERVE, weight
from ...ipc.pipe import HIGH_WATER
from ..fair_line import FairLine
from .counters import ModCounters
from .in_flight import InFlight

# Events of one request: enough to spread the cost of a round trip, few enough for a slow mod.
BATCH = 256
# Bytes of memory of one request, for the same reason; a larger event goes alone.
BATCH_BYTES = 1024 * 1024
# Bytes of memory of the copies for one mod, unless its limits say otherwise.
MAX_BYTES = 64 * 1024 * 1024

_NETWORK = f"{SYSTEM}:{SYSTEM}"
_REMEMBERED = 64 * 1024  # bytes up to which an event is kept until the next one, for its weight


class CopyQueue:
    """A queue of copies for one mod, bounded in number and bytes.

    When it is full, the oldest of the source that takes up most of it are dropped and counted.

    One batch is in flight at a time: a slow observer fills this queue and nothing else.

    Args:
        size: how many copies may wait.
        max_bytes: about how much memory they may take up together. A larger copy is dropped.
    """

    def __init__(self, size: int, counters: ModCounters, max_bytes: int = MAX_BYTES) -> None:
        self._queue = FairLine[tuple[str, dict[str, Any]]]()
        self.size = size
        self.max_bytes = max_bytes
        self.counters = counters
        self._ready = asyncio.Event()
        self._open = asyncio.Event()  # cleared by `hold`
        self._open.set()
        self._resting = asyncio.Event()  # set while no batch is in flight
        self._resting.set()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """About how much memory the waiting copies take up.

        A copy in several queues counts in each.
        """
        return self._queue.size

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
        queue, source = self._queue, event.get("via") or event.get("source_id") or _NETWORK
        while queue and (len(queue) >= self.size or queue.size + size > self.max_bytes):
            queue.drop_of_heaviest(self.size, self.max_bytes, source, size)
            self.counters.observe_dropped += 1
        queue.append((method, event), size, source)
        self._ready.set()

    async def hold(self) -> None:
        """Stop sending. Returns when no batch is in flight."""
        self._open.clear()
        await self._resting.wait()

    def release(self) -> None:
        """Start sending again."""
        self._open.set()

    async def feed(self, in_flight: InFlight) -> None:
        """Send the queued copies to an incarnation, until its pipe ends or this is cancelled."""
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
        """Send one batch.

        If it cannot be sent as a whole, send each event alone, so that only the bad one is dropped.
        """
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
        """Take the oldest copies of one kind, in order.

        Empty if all copies were dropped meanwhile.
        """
        batch: list[dict[str, Any]] = []
        left = BATCH_BYTES
        first = self._queue.first()
        method = first[0][0] if first is not None else OBSERVE
        while first is not None and len(batch) < BATCH and first[0][0] == method:
            left -= first[1]
            if left < 0 and batch:
                break
            batch.append(self._queue.popleft()[1])
            first = self._queue.first()
        if not self._queue:
            self._ready.clear()
        return method, batch


_weighed: tuple[Any, int] = (None, 0)


def _weight_of(event: dict[str, Any]) -> int:
    """Return an event's `weight`.

    The copies for several mods are one object, queued in a row: it is weighed once.
    """
    global _weighed
    if event is not _weighed[0]:
        size = weight(event)
        if size > _REMEMBERED:
            return size
        _weighed = event, size
    return _weighed[1]
