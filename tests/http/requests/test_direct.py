"""Ordinary requests of known agents take a short way. Their answers are those of the long way, byte for byte."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http import embedded
from modvisor.supervisor.http.wire.protocol import HttpProtocol
from tests.conftest import until
from tests.http.serving import TALKER, Served, intake_of, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]


class Wire:
    """A connection to the port, byte by byte, and the server's end of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, served: Served) -> None:
        self.reader, self.writer = reader, writer
        assert served.network._parts is not None
        self._server = served.network._parts.servers._servers[0]

    @property
    def protocol(self) -> HttpProtocol:
        """The server's end, which is there from the first byte on."""
        mine = self.writer.get_extra_info("sockname")
        [found] = [each for each in self._server._protocols() if each.client == mine]
        return found

    async def answer(self) -> bytes:
        """Return the next answer, head and body."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            return head + await self.reader.readexactly(int(length[1]))

    async def ask(self, request: bytes) -> bytes:
        self.writer.write(request)
        return await self.answer()


@asynccontextmanager
async def wire(served: Served) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
    try:
        yield Wire(reader, writer, served)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def alices(served: Served) -> AsyncIterator[tuple[Wire, str]]:
    """A connection of alice, who has proved on it who she is; and her secret."""
    async with wire(served) as opened:
        yield opened, await registered(opened)


async def registered(opened: Wire, **proof: str) -> str:
    """Register alice on this connection. Return her secret."""
    answer = await opened.ask(post("/api/register", {"agent_id": "alice", **proof}, LONG_WAY))
    return json.loads(answer.partition(b"\r\n\r\n")[2])["secret"]


def post(path: str, body: Any, *lines: str) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", path, "Content-Type: application/json", f"Content-Length: {len(text)}", *lines) + text


def get(path: str, *lines: str) -> bytes:
    return request("GET", path, *lines)


def request(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def ping(secret: str, **more: Any) -> dict[str, Any]:
    return {"event_name": "test.ping", "source_id": "alice", "secret": secret, "payload": {"i": 1}, **more}


def masked(answer: bytes) -> bytes:
    for pattern in (
        rb"date: [^\r]*",
        rb'"event_id":"[0-9a-f]{32}"',
        rb'"(uptime|started|registered|last)[a-z_]*":[^,}]*',
    ):
        answer = re.sub(pattern, b"", answer)
    return re.sub(rb"content-length: \d+", b"", answer)


LONG_WAY = "TE: trailers"  # a header that no ordinary request has


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/api/send_event", {}),
        ("POST", "/api/send_event", {"event_name": "test.values"}),
        ("POST", "/api/send_event", {"event_name": "test.unwritable"}),
        ("POST", "/api/send_event", {"event_name": "test.raise"}),
        ("POST", "/api/send_event", {"event_name": "test.nobody", "target_agent_id": "agent:nobody"}),
        ("POST", "/api/send_event", {"event_name": "Not.a.name"}),
        ("POST", "/api/send_event", {"event_name": None}),
        ("POST", "/api/send_event", {"payload": [1]}),
        ("POST", "/api/send_event", {"payload": {"i": float("nan")}, "unknown": 1}),
        ("POST", "/api/send_event", {"secret": "wrong"}),
        ("POST", "/api/send_event", {"source_id": "mod:wiki"}),
        ("POST", "/api/send_event", {"event_name": "system.list_agents"}),
        ("POST", "/api/send_event", b"{"),
        ("POST", "/api/send_event", b"[1]"),
        ("POST", "/api/send_event", b""),
        ("POST", "/api/send_event", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}"),
        ("GET", "/api/poll?agent_id=alice&secret={secret}", None),
        ("GET", "/api/poll?agent_id=agent%3Aalice&secret={secret}&wait=0.01&limit=5", None),
        ("GET", "/api/poll?agent_id=alice&secret=wrong", None),
        ("GET", "/api/poll", None),
        ("GET", "/api/poll?agent_id=alice&wait=x", None),
        ("POST", "/api/register", b'{"agent_id": "alice"}'),
        ("POST", "/api/register", b'{"agent_id": "mod:wiki"}'),
        ("POST", "/api/register", b'{"agent_id": "bob", "agent_group": "nobody"}'),
        ("POST", "/api/register", b'{"agent_id": "a b"}'),
        ("POST", "/api/register", b'{"agent_id": "bob", "metadata": "x"}'),
        ("POST", "/api/register", b"[]"),
        ("GET", "/api/health", None),
        ("GET", "/api/health?agent_id=nobody", None),
    ],
)  # fmt: skip
async def test_both_ways_answer_the_same(served: Served, method: str, target: str, body: Any) -> None:
    async with alices(served) as (alice, secret):
        if isinstance(body, dict):
            body = ping(**{"secret": secret, **body})
        make = (lambda *lines: get(target.format(secret=secret), *lines)) if body is None else (
            lambda *lines: post(target, body, *lines)
        )  # fmt: skip
        long = await alice.ask(make(LONG_WAY))
        assert alice.protocol.answered == 0
        short = await alice.ask(make())
        assert alice.protocol.answered == 1
        assert masked(short) == masked(long)
        assert await alice.ask(make(LONG_WAY)), "both ways may follow each other"


async def test_what_was_delivered_is_polled_once_whichever_way(served: Served) -> None:
    async with alices(served) as (alice, secret):
        poll = f"/api/poll?agent_id=alice&secret={secret}"
        note = {"target_agent_id": "agent:alice", "event_name": "note.made"}
        for way in ((), (LONG_WAY,)):
            await alice.ask(post("/api/send_event", ping(secret, **note)))
            assert (await alice.ask(get(poll, *way))).count(b'"note.made"') == 1
            assert b'"messages":[]' in await alice.ask(get(poll))


async def test_headers_prove_who_polls(served: Served) -> None:
    async with alices(served) as (alice, secret):
        answer = await alice.ask(get("/api/poll", "X-Agent-Id: agent:alice", f"Authorization: bearer {secret}"))
        assert answer.endswith(b'{"success":true,"messages":[],"agent_id":"alice"}')
        assert alice.protocol.answered == 1


async def test_an_agent_that_registers_on_the_short_way_is_known_as_on_the_long_one(served: Served) -> None:
    for way in ((), (LONG_WAY,)):
        async with wire(served) as alice:
            answer = await alice.ask(post("/api/register", {"agent_id": "alice"}, *way))
            secret = json.loads(answer.partition(b"\r\n\r\n")[2])["secret"]
            assert alice.protocol.answered == (0 if way else 1)
            assert alice.protocol.app_state["connection"].holder == "agent alice"
            assert b'"i":1' in await alice.ask(post("/api/send_event", ping(secret)))
        await served.forget_agents()


async def test_strangers_take_the_short_way_as_well(served: Served) -> None:
    async with wire(served) as stranger:
        assert (await stranger.ask(get("/api/health"))).startswith(b"HTTP/1.1 200 OK\r\n")
        assert stranger.protocol.answered == 1


async def test_behind_a_trusted_proxy_the_forwarded_address_counts(
    make_network: Make, caplog: pytest.LogCaptureFixture
) -> None:
    network = make_network({"port": 0}, http={"trusted_proxies": ["127.0.0.1"]})
    async with serving(network) as served, wire(served) as proxy:
        poll = get("/api/poll?agent_id=alice&secret=wrong", "X-Forwarded-For: 198.51.100.1, 192.0.2.9")
        assert b'"error":"unauthenticated"' in await proxy.ask(poll)
        assert proxy.protocol.answered == 1
        assert "refused a poll of agent 'alice' at 192.0.2.9" in caplog.text


@pytest.mark.parametrize(
    ("line", "status"), [("Host: evil.example.com", b"403"), ("Origin: http://evil.example.com", b"403")]
)
async def test_a_web_page_is_kept_out(served: Served, line: str, status: bytes) -> None:
    async with alices(served) as (alice, secret):
        asked = post("/api/send_event", ping(secret), line)
        if line.startswith("Host"):
            asked = asked.replace(b"Host: localhost\r\n", b"", 1)
        assert (await alice.ask(asked))[9:12] == status
        assert alice.protocol.answered == 0


async def test_a_body_that_is_not_declared_as_json_is_refused(served: Served) -> None:
    async with alices(served) as (alice, secret):
        asked = post("/api/send_event", ping(secret)).replace(b"application/json", b"text/plain")
        assert (await alice.ask(asked))[9:12] == b"415"


# -- in pieces, and several at once


async def test_a_request_may_come_in_pieces(served: Served) -> None:
    async with alices(served) as (alice, secret):
        asked = post("/api/send_event", ping(secret))
        head = asked.index(b"\r\n\r\n") + 4
        for count, cut in enumerate((head, head + 1, len(asked) - 1), 1):
            alice.writer.write(asked[:cut])
            await until(lambda: alice.protocol.is_reading)
            assert intake_of(served)._small == cut, "the part that has come counts"
            alice.writer.write(asked[cut:])
            assert b'"i":1' in await alice.answer()
            assert intake_of(served)._small == 0
            assert alice.protocol.answered == count
        alice.writer.write(asked[: head - 5])  # a head in two pieces is left to h11
        await until(lambda: bool(alice.protocol.conn.trailing_data[0]))
        alice.writer.write(asked[head - 5 :])
        assert b'"i":1' in await alice.answer()
        assert (alice.protocol.answered, alice.protocol.is_reading) == (3, False)


async def test_a_stranger_that_goes_in_the_middle_of_a_body_leaves_nothing(served: Served) -> None:
    async with wire(served) as stranger:
        stranger.writer.write(post("/api/register", {"agent_id": "alice"})[:-1])
        await until(lambda: intake_of(served)._small > 0)
    await until(lambda: intake_of(served)._small == 0)


async def test_requests_that_come_at_once_are_answered_in_order(served: Served) -> None:
    async with alices(served) as (alice, secret):
        asked = [post("/api/send_event", ping(secret, payload={"i": number})) for number in range(9)]
        alice.writer.write(b"".join(asked))
        for number in range(9):
            assert b'"i":%d' % number in await alice.answer()


async def test_requests_that_come_before_the_answer_wait_for_it(served: Served) -> None:
    async with alices(served) as (alice, secret):
        alice.writer.write(get(f"/api/poll?agent_id=alice&secret={secret}&wait=60"))
        await until(lambda: served.waits("alice"))
        asked = [post("/api/send_event", ping(secret, payload={"i": number})) for number in range(3)]
        alice.writer.write(b"".join(asked))
        await until(lambda: alice.protocol.flow.read_paused)
        assert intake_of(served)._small == sum(map(len, asked))
        await served.network.process_event(Event("test.note", "system:system", "agent:alice", {"text": "hi"}))
        assert b'"text":"hi"' in await alice.answer()
        for number in range(3):
            assert b'"i":%d' % number in await alice.answer()
        assert intake_of(served)._small == 0


# -- how long they may take


async def test_a_connection_that_had_only_ordinary_requests_since_may_rest(
    make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "INTERVAL", 0.02)
    network = make_network({"port": 0}, http={"header_timeout": 0.05})
    async with serving(network) as served, alices(served) as (alice, secret):
        poll = get(f"/api/poll?agent_id=alice&secret={secret}&wait=0.15")
        assert b'"messages":[]' in await alice.ask(poll)
        assert b'"messages":[]' in await alice.ask(poll)
        assert alice.protocol.answered == 2


async def test_a_body_that_stalls_is_dismissed(make_network: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "INTERVAL", 0.02)
    async with (
        serving(make_network({"port": 0}, http={"body_timeout": 0.1})) as served,
        alices(served) as (alice, secret),
    ):
        alice.writer.write(post("/api/send_event", ping(secret))[:-1])
        answer = await alice.reader.read()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"the body did not come within 0.1 s" in answer
        await until(lambda: intake_of(served)._small == 0)


async def test_a_connection_rests_as_long_as_any_other(served: Served) -> None:
    async with wire(served) as alice:
        await alice.ask(get("/api/health"))
        alice.protocol.timeout_keep_alive = 0.05  # type: ignore[assignment]
        secret, protocol = await registered(alice), alice.protocol
        poll = get(f"/api/poll?agent_id=alice&secret={secret}&wait=0.2")
        assert b'"messages":[]' in await alice.ask(poll)
        async with asyncio.timeout(10):
            assert await alice.reader.read() == b""
        assert protocol.answered == 2


# -- the end


async def test_a_client_that_goes_during_a_long_poll_loses_nothing(served: Served) -> None:
    async with alices(served) as (alice, secret):
        alice.writer.write(get(f"/api/poll?agent_id=alice&secret={secret}&wait=60"))
        await until(lambda: served.waits("alice"))
        assert alice.protocol.answering is not None
    await until(lambda: not served.waits("alice"))
    await served.network.process_event(Event("test.note", "system:system", "agent:alice"))
    assert len((await served.poll("alice", secret))["messages"]) == 1


async def test_an_event_that_comes_as_the_client_goes_is_not_lost(served: Served) -> None:
    async with alices(served) as (alice, secret):
        alice.writer.write(get(f"/api/poll?agent_id=alice&secret={secret}&wait=60"))
        await until(lambda: served.waits("alice"))
        alice.protocol.transport.abort()
        await served.network.process_event(Event("test.note", "system:system", "agent:alice"))
        await until(lambda: served.requests_in_flight() == 0)
    assert len((await served.poll("alice", secret))["messages"]) == 1


async def test_when_the_server_stops_polls_end_and_other_requests_are_told(
    make_network: Make, write_mod: Callable[..., str]
) -> None:
    network = make_network({"port": 0}, http={"stop_timeout": 0.1}, mods=[write_mod("talker", TALKER)])
    async with serving(network) as served, wire(served) as poller, wire(served) as sender:
        secret = await registered(sender, secret=await registered(poller))
        poller.writer.write(get(f"/api/poll?agent_id=alice&secret={secret}&wait=60"))
        await until(lambda: served.waits("alice"))
        sender.writer.write(post("/api/send_event", ping(secret, event_name="test.hold")))
        await until(lambda: served.requests_in_flight() == 2)
        assert served.network._parts is not None
        stopping = asyncio.create_task(served.network._parts.servers.stop())
        assert b'"messages":[]' in await poller.answer()
        answer = await sender.answer()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b'"error":"not_running"' in answer
        assert await sender.reader.read() == b""
        await stopping


async def test_a_body_that_has_not_come_when_the_server_stops_is_waited_for(make_network: Make) -> None:
    async with serving(make_network({"port": 0})) as served, alices(served) as (alice, secret):
        asked = post("/api/send_event", ping(secret))
        alice.writer.write(asked[:-1])
        await until(lambda: alice.protocol.is_reading)
        assert served.network._parts is not None
        stopping = asyncio.create_task(served.network._parts.servers.stop())
        await until(lambda: not alice.protocol.is_reading)
        alice.writer.write(asked[-1:])
        assert b'"event_name":"test.ping"' in await alice.answer()
        await stopping
