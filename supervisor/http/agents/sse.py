"""Server-sent events: an agent's events on a response that stays open, for those who only listen.

Nothing comes back on such a response. So what was written counts as handled, except the newest: a
client that connects again names the last event that it got, and gets what is behind it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ....ipc.event import Event
from ....ipc.topic import matches
from ...agents import Stream
from ..content.as_json import to_json
from ..door.connection import Connection, parked
from ..routes.streams import first_of, until_disconnected
from .codec import JSON, Encodings
from .undeliverable import CANNOT_BE_WRITTEN, undeliverable

if TYPE_CHECKING:
    from ...operations import Operations

MEDIA_TYPE = "text/event-stream"

KEPT = 256
"""Events that were written and can be written again. It stands in the API's description."""

# No keys of the network file: no client sees where a write ends; the heartbeat is shorter than what proxies wait.
_BATCH = 64 * 1024  # bytes of one write, unless an event is larger
_HEARTBEAT = 15.0  # seconds of silence until a comment is written


class EventStream(Response):
    """The events of one agent as they come.

    Args:
        names: patterns; events that match none of them are passed over.
        cursor: of the last event that the client has got.
        encodings: what other streams have encoded already.
        stopping: set when the server stops, which ends the response.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        network: Operations,
        agent_id: str,
        names: tuple[str, ...],
        cursor: str | None,
        encodings: Encodings,
        stopping: asyncio.Event,
        connection: Connection | None,
    ) -> None:
        super().__init__()
        self._network, self._agent_id = network, agent_id
        self._names, self._cursor, self._encodings = names, cursor, encodings
        self._stopping, self._connection = stopping, connection
        del self.headers["content-length"]
        self.headers.update({"cache-control": "no-store", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        woken = asyncio.Event()
        stream = self._network.open_stream(self._agent_id, woken.set, self._cursor)
        stream.kind = "sse"
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            with parked(self._connection):
                await first_of(
                    lambda: self._push(stream, woken, send), lambda: until_disconnected(receive), self._stopping.wait
                )
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            stream.close()

    async def _push(self, stream: Stream, woken: asyncio.Event, send: Send) -> None:
        async def write(text: bytes) -> None:
            await send({"type": "http.response.body", "body": text, "more_body": True})

        await write(b"retry: 1000\nid: %b\n\n" % stream.cursor.encode())
        while not stream.is_replaced:
            woken.clear()
            if text := self._next(stream):
                await write(text)
                stream.keep_only(KEPT)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT):
                    await woken.wait()
                continue
            await write(b":\n\n")
        why = "unauthenticated" if stream.is_gone else "moved" if stream.is_moved else "taken_over"
        await write(b'event: closing\ndata: {"error":"%b"}\n\n' % why.encode())

    def _next(self, stream: Stream) -> bytes:
        """Return what waits, as text; nothing if nothing does."""
        parts: list[bytes] = []
        size = 0
        if (lost := self._network.dropped_events(self._agent_id)) is not None:
            parts.append(b"event: dropped\ndata: %b\n\n" % to_json(lost))
        while size < _BATCH and (taken := stream.take()) is not None:
            cursor, event = taken
            text = self._text(event) if self._wants(event) else b""
            parts.append(b"id: %b\n%b\n" % (cursor.encode(), text))
            size += len(parts[-1])
        return b"".join(parts)

    def _wants(self, event: Event) -> bool:
        return not self._names or any(matches(pattern, event.event_name) for pattern in self._names)

    def _text(self, event: Event) -> bytes:
        try:
            return b"event: %b\ndata: %b\n" % (event.event_name.encode(), self._encodings.of(event, JSON))
        except CANNOT_BE_WRITTEN as error:
            return b"event: undeliverable\ndata: %b\n" % to_json(undeliverable(event, self._agent_id, error))
