"""Strangers on the port: how many connections they hold, for how long, and who has to go."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http import embedded
from modvisor.supervisor.http.door import connection as connection_file
from modvisor.supervisor.http.door import door as door_file
from modvisor.supervisor.http.door.places import Rank
from tests.conftest import until
from tests.http.serving import Served, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]

HEAD = b"POST /api/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
GET = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
PASSWORD = hashlib.sha256(b"sesame").hexdigest()
GROUPS = {"members": {"password_hash": PASSWORD}}


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "INTERVAL", 0.02)


@asynccontextmanager
async def open_port(make_network: Make, **http: Any) -> AsyncIterator[Served]:
    async with serving(make_network({"port": 0}, http=http, agent_groups=GROUPS)) as served:
        yield served


@asynccontextmanager
async def clients(
    served: Served, count: int, source: str = "127.0.0.1"
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            port = served.network.port
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            stack.callback(writer.transport.abort)
            opened.append((reader, writer))
        yield opened


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other side closes the connection."""
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            return await reader.read()
        return b""


def door_of(served: Served) -> Any:
    assert served.network._parts is not None
    return served.network._parts.servers._servers[0]._door


def ranks(served: Served) -> list[Rank]:
    return sorted(connection.rank for connection in door_of(served)._connections)


# -- how long


async def test_a_connection_that_never_sends_a_byte_is_closed(make_network: Make) -> None:
    async with open_port(make_network, header_timeout=0.1) as served, clients(served, 20) as opened:
        assert [await answer_of(reader) for reader, _ in opened] == [b""] * 20
        assert not ranks(served)
        assert door_of(served).dismissed == {"sent no request": 20}


@pytest.mark.parametrize("start", [b"GET /api/health HT", b"GET /api/health HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_head_that_stalls_is_answered_and_closed(make_network: Make, start: bytes) -> None:
    async with open_port(make_network, header_timeout=0.1) as served, clients(served, 1) as [(reader, writer)]:
        writer.write(start)
        answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"error":"timeout"' in answer


async def test_a_head_that_trickles_is_closed_as_well(make_network: Make) -> None:
    async with open_port(make_network, header_timeout=0.2) as served, clients(served, 1) as [(reader, writer)]:
        writer.write(b"GET /api/health HTTP/1.1\r\nHost: x\r\n")
        answered = asyncio.create_task(answer_of(reader))
        while not answered.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([answered], timeout=0.02)
        assert door_of(served).dismissed == {"sent no request": 1}


@pytest.mark.parametrize("sent", [b"500\r\n\r\n", b"500\r\n\r\n{"])
async def test_a_body_that_stalls_is_closed(make_network: Make, sent: bytes) -> None:
    async with open_port(make_network, body_timeout=0.1) as served, clients(served, 1) as [(reader, writer)]:
        writer.write(HEAD + sent)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 408 ")
        await until(lambda: served.requests_in_flight() == 0)


async def test_a_body_that_trickles_is_closed(make_network: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_file, "WINDOW", 0.2)
    async with open_port(make_network, min_rate="1KB") as served, clients(served, 1) as [(reader, writer)]:
        writer.write(HEAD + b"5000\r\n\r\n")
        answered = asyncio.create_task(answer_of(reader))
        while not answered.done():
            writer.write(b" ")
            await asyncio.wait([answered], timeout=0.02)
        assert door_of(served).dismissed == {"was too slow": 1}


async def test_a_refused_body_that_goes_on_for_ever_is_closed(make_network: Make) -> None:
    """What a client sends after the refusal is read and dropped, so that it sees the refusal."""
    async with open_port(make_network, body_timeout=0.2) as served, clients(served, 1) as [(reader, writer)]:
        writer.write(HEAD + b"1000000000000000\r\n\r\n")
        answered = asyncio.create_task(answer_of(reader))
        while not answered.done():
            writer.write(b" " * 1000)
            await asyncio.wait([answered], timeout=0.01)
        assert door_of(served).dismissed == {"sent no whole body": 1}


async def test_a_client_that_does_not_read_its_answer_is_closed(
    make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_file, "WINDOW", 0.2)
    async with open_port(make_network) as served:
        bob = await served.register("bob")
        for _ in range(12):
            note = Event("test.note", "system:system", "agent:bob", {"text": "x" * 1_000_000})
            assert (await served.network.process_event(note)).success
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", served.network.port))
        with deaf:
            deaf.send(f"GET /api/poll?agent_id=bob&secret={bob} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await until(lambda: door_of(served).dismissed == {"was too slow": 1})


async def test_patient_requests_stay(make_network: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long-poll, and a connection between two requests, are no stalled requests."""
    monkeypatch.setattr(connection_file, "WINDOW", 0.1)
    async with open_port(make_network, header_timeout=0.1, body_timeout=0.1) as served:
        alice = await served.register("alice")
        assert await served.poll("alice", alice, wait=0.5) == {"success": True, "messages": [], "agent_id": "alice"}
        assert not door_of(served).dismissed


# -- how many


async def test_strangers_above_the_count_of_their_address_are_closed(make_network: Make) -> None:
    async with open_port(make_network, connections_per_address=5, stranger_timeout=0.1) as served:
        alice = await served.register("alice")  # this connection is hers from now on
        async with clients(served, 20) as opened:
            await until(lambda: ranks(served) == [Rank.STRANGER] * 5 + [Rank.AGENT])
            assert [await answer_of(reader) for reader, _ in opened[:15]] == [b""] * 15
            assert (await served.poll("alice", alice))["success"]
            assert door_of(served).dismissed == {"was one too many of its address": 15}


@pytest.mark.parametrize("trusted", ["trusted_addresses", "trusted_proxies"])
async def test_named_addresses_have_no_count(make_network: Make, trusted: str) -> None:
    limits = {"connections_per_address": 2, "stranger_timeout": 0.001, trusted: ["127.0.0.1"]}
    async with open_port(make_network, **limits) as served, clients(served, 10) as opened:
        await until(lambda: ranks(served) == [Rank.KNOWN] * 10)
        for reader, writer in opened:
            writer.write(b"GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 200 ")


async def test_when_all_places_are_taken_a_stranger_that_waits_makes_room(make_network: Make) -> None:
    async with open_port(make_network, connections=16) as served:
        alice = await served.register("alice")
        member = await served.register("member", password_hash=PASSWORD)
        async with clients(served, 100):
            await until(lambda: len(ranks(served)) == 16)
            assert (await served.agents.get("/api/health")).status_code == 200
            assert (await served.poll("alice", alice))["success"]
            assert (await served.poll("member", member))["success"]
            async with httpx.AsyncClient(base_url=str(served.agents.base_url), trust_env=False) as newcomer:
                assert (await newcomer.get("/api/health")).status_code == 200
            assert len(ranks(served)) <= 16


async def test_an_agent_that_holds_all_places_gives_some_to_others_and_members_none(make_network: Make) -> None:
    async with open_port(make_network, connections=10) as served:
        greedy = await served.register("greedy")
        member = await served.register("member", password_hash=PASSWORD)
        keeping = asyncio.create_task(served.poll("member", member, wait=60))
        await until(lambda: served.waits("member"))
        poll = f"GET /api/poll?agent_id=greedy&secret={greedy}&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        async with clients(served, 30) as opened:
            for _, writer in opened:
                writer.write(poll)
            async with httpx.AsyncClient(base_url=str(served.agents.base_url), trust_env=False) as newcomer:
                assert (await newcomer.get("/api/health")).status_code == 200
                await newcomer.post("/api/register", json={"agent_id": "carol"})
            note = Event("test.note", "system:system", "agent:member", {"text": "hi"})
            assert (await served.network.process_event(note)).success
            assert len((await keeping)["messages"]) == 1


async def test_an_agent_that_opens_too_many_connections_loses_the_oldest_that_wait(make_network: Make) -> None:
    async with open_port(make_network, connections_per_agent=5) as served:
        for name, proof in (("greedy", {}), ("member", {"password_hash": PASSWORD})):
            secret = await served.register(name, **proof)
            poll = f"GET /api/poll?agent_id={name}&secret={secret}&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            async with clients(served, 8) as opened:
                for number, (_, writer) in enumerate(opened, 2):
                    writer.write(poll)
                    most = 100 if proof else 5
                    held = door_of(served)._connections.of
                    await until(lambda: len(held(*held_by[name])) == min(number, most))  # noqa: B023
                if not proof:
                    assert [await answer_of(reader) for reader, _ in opened[:3]] == [b""] * 3
            await until(lambda: len(held(*held_by[name])) <= 1)  # noqa: B023
        assert door_of(served).dismissed == {"was one too many of its agent": 4}


held_by = {"greedy": (Rank.AGENT, "agent greedy"), "member": (Rank.MEMBER, "agent member")}


async def test_with_all_places_taken_by_members_a_newcomer_is_told_so(make_network: Make) -> None:
    async with open_port(make_network, connections=8) as served:
        secret = await served.register("member", password_hash=PASSWORD)
        poll = f"GET /api/poll?agent_id=member&secret={secret}&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        async with clients(served, 7) as opened:
            for _, writer in opened:
                writer.write(poll)
            await until(lambda: ranks(served) == [Rank.MEMBER] * 8)
            async with clients(served, 1) as [(reader, _)]:
                assert b'"error":"busy"' in await answer_of(reader)
            # The operator comes in all the same.
            assert (await served.admin.get("/admin/v1/status")).status_code == 200


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
async def test_members_that_come_at_once_from_one_address_are_all_let_in(make_network: Make, count: int) -> None:
    async with open_port(make_network, connections_per_address=10) as served, clients(served, count) as opened:
        for index, (_, writer) in enumerate(opened):
            body = b'{"agent_id": "a%d", "password_hash": "%s"}' % (index, PASSWORD.encode())
            writer.write(HEAD + b"%d\r\n\r\n%s" % (len(body), body))
        answers = [await reader.readline() for reader, _ in opened]
        assert answers == [b"HTTP/1.1 200 OK\r\n"] * count
        assert ranks(served) == [Rank.MEMBER] * count
        assert not door_of(served).dismissed


@pytest.mark.slow
async def test_what_waits_at_the_turnstile_waits_for_us_and_not_for_its_client(make_network: Make) -> None:
    # With so small a share the queue hardly moves.
    async with (
        open_port(make_network, header_timeout=0.1, stranger_share=0.01) as served,
        clients(served, 12) as opened,
    ):
        for _, writer in opened:
            writer.write(GET)
        await until(lambda: len(door_of(served).turnstile) > 3)
        assert (await opened[-1][0].readline()) == b"HTTP/1.1 200 OK\r\n"
        assert not door_of(served).dismissed


async def test_who_was_dismissed_is_told_once_a_minute(make_network: Make, caplog: pytest.LogCaptureFixture) -> None:
    async with open_port(make_network, header_timeout=0.05) as served:
        async with clients(served, 30) as opened:
            for reader, _ in opened:
                await answer_of(reader)
        await door_of(served).look(time.monotonic() + door_file.REPORT_EVERY)
        lines = [record.message for record in caplog.records if record.name == "modvisor.http"]
        assert lines == [
            "30 connections were closed in the last minute: the client sent no request; the most, 30, of 127.0.0.1"
        ]


async def test_garbage_is_refused_without_a_line_in_the_log(
    make_network: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_port(make_network) as served, clients(served, 1) as [(reader, writer)]:
        writer.write(b"\x00\xff garbage\r\n\r\n")
        assert b'"error":"bad_input"' in await answer_of(reader)
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "costly",
    [
        HEAD.replace(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n\r\n") + b"1\r\n \r\n" * 1000,
        GET.removesuffix(b"\r\n") + b"a:b\r\n" * 200 + b"\r\n",
        GET + GET.removesuffix(b"\r\n") + b"a:b\r\n" * 200 + b"\r\n",
    ],
    ids=["chunks of one byte", "many header lines", "many header lines behind another request"],
)
async def test_what_costs_more_to_read_than_to_send_is_refused(make_network: Make, costly: bytes) -> None:
    async with open_port(make_network) as served, clients(served, 1) as [(reader, writer)]:
        writer.write(costly)
        assert b"HTTP/1.1 400 Bad Request\r\n" in await answer_of(reader)


async def test_strangers_take_turns_and_nobody_is_forgotten(make_network: Make) -> None:
    async with open_port(make_network) as served, clients(served, 60) as opened:
        turnstile = door_of(served).turnstile
        for _, writer in opened:
            writer.write(GET * 3)
        await until(lambda: len(turnstile) > 0)
        alice = await served.register("alice")
        assert (await served.poll("alice", alice))["success"]
        for reader, _ in opened:
            for _ in range(3):
                assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
                await reader.readuntil(b'"agents":{}}}')
        assert not len(turnstile)
        assert not turnstile._is_turning


async def test_who_floods_from_one_address_waits_for_itself(make_network: Make) -> None:
    async with (
        open_port(make_network, stranger_share=0.02) as served,
        clients(served, 60, "127.66.0.1") as flood,
        clients(served, 1) as [(reader, writer)],
    ):
        for _, attacking in flood:
            attacking.write(GET * 5)
        await until(lambda: len(door_of(served).turnstile) > 20)
        writer.write(GET)
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert len(door_of(served).turnstile) > 10


async def test_requests_behind_one_another_take_their_turns_one_by_one(make_network: Make) -> None:
    async with (
        open_port(make_network, stranger_share=0.02) as served,
        clients(served, 1, "127.66.0.1") as [(many, flooding)],
        clients(served, 1) as [(reader, writer)],
    ):
        for long in (b"", b"TE: trailers\r\n"):  # a header that leads past the short way
            flooding.write(GET.replace(b"\r\n\r\n", b"\r\n" + long + b"\r\n") * 20)
            await many.readline()
            writer.write(GET)
            assert await reader.readuntil(b'"agents":{}}}')
            [flooder] = [each for each in door_of(served)._connections if each.holder == "127.66.0.1"]
            answered = flooder.http.server_state.total_requests
            assert answered < 19
            for _ in range(20):
                await many.readuntil(b'"agents":{}}}')
            flooder.http.server_state.total_requests = 0


async def test_agents_that_nobody_vouches_for_take_turns_too(
    make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_file, "GUESTS_PER_TURN", 1)
    async with open_port(make_network) as served, clients(served, 40) as opened:
        secret = await served.register("guest")
        poll = f"GET /api/poll?agent_id=guest&secret={secret} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        for _ in range(2):
            for _, writer in opened:
                writer.write(poll)
            for reader, _ in opened:
                assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
                await reader.readuntil(b'"guest"}')
        guests, queued = door_of(served).guests, list[str]()
        queue = guests.queue

        def noting(lane: str, *rest: Any) -> None:
            queued.append(lane)
            queue(lane, *rest)

        monkeypatch.setattr(guests, "queue", noting)
        for _, writer in opened:
            writer.write(poll)
        for reader, _ in opened:
            await reader.readuntil(b'"guest"}')
        assert set(queued) == {"127.0.0.1"}
        assert len(guests) == 0


async def test_guests_rest_only_while_a_member_is_connected(make_network: Make) -> None:
    async with open_port(make_network, guest_share=0.01) as served, clients(served, 2) as opened:
        guest, proof = await served.register("guest"), {"agent_group": "members", "password_hash": PASSWORD}
        once = {"Connection": "close"}
        joined = await served.agents.post("/api/register", json={"agent_id": "member", **proof}, headers=once)
        member = joined.json()["secret"]
        (reader, writer), (theirs, other) = opened

        async def poll(agent: str, secret: str, where: tuple[Any, Any]) -> None:
            where[1].write(f"GET /api/poll?agent_id={agent}&secret={secret} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert await where[0].readline() == b"HTTP/1.1 200 OK\r\n"
            await where[0].readuntil(f'"{agent}"}}'.encode())

        door = door_of(served)
        await until(lambda: not door.guests.is_limited)  # the connection of the registration has ended
        for _ in range(5):
            await poll("guest", guest, (reader, writer))
        assert not door.guests.is_limited
        assert door.guests._rests_until == 0
        await poll("member", member, (theirs, other))
        assert door.guests.is_limited
        await poll("guest", guest, (reader, writer))
        assert door.guests._rests_until > 0
        other.transport.abort()
        await until(lambda: not door.guests.is_limited)


async def test_the_end_closes_who_is_silent_and_who_waits_for_a_turn(make_network: Make) -> None:
    async with (
        open_port(make_network, stranger_share=0.01) as served,
        clients(served, 10) as silent,
        clients(served, 40) as speaking,
    ):
        for _, writer in speaking:
            writer.write(GET)
        await until(lambda: len(door_of(served).turnstile) > 10)
        assert served.network._parts is not None
        await served.network._parts.servers.stop()
        for reader, _ in [*silent, *speaking]:
            answer = await answer_of(reader)
            assert not answer or answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_connection_without_a_next_request_is_closed_after_its_time(make_network: Make) -> None:
    async with open_port(make_network, keep_alive=0.05) as served, clients(served, 2) as opened:
        for (reader, writer), long in zip(opened, (b"", b"TE: trailers\r\n"), strict=True):
            writer.write(GET.replace(b"\r\n\r\n", b"\r\n" + long + b"\r\n"))
            assert (await answer_of(reader)).endswith(b'"agents":{}}}')
