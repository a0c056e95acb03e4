"""The WebSocket of the client against another implementation's server: pieces, pings, closes, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from modvisor_client.address import Address
from modvisor_client.errors import Forbidden, RemoteProtocolError, Unreachable
from modvisor_client.frames import FRAGMENT, SUBPROTOCOL
from modvisor_client.websocket import WebSocket, WebSocketClosed, connect
from tests.ports import free_port

pytestmark = pytest.mark.anyio

MOST = 8 * 1024 * 1024


async def with_server(
    handler: Callable[[ServerConnection], Awaitable[None]],
    use: Callable[[Address], Awaitable[None]],
    refuse: Callable[[ServerConnection, Request], Response | None] | None = None,
) -> None:
    async with serve(
        handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], max_size=MOST, compression=None, process_request=refuse,
        ping_interval=None,
    ) as server:  # fmt: skip
        port = next(iter(server.sockets)).getsockname()[1]
        with anyio.fail_after(10):
            await use(Address.parse(f"ws://127.0.0.1:{port}"))


async def received(ws: WebSocket) -> bytes:
    while True:
        message = await ws.receive()
        if message is not None:
            return message
        if ws.pong_is_due:
            await ws.flush()


async def test_messages_of_any_size_travel_both_ways_and_long_ones_in_pieces() -> None:
    pieces: list[int] = []

    async def echo(connection: ServerConnection) -> None:
        while True:
            parts = [bytes(part) async for part in connection.recv_streaming(decode=False)]
            pieces.append(len(parts))
            await connection.send(b"".join(parts)[at : at + 100_000] for at in range(0, sum(map(len, parts)), 100_000))

    async def use(address: Address) -> None:
        ws = await connect(address, None, MOST)
        for size in (1, 125, 126, 70_000, FRAGMENT, FRAGMENT + 1, 3_000_000):
            message = bytes(range(256)) * (size // 256 + 1)
            await ws.send(message[:size])
            assert await received(ws) == message[:size]
        await ws.close()

    await with_server(echo, use)
    assert pieces == [1, 1, 1, 1, 1, 2, 12]


async def test_a_ping_is_answered() -> None:
    answered = anyio.Event()

    async def ping(connection: ServerConnection) -> None:
        await (await connection.ping())
        answered.set()
        await connection.send(b"done")
        await connection.wait_closed()

    async def use(address: Address) -> None:
        ws = await connect(address, None, MOST)
        assert await received(ws) == b"done"
        assert answered.is_set()
        await ws.close()

    await with_server(ping, use)


async def test_what_came_before_a_close_is_read_and_then_its_code_is_told() -> None:
    async def leave(connection: ServerConnection) -> None:
        await connection.send(b"last")
        await connection.close(4409, "a newer connection")

    async def use(address: Address) -> None:
        ws = await connect(address, None, MOST)
        assert await received(ws) == b"last"
        with pytest.raises(WebSocketClosed, match="a newer connection") as caught:
            await received(ws)
        assert caught.value.code == 4409
        with pytest.raises(WebSocketClosed):
            await ws.send(b"too late")
        await ws.close()

    await with_server(leave, use)


async def test_a_connection_that_breaks_is_closed_without_a_code_of_the_other_side() -> None:
    async def cut(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def use(address: Address) -> None:
        ws = await connect(address, None, MOST)
        with pytest.raises(WebSocketClosed) as caught:
            await received(ws)
        assert caught.value.code == 1006
        await ws.close()

    await with_server(cut, use)


async def test_a_message_over_the_cap_ends_the_connection() -> None:
    async def flood(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(b"x" * 100_000)
        await connection.wait_closed()

    async def use(address: Address) -> None:
        ws = await connect(address, None, 50_000)
        await ws.send(b"go on")
        with pytest.raises(WebSocketClosed) as caught:
            await received(ws)
        assert caught.value.code == 1009
        await ws.close()

    await with_server(flood, use)


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (403, b'{"error": "forbidden", "message": "not from here", "data": {}}', Forbidden, "not from here"),
        (404, b"nothing", RemoteProtocolError, "no network of modvisor: HTTP 404 at /ws"),
        (503, b"", Unreachable, "takes no connection now: HTTP 503"),
    ],
)
async def test_a_refused_upgrade_says_why(status: int, body: bytes, kind: type[Exception], text: str) -> None:
    async def never(connection: ServerConnection) -> None: ...

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(HTTPStatus(status), body.decode())

    async def use(address: Address) -> None:
        with pytest.raises(kind, match=text):
            await connect(address, None, MOST)

    await with_server(never, use, refuse)


async def test_an_address_where_nobody_answers_is_named() -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=rf"no network answers at http://127\.0\.0\.1:{port}: .*refused"):
        await connect(Address.parse(f"127.0.0.1:{port}"), None, MOST)
