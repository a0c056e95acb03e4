"""The relay with real sockets: what a mod sees of it, and what it never gets through it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from modvisor.supervisor.cell.relay import ANNOUNCED, MAX_HEAD, Relay
from modvisor.supervisor.config import RelayConfig

pytestmark = pytest.mark.anyio

LIMITS = RelayConfig(connections=4, connect_timeout=5.0, idle_timeout=30.0)


@asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """A server on this machine that returns what it gets. Yields its port."""

    served: set[asyncio.Task[None] | None] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*filter(None, served), return_exceptions=True)


class Mod:
    """The mod's side of a relay."""

    def __init__(self, rules: tuple[str, ...], limits: RelayConfig = LIMITS) -> None:
        self.refused: list[tuple[str, str, str]] = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.relay = Relay("wiki", listener, rules, limits, lambda *told: self.refused.append(told))

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, head: str, more: bytes = b"", *, end: bool = True) -> bytes:
        """Send a request, and return all that comes until the relay closes."""
        reader, writer = await self.open()
        writer.write(f"{head}\r\n\r\n".encode() + more)
        if end and more:
            writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def mod(*rules: str, limits: RelayConfig = LIMITS) -> AsyncIterator[Mod]:
    found = Mod(rules, limits)
    try:
        yield found
    finally:
        found.relay.close()
        await found.relay.closed()


async def test_bytes_go_both_ways_with_a_listed_host() -> None:
    async with echoing() as port, mod(f"localhost:{port}", f"127.0.0.0/8:{port}", f"[::1]:{port}") as own:
        large = bytes(range(256)) * 8192
        said = await own.ask(f"CONNECT LOCALHOST.:{port} HTTP/1.1\r\nHost: x", large)
        assert said == b"HTTP/1.1 200 Connection established\r\n\r\n" + large
        assert (own.relay.traffic.bytes_out + len(large), own.relay.traffic.bytes_in) >= (len(large), len(large))
        assert own.refused == []


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("evil.example:443", b"not among its hosts"),
        ("localhost:22", b"only with"),
        ("127.0.0.1:{port}", b"the address is not among"),
        ("[::ffff:127.0.0.1]:{port}", b"the address is not among"),
        ("169.254.169.254:80", b"the address is not among"),
        ("2130706433:{port}", b"four numbers"),
        ("localhost:{port}", b"not public"),
    ],
)
async def test_other_hosts_and_private_addresses_are_refused_and_told(target: str, why: bytes) -> None:
    async with echoing() as port, mod(f"localhost:{port}") as own:
        said = await own.ask(f"CONNECT {target.format(port=port)} HTTP/1.1")
        assert said.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert why in said
        assert [where for _, where, _ in own.refused] == [target.format(port=port).replace("[", "").replace("]", "")]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET http://example.com/ HTTP/1.1", b"405"),
        ("POST / HTTP/1.1", b"405"),
        ("CONNECT example.com HTTP/1.1", b"400"),
        ("CONNECT example.com:443", b"400"),
        ("CONNECT a:1 b:2 HTTP/1.1", b"400"),
        ("CONNECT example.com:443 HTTP/1.1\r\nX: " + "x" * MAX_HEAD, b"400"),
        ("CONNECT nobody.invalid:443 HTTP/1.1", b"502"),
    ],
    ids=["get", "post", "no port", "no version", "two", "long", "unknown"],
)
async def test_what_is_no_good_request_gets_an_answer(head: str, status: bytes) -> None:
    async with mod("*") as own:
        assert (await own.ask(head)).split(b" ")[1] == status


async def test_a_request_that_never_comes_is_answered_in_time() -> None:
    async with mod("*", limits=RelayConfig(connect_timeout=0.05)) as own:
        reader, writer = await own.open()
        writer.write(b"CONNECT exam")
        assert (await reader.read()).startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
        writer.close()


async def test_a_silent_connection_is_closed() -> None:
    limits = RelayConfig(idle_timeout=0.05)
    async with echoing() as port, mod(f"localhost:{port}", "127.0.0.0/8:*", "[::1]:*", limits=limits) as own:
        reader, writer = await own.open()
        writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
        assert await reader.read() == b"HTTP/1.1 200 Connection established\r\n\r\n"
        writer.close()


async def test_connections_above_the_bound_wait_for_their_turn() -> None:
    limits = RelayConfig(connections=1)
    async with echoing() as port, mod(f"localhost:{port}", "127.0.0.0/8:*", "[::1]:*", limits=limits) as own:
        head = f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode()
        first, first_writer = await own.open()
        first_writer.write(head)
        await first.readuntil(b"\r\n\r\n")
        second, second_writer = await own.open()
        second_writer.write(head)
        waiting = asyncio.ensure_future(second.readuntil(b"\r\n\r\n"))
        first_writer.write(b"still served")
        assert await first.readexactly(12) == b"still served"
        assert own.relay.traffic.connections == 1
        assert not waiting.done()
        first_writer.close()
        assert await waiting == b"HTTP/1.1 200 Connection established\r\n\r\n"
        second_writer.close()


async def test_it_ends_with_all_its_connections() -> None:
    async with echoing() as port, mod(f"localhost:{port}", "127.0.0.0/8:*", "[::1]:*") as own:
        reader, writer = await own.open()
        writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        own.relay.close()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await own.open()


async def test_a_mod_that_makes_up_hosts_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "modvisor.relay")
    async with mod() as own:
        for number in (0, 0, *range(ANNOUNCED + 20)):
            await own.ask(f"CONNECT h{number}.example:443 HTTP/1.1")
        assert own.relay.traffic.refused == ANNOUNCED + 22
    assert len(caplog.records) == ANNOUNCED
    assert "mod wiki may not connect to h0.example:443: the host is not among its hosts" in caplog.text
