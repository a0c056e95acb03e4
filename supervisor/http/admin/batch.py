"""Many events in one request: in order per source, with different sources at the same time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ....ipc.errors import Code, InvalidEvent
from ....ipc.event import Event, EventResponse
from ..content.failures import INTERNAL_ERROR

logger = logging.getLogger("modvisor.http")

Process = Callable[[Event], Awaitable[EventResponse]]
Result = dict[str, Any]


def operator_event(data: Any) -> Event:
    """Return an event from plain data. Its source is the network itself unless it names one.

    Raises:
        InvalidEvent: names the field.
    """
    if type(data) is not dict:
        raise InvalidEvent(f"event: expected an object, got {type(data).__name__}")
    given = {key: value for key, value in data.items() if value is not None}
    return Event.from_dict({"source_id": "system:system", **given})


async def process_batch(entries: list[Any], process: Process, *, concurrency: int, in_order: bool) -> list[Result]:
    """Process events, and return a result for each entry, in their order.

    An entry that is no event gets a result, too.

    Args:
        concurrency: the most events at the same time.
        in_order: each event waits for the previous event of its source. Otherwise no event waits.
    """
    results: list[Result] = [{} for _ in entries]
    queues: dict[Any, list[tuple[int, Event]]] = {}
    for index, entry in enumerate(entries):
        try:
            event = operator_event(entry)
        except InvalidEvent as error:
            results[index] = _invalid(index, entry, error)
        else:
            queues.setdefault(event.source if in_order else index, []).append((index, event))
    waiting = iter(queues.values())

    async def work() -> None:
        for queue in waiting:  # the workers share this iterator: each queue has one worker
            for index, event in queue:
                results[index] = await _process(index, event, process)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(concurrency, len(queues))):
            tasks.start_soon(work)
    return results


async def _process(index: int, event: Event, process: Process) -> Result:
    try:
        response = await process(event)
    except Exception:  # one event must not cost the others their results
        logger.exception("event %s of a batch failed", event.event_id)
        response = EventResponse.failure(Code.INTERNAL, INTERNAL_ERROR)
    return {
        "index": index,
        "event_id": event.event_id,
        "success": response.success,
        "error": response.error,
        "delivered": response.data["delivered"] if _is_delivery(response.data) else None,
        "message": response.message,
    }


def _is_delivery(data: Any) -> bool:
    """Return whether the network itself answered. Beside other keys, `delivered` is a mod's own."""
    return isinstance(data, dict) and data.keys() == {"delivered"}


def _invalid(index: int, entry: Any, error: InvalidEvent) -> Result:
    event_id = entry.get("event_id") if type(entry) is dict else None
    return {
        "index": index,
        "event_id": event_id if isinstance(event_id, str) else None,
        "success": False,
        "error": str(error.code),
        "delivered": None,
        "message": str(error),
    }
