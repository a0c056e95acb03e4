"""Bodies that are being read: how large one may be before its sender is known, and all of them together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.http.requests import intake as intake_file
from tests.conftest import until
from tests.http.serving import Served, intake_of, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]

MB = 1_000_000


@asynccontextmanager
async def open_port(make_network: Make, **http: Any) -> AsyncIterator[Served]:
    async with serving(make_network({"port": 0}, http=http)) as served:
        yield served


@asynccontextmanager
async def fresh(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client without connections."""
    async with httpx.AsyncClient(base_url=served.agents.base_url, trust_env=False, timeout=20) as client:
        yield client


@asynccontextmanager
async def unfinished(
    served: Served, count: int, size: int, headers: str = ""
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Requests whose bodies have all but their last byte."""
    opened = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
        head = f"POST /api/send_event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % (size + 1) + b'"' + b"x" * (size - 1))
        opened.append((reader, writer))
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.transport.abort()


def note(size: int, **more: Any) -> dict[str, Any]:
    return {"event_name": "test.note", "payload": {"text": "x" * size}, **more}


# -- one body


async def test_a_stranger_may_send_64_kb_and_is_told_how_to_send_more(make_network: Make) -> None:
    async with open_port(make_network) as served:
        small = await served.agents.post("/api/send_event", json=note(60_000, source_id="alice", secret="?"))
        assert (small.status_code, small.json()["error"]) == (200, "unauthenticated")
        large = await served.agents.post("/api/send_event", json=note(70_000, source_id="alice", secret="?"))
        assert (large.status_code, large.json()["error"]) == (413, "too_large")
        assert "Authorization: Bearer SECRET" in large.json()["message"]


async def test_a_secret_in_the_headers_lets_a_large_event_in(make_network: Make) -> None:
    async with open_port(make_network) as served:
        alice, bob = await served.register("alice"), await served.register("bob")
        intake_of(served)._known.clear()
        sent = note(MB, source_id="alice", secret=alice, target_agent_id="bob")
        for secret, status in ((alice, 200), (bob, 413), ("?", 413)):
            async with fresh(served) as client:
                headers = {"X-Agent-Id": "alice", "Authorization": f"Bearer {secret}"}
                answer = await client.post("/api/send_event", json=sent, headers=headers)
                assert answer.status_code == status
            intake_of(served)._known.clear()


async def test_a_client_that_knows_no_headers_sends_a_large_event_where_it_was_seen(make_network: Make) -> None:
    """OpenAgents' client sends its secret in the body, and may open a connection for each request."""
    async with open_port(make_network) as served:
        async with fresh(served) as client:
            alice = (await client.post("/api/register", json={"agent_id": "alice"})).json()["secret"]
        async with fresh(served) as client:
            sent = note(MB, source_id="alice", secret=alice)
            assert (await client.post("/api/send_event", json=sent)).json()["error"] == "unknown_event"
        intake_of(served)._known.clear()
        async with fresh(served) as client:
            assert (await client.post("/api/send_event", json=sent)).status_code == 413


async def test_a_proxy_is_no_proof_for_those_behind_it(make_network: Make) -> None:
    async with open_port(make_network, trusted_proxies=["127.0.0.1"]) as served:
        here, there = {"X-Forwarded-For": "8.8.8.8"}, {"X-Forwarded-For": "8.8.4.4"}
        registered = await served.agents.post("/api/register", json={"agent_id": "alice"}, headers=here)
        sent = note(MB, source_id="alice", secret=registered.json()["secret"])
        assert (await served.agents.post("/api/send_event", json=sent, headers=here)).status_code == 200
        assert (await served.agents.post("/api/send_event", json=sent, headers=there)).status_code == 413


@pytest.mark.parametrize("path", ["/api/register", "/api/unregister"])
async def test_requests_without_an_event_stay_small_for_everybody(make_network: Make, path: str) -> None:
    async with open_port(make_network) as served:
        await served.register("alice")
        answer = await served.agents.post(path, json={"agent_id": "bob", "metadata": {"x": "x" * 70_000}})
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


async def test_many_small_values_are_refused_while_they_come(make_network: Make) -> None:
    async with open_port(make_network, json_values=5000) as served:
        alice = await served.register("alice")
        fine = {"event_name": "test.note", "source_id": "alice", "secret": alice, "payload": {"a": [1] * 4900}}
        assert (await served.agents.post("/api/send_event", json=fine)).json()["error"] == "unknown_event"
        fine["payload"] = {"a": ["," * 10_000] * 100}  # of texts only their number counts
        assert (await served.agents.post("/api/send_event", json=fine)).json()["error"] == "unknown_event"
        head = "POST /api/send_event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000000"
        reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
        writer.write(head.encode() + b"\r\n\r\n" + b'{"a":[' + b"1," * 6000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.transport.abort()


async def test_a_large_body_is_parsed_beside_the_loop(make_network: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_file, "LARGE_JSON", 1000)
    async with open_port(make_network) as served:
        alice = await served.register("alice")
        answer = await served.agents.post("/api/send_event", json=note(5000, source_id="alice", secret=alice))
        assert answer.json()["error"] == "unknown_event"
        broken = await served.agents.post("/api/send_event", content=b"{" + b" " * 5000)
        assert (broken.status_code, broken.json()["error"]) == (400, "bad_input")


# -- all bodies


async def test_unfinished_bodies_of_strangers_hold_next_to_nothing(make_network: Make) -> None:
    async with open_port(make_network) as served, unfinished(served, 24, 62 * MB // 10) as readers:
        for reader in readers:
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        assert intake_of(served)._small == intake_of(served)._large == 0


async def test_large_bodies_wait_until_there_is_room_for_all_of_them(make_network: Make) -> None:
    async with open_port(make_network, bodies="3MB") as served:
        alice = await served.register("alice")
        proof = f"X-Agent-Id: alice\r\nAuthorization: Bearer {alice}\r\n"
        async with unfinished(served, 5, MB, proof):
            await until(lambda: intake_of(served)._large == 2 * (MB + 1))
            sent = note(1000, source_id="alice", secret=alice)
            assert (await served.agents.post("/api/send_event", json=sent)).status_code == 200
            large = asyncio.create_task(
                served.agents.post("/api/send_event", json=note(MB, source_id="alice", secret=alice))
            )
            await until(lambda: served.requests_in_flight() == 6)
            assert intake_of(served)._large == 2 * (MB + 1)
        assert (await large).status_code == 200  # now that those are gone
        assert intake_of(served)._large == 0


async def test_a_large_body_that_finds_no_room_in_time_is_told_so(
    make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_file, "PATIENCE", 0.1)
    async with open_port(make_network, bodies="1MB") as served:
        alice = await served.register("alice")
        proof = f"X-Agent-Id: alice\r\nAuthorization: Bearer {alice}\r\n"
        async with unfinished(served, 1, MB, proof):
            await until(lambda: intake_of(served)._large > 0)
            answer = await served.agents.post("/api/send_event", json=note(MB, source_id="alice", secret=alice))
            assert (answer.status_code, answer.json()["error"]) == (503, "busy")


async def test_when_small_bodies_are_too_many_the_one_that_takes_longest_goes(make_network: Make) -> None:
    async with open_port(make_network, bodies="1MB") as served, unfinished(served, 12, 60_000):
        assert served.network._parts is not None
        door = served.network._parts.servers._servers[0]._door
        await until(lambda: door is not None and door.dismissed["sent no whole body"] >= 8)
        await until(lambda: 0 < intake_of(served)._small <= MB // 4)
        assert (await served.agents.post("/api/register", json={"agent_id": "alice"})).status_code == 200


async def test_a_body_without_a_length_takes_room_as_it_grows(make_network: Make) -> None:
    async with open_port(make_network, bodies="4MB") as served:
        alice = await served.register("alice")

        async def growing() -> AsyncIterator[bytes]:
            yield json.dumps(note(MB, source_id="alice", secret=alice)).encode()[:-1]
            await until(lambda: intake_of(served)._large >= MB)
            yield b"}"

        answer = await served.agents.post(
            "/api/send_event", content=growing(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200
        assert intake_of(served)._large == 0
