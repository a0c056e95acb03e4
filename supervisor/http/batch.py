"""Many events of the operator in one request: in order per source, different sources at the same time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...ipc.errors import Code, InvalidEvent
from ...ipc.event import Event, EventResponse

logger = logging.getLogger("modvisor.http")

Process = Callable[[Event], Awaitable[EventResponse]]
Result = dict[str, Any]


def operator_event(data: Any) -> Event:
    """An event from plain data; without a source it is the network's own. Raises `InvalidEvent`."""
    if type(data) is not dict:
        raise InvalidEvent(f"event: expected an object, got {type(data).__name__}")
    given = {key: value for key, value in data.items() if value is not None}
    return Event.from_dict({"source_id": "system:system", **given})


async def process_batch(entries: list[Any], process: Process, *, concurrency: int, in_order: bool) -> list[Result]:
    """Process events and report on each, in the order of ``entries``; what is no event is reported, too.

    Args:
        concurrency: how many are processed at once.
        in_order: an event waits for the former one of its source; else for none.
    """
    results: list[Result] = [{} for _ in entries]
    lanes: dict[Any, list[tuple[int, Event]]] = {}
    for index, entry in enumerate(entries):
        try:
            event = operator_event(entry)
        except InvalidEvent as error:
            results[index] = _invalid(index, entry, error)
        else:
            lanes.setdefault(event.source if in_order else index, []).append((index, event))
    waiting = iter(lanes.values())

    async def work() -> None:
        for lane in waiting:  # shared: each lane is worked off by one
            for index, event in lane:
                results[index] = await _process(index, event, process)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(concurrency, len(lanes))):
            tasks.start_soon(work)
    return results


async def _process(index: int, event: Event, process: Process) -> Result:
    try:
        response = await process(event)
    except Exception:  # one event must not take the results of the others with it
        logger.exception("event %s of a batch failed", event.event_id)
        response = EventResponse.failure(Code.INTERNAL, "internal error; the log of the network says more")
    # Only the network's own answer has nothing else in it; a mod's may name deliveries among its data.
    delivered = response.data["delivered"] if _is_delivery(response.data) else None
    return {
        "index": index,
        "event_id": event.event_id,
        "success": response.success,
        "error": response.error,
        "delivered": delivered,
        "message": response.message,
    }


def _is_delivery(data: Any) -> bool:
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
