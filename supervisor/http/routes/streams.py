"""Requests that stay open until the client goes or the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ....ipc.errors import Unserializable
from ..content.as_json import to_json

T = TypeVar("T")
Write = Callable[[Iterable[bytes]], Awaitable[None]]

ASKED_EVERY = 1.0  # seconds; whoever loses its token is not read to for longer
_BATCH = 256  # the most lines in one write; no key, as no reader sees where a write ends


async def first_of(*waits: Callable[[], Awaitable[Any]]) -> None:
    """Wait until one of these is done, and cancel the others. Raises what one of them raises."""
    try:
        async with anyio.create_task_group() as tasks:

            async def run(wait: Callable[[], Awaitable[Any]]) -> None:
                await wait()
                tasks.cancel_scope.cancel()

            for wait in waits:
                tasks.start_soon(run, wait)
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


async def until_disconnected(receive: Receive) -> None:
    """Wait until the client is gone; read and drop what it still sends."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def next_items(queue: asyncio.Queue[T]) -> list[T]:
    """Wait for an item, and take it with all others that wait, at most `_BATCH`."""
    items = [await queue.get()]
    while len(items) < _BATCH and not queue.empty():
        items.append(queue.get_nowait())
    return items


def json_line(value: Any, otherwise: Callable[[Unserializable], Any]) -> bytes:
    """Return `value` as a line of JSON, or what `otherwise` returns if JSON cannot carry it."""
    try:
        return to_json(value) + b"\n"
    except Unserializable as error:
        return to_json(otherwise(error)) + b"\n"


class LineStream(Response):
    """A response that writes lines of JSON as they come, until the operator's token or session has ended.

    Args:
        produce: gets a function that writes lines, and returns when there are no more. An error
            that it raises before its first line is answered like any error.
        stopping: set when the server stops, which ends the response.
        is_in: returns whether whoever reads still may, which is asked once a second.
    """

    media_type = "application/x-ndjson"

    def __init__(
        self,
        produce: Callable[[Write], Awaitable[None]],
        stopping: asyncio.Event,
        is_in: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        self._produce = produce
        self._stopping = stopping
        self._is_in = is_in
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def start() -> None:
            nonlocal started
            if not started:
                started = True
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def write(lines: Iterable[bytes]) -> None:
            await start()
            if self._is_in():  # else nothing more is written, and `_until_out` ends this
                await send({"type": "http.response.body", "body": b"".join(lines), "more_body": True})

        produce = partial(self._produce, write)
        await first_of(produce, partial(until_disconnected, receive), self._stopping.wait, self._until_out)
        await start()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_out(self) -> None:
        while self._is_in():  # noqa: ASYNC110 - a token may end by the clock alone, which sets no event
            await anyio.sleep(ASKED_EVERY)
