"""The operator's routes of events: send one, send many, watch all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from ....ipc.errors import Unserializable
from ....ipc.event import Event, EventResponse
from ....ipc.topic import check_pattern, matches
from ...agents import Scope
from ..answers import Answer, event_answer
from ..bodies import json_body
from ..streams import LineStream, Write, json_line, next_items
from .batch import operator_event, process_batch
from .scopes import check_scope
from .spec import BATCH, CONCURRENCY, EVENTS, IN_ORDER, PATTERN, WATCH_LIMIT

if TYPE_CHECKING:
    from ...operations import Operations


class EventRoutes:
    """The routes `/events`. The events of the operator are trusted."""

    def __init__(self, network: Operations, stopping: asyncio.Event) -> None:
        self._network = network
        self._stopping = stopping

    async def send(self, request: Request) -> Response:
        event = operator_event(await json_body(request))
        self._check([event.event_name], request)
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
        pattern = check_pattern(PATTERN.of(request))
        limit = WATCH_LIMIT.of(request)

        async def watch(write: Write) -> None:
            left = limit
            with self._network.tap() as queue:
                await write([b'{"listening":true}\n'])
                while left is None or left > 0:
                    seen = [pair for pair in await next_items(queue) if matches(pattern, pair[0].event_name)][:left]
                    left = None if left is None else left - len(seen)
                    if seen:
                        mask = self._network.redaction.data
                        await write(event_line(event, response, mask) for event, response in seen)

        return LineStream(watch, self._stopping)


def event_line(event: Event, response: EventResponse, mask: Callable[[Any], Any]) -> bytes:
    """Return a finished event as a line of JSON. Secrets are masked: such lines end up in files."""
    shown = mask({"event": event.to_dict(), "response": response.to_dict()})

    def unwritable(error: Unserializable) -> dict[str, Any]:
        named = {"event_id": event.event_id, "event_name": event.event_name, "source_id": event.source_id}
        return {"event": named, "response": {"success": response.success}, "error": str(error)}

    return json_line(shown, unwritable)
