"""Requests that stay open: which end comes first, lines in batches, a stream that fails before it starts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.supervisor.http.routes import streams
from modvisor.supervisor.http.routes.streams import (
    LineStream,
    Write,
    first_of,
    json_line,
    next_items,
    until_disconnected,
)

pytestmark = pytest.mark.anyio


# -- what ends first


async def test_the_first_end_cancels_the_other_waits() -> None:
    cancelled: list[str] = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(name)

    done = asyncio.Event()
    done.set()
    await first_of(lambda: forever("a"), done.wait, lambda: forever("b"))
    assert sorted(cancelled) == ["a", "b"]


async def test_an_error_of_one_wait_is_raised_as_it_is() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await first_of(fail, asyncio.Event().wait)


async def test_two_errors_are_raised_together() -> None:
    async def fail(error: Exception) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    async def end() -> None:
        return

    with pytest.raises(BaseExceptionGroup) as caught:
        await first_of(lambda: fail(KeyError()), lambda: fail(ValueError()), end)
    assert {type(error) for error in caught.value.exceptions} == {KeyError, ValueError}


async def test_a_client_is_there_until_it_disconnects() -> None:
    messages = [
        {"type": "http.request"},
        {"type": "http.request"},
        {"type": "http.disconnect"},
        {"type": "http.request"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    await until_disconnected(receive)
    assert len(messages) == 1


# -- lines


async def test_what_waits_is_taken_at_once_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_BATCH", 3)
    queue: asyncio.Queue[int] = asyncio.Queue()
    for number in range(5):
        queue.put_nowait(number)
    assert await next_items(queue) == [0, 1, 2]
    assert await next_items(queue) == [3, 4]
    waiting = asyncio.create_task(next_items(queue))
    queue.put_nowait(5)
    assert await waiting == [5]


def test_a_line_that_json_cannot_carry_is_replaced() -> None:
    def otherwise(error: Exception) -> dict[str, Any]:
        return {"error": str(error)}

    assert json_line({"a": "line\nbreak"}, otherwise) == b'{"a":"line\\nbreak"}\n'
    assert json.loads(json_line({"a": {1}}, otherwise))["error"].startswith("a: cannot be written as JSON")


# -- a stream


class Client:
    """Takes the messages of a response; it disconnects when it is told to."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    async def run(self, produce: Callable[[Write], Any], stopping: asyncio.Event | None = None, **more: Any) -> None:
        stream = LineStream(produce, stopping or asyncio.Event(), **more)
        async with asyncio.timeout(10):
            await stream({"type": "http"}, self.receive, self.send)


async def test_a_stream_writes_nothing_to_an_operator_whose_session_has_ended() -> None:
    is_in = [True]

    async def produce(write: Write) -> None:
        await write([b"1\n"])
        is_in[0] = False
        await write([b"2\n"])

    client = Client()
    await client.run(produce, is_in=lambda: is_in[0])
    assert client.bodies == [b"1\n", b""]


async def test_a_stream_ends_with_its_lines() -> None:
    async def produce(write: Write) -> None:
        await write([b"1\n", b"2\n"])
        await write([b"3\n"])

    client = Client()
    await client.run(produce)
    start = client.sent[0]
    headers = dict(start["headers"])
    assert (start["status"], headers[b"content-type"]) == (200, b"application/x-ndjson")
    assert headers[b"cache-control"] == b"no-store"
    assert b"content-length" not in headers
    assert client.bodies == [b"1\n2\n", b"3\n", b""]


@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_stream_ends_with_its_client_or_its_server(end: str) -> None:
    client, stopping = Client(), asyncio.Event()

    async def produce(write: Write) -> None:
        await write([b"1\n"])
        (client.gone if end == "client" else stopping).set()
        await asyncio.Event().wait()

    await client.run(produce, stopping)
    assert client.bodies == [b"1\n", b""]


async def test_a_stream_without_lines_is_an_empty_answer() -> None:
    async def produce(write: Write) -> None:
        return

    client = Client()
    await client.run(produce)
    assert [message["type"] for message in client.sent] == ["http.response.start", "http.response.body"]


async def test_a_stream_that_fails_before_its_first_line_has_not_begun() -> None:
    async def produce(write: Write) -> None:
        raise LookupError("no such mod")

    client = Client()
    with pytest.raises(LookupError):
        await client.run(produce)
    assert client.sent == [], "so the failure can still be answered"
