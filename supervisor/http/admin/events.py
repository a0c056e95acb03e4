"""The operator's routes of events: send one, send many, watch all, see the way of one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from ....ipc.errors import Code, Unserializable
from ....ipc.event import Event, EventResponse
from ....ipc.topic import check_pattern, matches
from ...agents import Scope, packed_size
from ...events import brief
from ..access.gate import still_in
from ..content.bodies import json_body
from ..requests.spans import in_trace_of
from ..routes.answers import Answer, event_answer, failure
from ..routes.params import check_known
from ..routes.streams import LineStream, Write, json_line, next_items
from .batch import operator_event, process_batch
from .payloads import EVENTS as PAYLOADS_OF_EVENTS
from .payloads import Readers, without_data, without_payload
from .scopes import check_scope
from .spec import BATCH, BRIEF, CONCURRENCY, EVENTS, IN_ORDER, NODE, PATTERN, SAMPLE, WATCH, WATCH_LIMIT

if TYPE_CHECKING:
    from ...operations import Operations

Finished = tuple[Event, EventResponse]

PARTS = 10  # of a second, over which a sample is spread


class EventRoutes:
    """The routes `/events`. The events of the operator are trusted."""

    def __init__(self, network: Operations, stopping: asyncio.Event, readers: Readers) -> None:
        self._network = network
        self._stopping = stopping
        self._readers = readers

    async def send(self, request: Request) -> Response:
        event = operator_event(await json_body(request))
        self._check([event.event_name], request)
        if self._network.config.tracing.otlp is not None:
            in_trace_of(event, request.headers)
        return event_answer(event, await self._network.process_event(event))

    async def send_batch(self, request: Request) -> Response:
        body = await json_body(request)
        BATCH.check(body)
        events, concurrency, in_order = EVENTS.of(body), CONCURRENCY.of(body), IN_ORDER.of(body)
        self._check((each.get("event_name") for each in events if isinstance(each, dict)), request)
        results = await process_batch(events, self._network.process_event, concurrency=concurrency, in_order=in_order)
        return Answer({"results": results})

    def _check(self, names: Iterable[Any], request: Request) -> None:
        """Refuse commands from whoever may not give them: the operator's events are trusted."""
        if any(isinstance(name, str) and name.startswith("system.") for name in names):
            check_scope(self._network, request, Scope.ADMIN, "an event system.*")

    async def watch(self, request: Request) -> Response:
        check_known(request, *WATCH.query)
        node = NODE.of(request)
        everywhere = self._network.look_everywhere(node)
        pattern = check_pattern(PATTERN.of(request))
        wanted = Wanted(pattern, SAMPLE.of(request))
        is_here = everywhere is None or node in (None, ".", everywhere.node)
        is_brief, limit = BRIEF.of(request), WATCH_LIMIT.of(request)
        payloads = not is_brief and self._readers.reads(request, PAYLOADS_OF_EVENTS)

        def line(event: Event, response: EventResponse) -> bytes:
            if is_brief:
                return json_line(brief(event, response, self._network.answered_by(event.event_id)), lambda error: {})
            return event_line(event, response, self._network.redaction.data, payloads=payloads)

        async def watch(write: Write) -> None:
            left = limit
            recorded = self._network.watched_ways(all_events=wanted.most is None)
            async with AsyncExitStack() as ends:
                ends.enter_context(recorded)
                queue = ends.enter_context(self._network.tap(wanted if is_here else lambda each: False))
                if everywhere is not None:
                    await ends.enter_async_context(everywhere.follow_events(queue, pattern, node))
                await write([b'{"listening":true}\n'])
                while left is None or left > 0:
                    seen: list[Finished] = []
                    with anyio.move_on_after(wanted.until_told()):
                        seen = (await next_items(queue))[:left]
                    left = None if left is None else left - len(seen)
                    lines = [line(event, response) for event, response in seen]
                    if skipped := wanted.take_skipped():
                        lines.append(b'{"skipped":%d}\n' % skipped)
                    if lines:
                        await write(lines)

        return LineStream(watch, self._stopping, still_in(request))

    async def way(self, request: Request) -> Response:
        event_id = request.path_params["event"]
        way = self._network.way_of(event_id)
        if way is None:
            text = (
                f"the way of event {event_id[:100]!r} was not recorded, or is forgotten: ways are recorded while somebody "
                "watches events, and the newest are kept ('dashboard.ways')"
            )
            return failure(Code.NOT_FOUND, text)
        return Answer(way)


class Wanted:
    """Chooses the events that a watcher gets.

    Args:
        most: events per second that it gets, spread over the second; None: all. The others are counted.
    """

    def __init__(self, pattern: str, most: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._pattern = pattern
        self._now = now
        self._second = self._part = -1
        self._left = self._left_in_part = 0
        self._skipped = 0
        self._told = now()

    def __call__(self, seen: Finished) -> bool:
        if not matches(self._pattern, seen[0].event_name):
            return False
        if self.most is None or self._has_place(self.most):
            return True
        self._skipped += 1
        return False

    def _has_place(self, most: int) -> bool:
        part = int(self._now() * PARTS)
        if part // PARTS != self._second:
            self._second, self._left = part // PARTS, most
        if part != self._part:
            self._part, self._left_in_part = part, -(-most // PARTS)
        if self._left <= 0 or self._left_in_part <= 0:
            return False
        self._left -= 1
        self._left_in_part -= 1
        return True

    def until_told(self) -> float:
        """Return the seconds until those that were skipped are told of."""
        return math.inf if self.most is None else max(0.0, self._told + 1 - self._now())

    def take_skipped(self) -> int:
        """Return how many were skipped since this was last told, once a second; 0: it is not time to tell."""
        if self.until_told() > 0:
            return 0
        skipped, self._skipped, self._told = self._skipped, 0, self._now()
        return skipped


def event_line(event: Event, response: EventResponse, mask: Callable[[Any], Any], *, payloads: bool = True) -> bytes:
    """Return a finished event as a line of JSON. Secrets are masked: such lines end up in files.

    Args:
        payloads: with what event and answer carry.
    """

    def unwritable(error: Unserializable) -> dict[str, Any]:
        named = {"event_id": event.event_id, "event_name": event.event_name, "source_id": event.source_id}
        return {"event": named, "response": {"success": response.success}, "error": str(error)}

    if not payloads:
        head = without_payload(event.to_dict(), packed_size(event))
        outcome = without_data(response.to_dict(), None if response.success else response.error)
        return json_line({"event": head, "response": outcome, "payloads": False}, unwritable)
    return json_line(mask({"event": event.to_dict(), "response": response.to_dict()}), unwritable)
