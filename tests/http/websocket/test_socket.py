"""The bounds of a WebSocket: handshakes, malformed and large messages, silence, and the door of the network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from modvisor.supervisor import AgentNetwork
from tests.conftest import until
from tests.http.serving import Served, intake_of, serving
from tests.http.websocket.talking import JSON, MSGPACK, sockets_of, talking

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]


class Raw:
    """A connection after the handshake, frame by frame; it answers no ping by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._protocol = ClientProtocol(parse_uri("ws://127.0.0.1/ws"), max_size=None)

    async def open(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        self.writer.write(b"".join(self._protocol.data_to_send()))
        while not self._protocol.events_received():
            self._protocol.receive_data(await self._reader.read(65536))

    def write(self, opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = True) -> None:
        self.writer.write(Frame(opcode, data, fin).serialize(mask=mask))

    def say(self, **message: Any) -> None:
        self.write(Opcode.TEXT, json.dumps(message).encode())

    async def register(self, agent_id: str) -> None:
        """Become an agent, and wait for the welcome."""
        self.say(type="register", id=1, agent_id=agent_id)
        async with asyncio.timeout(10):
            while not self._protocol.events_received():
                self._protocol.receive_data(await self._reader.read(65536))

    async def frames(self) -> list[Frame]:
        """Return all frames until the network has said the last one."""
        frames: list[Any] = []
        async with asyncio.timeout(10):
            while data := await self._reader.read(65536):
                self._protocol.receive_data(data)
                frames += self._protocol.events_received()
                if frames and frames[-1].opcode is Opcode.CLOSE:
                    break
        return frames

    async def end(self) -> int:
        """Return the code with which the network closes the connection."""
        return int.from_bytes((await self.frames())[-1].data[:2], "big")


@asynccontextmanager
async def raw(served: Served) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
    connection = Raw(reader, writer)
    try:
        await connection.open()
        yield connection
    finally:
        writer.transport.abort()


# -- handshakes

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({"Upgrade": None}, 426, "bad_input"),
        ({"Sec-WebSocket-Key": "x"}, 400, "bad_input"),
        ({"Sec-WebSocket-Version": "8"}, 400, "bad_input"),
        ({"Origin": "https://evil.example"}, 403, "forbidden"),
        ({"Host": "evil.example"}, 403, "forbidden"),
    ],
)
async def test_a_handshake_that_is_none_is_answered(
    served: Served, headers: dict[str, str | None], status: int, error: str
) -> None:
    given = {name: value for name, value in (UPGRADE | headers).items() if value is not None}
    async with httpx.AsyncClient(base_url=str(served.agents.base_url), trust_env=False) as client:
        answer = await client.get("/ws", headers=given)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_pages_that_the_file_lists_and_our_own_get_in(make_network: Make) -> None:
    network = make_network({"port": 0}, http={"origins": ["https://app.example.com"]})
    async with serving(network) as served:
        for origin in ("https://app.example.com", f"http://127.0.0.1:{network.port}"):
            async with talking(served, origin=origin) as page:
                assert (await page.ask("ping"))["type"] == "pong"


async def test_what_comes_with_the_handshake_is_heard(served: Served) -> None:
    head = "GET /ws HTTP/1.1\r\nHost: x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
    writer.write(head.encode() + b"\r\n" + Frame(Opcode.TEXT, b'{"type":"ping","id":5}').serialize(mask=True))
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert b'{"type":"pong","id":5}' in await reader.readuntil(b"}")
    writer.transport.abort()


# -- messages that are none


@pytest.mark.parametrize(
    ("opcode", "data", "code"),
    [
        (Opcode.TEXT, b"{", 4400),
        (Opcode.TEXT, b"[]", 4400),
        (Opcode.TEXT, b'{"type":"\xff"}', 1007),
        (Opcode.TEXT, b"[" * 1000, 4400),
        (Opcode.BINARY, b"\x80", 4400),
        (Opcode.TEXT, b"x" * 70_000, 1009),
        (Opcode.CONT, b"x", 1002),
    ],
)
async def test_a_malformed_message_ends_the_connection(served: Served, opcode: Opcode, data: bytes, code: int) -> None:
    async with raw(served) as stranger:
        stranger.write(opcode, data)
        assert await stranger.end() == code


async def test_an_unmasked_message_ends_the_connection(served: Served) -> None:
    async with raw(served) as stranger:
        stranger.write(Opcode.TEXT, b'{"type":"ping","id":1}', mask=False)
        assert await stranger.end() == 1002


@pytest.mark.parametrize("data", [b"\xc1", b"\x90", b"\x81\x01\x01", b"\x81\xa1x\xc7\x01\x05x", b"\x91" * 600, b""])
async def test_malformed_msgpack_ends_the_connection(served: Served, data: bytes) -> None:
    async with talking(served, MSGPACK) as stranger:
        await stranger.socket.send(data)
        assert (await stranger.closed())[0] == 4400


@pytest.mark.parametrize("form", [JSON, MSGPACK])
async def test_a_message_of_too_many_values_is_too_large(served: Served, form: str) -> None:
    async with talking(served, form) as alice:
        await alice.register("alice")
        await alice.say("send", id=1, event={"event_name": "a.b", "payload": {"list": [0] * 100_001}})
        code, why = await alice.closed()
        assert (code, why["error"]) == (1009, "too_large")


async def test_only_an_agent_may_send_much_and_no_more_than_there_is_room(make_network: Make) -> None:
    network = make_network({"port": 0}, http={"bodies": 1_000_000})
    async with serving(network) as served, raw(served) as first, raw(served) as second:
        intake = intake_of(served)
        for number, connection in enumerate((first, second)):
            await connection.register(f"agent{number}")
        first.write(Opcode.TEXT, b"x" * 300_000, fin=False)
        await until(lambda: intake._large > 300_000)
        second.write(Opcode.TEXT, b"x" * 300_000, fin=False)
        assert await second.end() == 4429
        first.writer.transport.abort()
        await until(lambda: (intake._large, intake._small) == (0, 0))


async def test_a_large_message_is_counted_until_it_is_taken(served: Served) -> None:
    intake = intake_of(served)
    async with talking(served) as alice:
        await alice.register("alice")
        answer = await alice.send("test.ping", payload={"i": "x" * 1_000_000})
        assert answer["success"]
        assert (intake._large, intake._small) == (0, 0)


# -- silence


async def test_who_does_not_say_who_it_is_has_to_go(make_network: Make) -> None:
    async with serving(make_network({"port": 0}, http={"header_timeout": 0.3})) as served, raw(served) as stranger:
        stranger.say(type="ping", id=1)
        stranger.write(Opcode.TEXT, b'{"type":', fin=False)
        assert await stranger.end() == 4408


async def test_a_silent_client_is_pinged_and_then_closed(make_network: Make) -> None:
    network = make_network({"port": 0}, http={"ws_ping": 0.15})
    async with serving(network) as served, talking(served) as lively, raw(served) as silent:
        await lively.register("lively")
        await silent.register("silent")
        frames = await silent.frames()
        assert [frame.opcode for frame in frames] == [Opcode.PING, Opcode.TEXT, Opcode.CLOSE]
        assert json.loads(bytes(frames[1].data))["error"] == "timeout"
        assert int.from_bytes(frames[2].data[:2], "big") == 4408
        assert (await lively.ask("ping"))["type"] == "pong"  # its library answers pings


async def test_a_client_may_be_silent_if_the_file_says_so(make_network: Make) -> None:
    network = make_network({"port": 0}, http={"ws_ping": None})
    async with serving(network) as served, talking(served) as alice:
        assert (await alice.register("alice"))["limits"]["ping"] is None


async def test_a_message_that_comes_too_slowly_ends_the_connection(make_network: Make) -> None:
    async with serving(make_network({"port": 0}, http={"body_timeout": 0.3})) as served, raw(served) as alice:
        await alice.register("alice")
        alice.write(Opcode.TEXT, b'{"type":', fin=False)
        assert await alice.end() == 4408


# -- the door


async def test_strangers_of_one_address_have_so_many_places_and_agents_more(make_network: Make) -> None:
    limits = {"connections_per_address": 2, "stranger_timeout": 0.1}
    network = make_network({"port": 0}, http=limits)
    async with serving(network) as served, raw(served) as first, raw(served) as second, raw(served) as third:
        for number, agent in enumerate((second, third)):
            await agent.register(f"agent{number}")
        async with raw(served), raw(served):  # with the first, one more than the address may hold
            assert await first.end() == 4429
            assert len(sockets_of(served)) >= 4


async def test_an_agent_gives_its_oldest_place_when_it_has_too_many(make_network: Make) -> None:
    network = make_network({"port": 0}, http={"connections_per_agent": 1})
    async with serving(network) as served, talking(served) as alice:
        await alice.register("alice")
        assert (await served.poll("alice", alice.secret))["success"]
        assert (await alice.closed())[0] == 4429


async def test_a_request_and_a_socket_on_one_connection(served: Served) -> None:
    """A connection that was kept alive may become a WebSocket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
    writer.write(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        assert b"200" in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b'"agents":{}}}')
        head = "GET /ws HTTP/1.1\r\nHost: x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
        writer.write(head.encode() + b"\r\n")
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
