"""Who only listens gets its events as server-sent events, and goes on where it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http.agents.codec import Json
from modvisor.supervisor.http.agents.sse import KEPT
from tests.conftest import until
from tests.http.serving import Served, serving
from tests.http.websocket.talking import talking

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]


class Listening:
    """A response that stays open. Each event is the mapping of its fields."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            async for line in self._lines:
                if not line and fields:
                    return fields
                name, _, value = line.partition(": ")
                if line and name:
                    fields[name] = value
        return {}

    async def payloads(self, count: int) -> list[Any]:
        return [json.loads((await self.next())["data"])["payload"]["i"] for _ in range(count)]


@asynccontextmanager
async def listening(
    served: Served, agent_id: str, secret: str, headers: dict[str, str] | None = None, **query: str
) -> AsyncIterator[Listening]:
    given = {"X-Agent-Id": agent_id, "Authorization": f"Bearer {secret}", **(headers or {})}
    async with served.agents.stream("GET", "/api/events", params=query, headers=given) as response:
        yield Listening(response)


async def tell(served: Served, count: int, start: int = 0, name: str = "chat.message") -> None:
    for number in range(start, start + count):
        event = Event(name, "system:system", "alice", payload={"i": number})
        assert (await served.network.process_event(event)).success


async def test_events_come_as_they_are_delivered(served: Served) -> None:
    secret = await served.register("alice")
    async with listening(served, "alice", secret) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store"
        begin = await stream.next()
        await tell(served, 2)
        first = await stream.next()
        assert (first["event"], begin["id"].rpartition(".")[0]) == ("chat.message", first["id"].rpartition(".")[0])
        event = json.loads(first["data"])
        assert (event["payload"], event["source_type"], event["secret"]) == ({"i": 0}, "system", None)
        assert await stream.payloads(1) == [1]


async def test_an_event_is_encoded_once_however_many_listen(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []
    encode = Json.encode
    monkeypatch.setattr(Json, "encode", lambda codec, value: (encoded.append(value), encode(codec, value))[1])
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(listening(served, name, await served.register(name)))
            for name in ("alice", "bob", "carol")
        ]
        for stream in streams:
            await stream.next()
        event = Event("chat.message", "system:system", "agent:broadcast", payload={"i": 7})
        assert (await served.network.process_event(event)).data == {"delivered": 3}
        assert [await stream.payloads(1) for stream in streams] == [[7]] * 3
    assert len([value for value in encoded if value.get("event_name") == "chat.message"]) == 1


async def test_a_client_that_comes_back_goes_on_behind_the_last_event_it_got(served: Served) -> None:
    secret = await served.register("alice")
    async with listening(served, "alice", secret) as stream:
        await stream.next()
        await tell(served, 4)
        ids = [(await stream.next())["id"] for _ in range(4)]
    await tell(served, 1, start=4)
    async with listening(served, "alice", secret, {"Last-Event-ID": ids[1]}) as again:
        assert (await again.next())["id"] == ids[1]
        assert await again.payloads(3) == [2, 3, 4]
    async with listening(served, "alice", secret, cursor=ids[2]) as again:
        await again.next()
        assert await again.payloads(2) == [3, 4]


async def test_what_was_written_is_handled_except_the_newest(served: Served) -> None:
    secret = await served.register("alice")
    agent = served.network._parts.agents.get("alice")  # type: ignore[union-attr]
    assert agent is not None
    async with listening(served, "alice", secret) as stream:
        await stream.next()
        await tell(served, KEPT + 20)
        await stream.payloads(KEPT + 20)
        await until(lambda: agent.inbox.held == KEPT)


async def test_names_choose_and_what_matches_none_is_passed_over(served: Served) -> None:
    secret = await served.register("alice")
    async with listening(served, "alice", secret, names="chat.*, wiki.page.made") as stream:
        await stream.next()
        for number, name in enumerate(("chat.message", "other.thing", "wiki.page.made")):
            await tell(served, 1, start=number, name=name)
        assert await stream.payloads(1) == [0]
        passed = await stream.next()
        assert passed.keys() == {"id"}  # a browser keeps it, and shows no event
        assert await stream.payloads(1) == [2]


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ({"agent_id": "alice", "secret": "wrong"}, 401, "unauthenticated"),
        ({}, 400, "bad_input"),
        ({"agent_id": "alice", "names": "CHAT.*"}, 400, "invalid_event"),
    ],
)
async def test_a_wrong_request_is_refused(served: Served, query: dict[str, str], status: int, error: str) -> None:
    answer = await served.agents.get("/api/events", params=query)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_a_newer_stream_takes_over_and_an_agent_that_is_removed_is_told(served: Served) -> None:
    secret = await served.register("alice")
    async with listening(served, "alice", secret) as stream, talking(served) as alice:
        await stream.next()
        await alice.ask("resume", agent_id="alice", secret=secret)
        assert await stream.next() == {"event": "closing", "data": '{"error":"taken_over"}'}
        assert await stream.next() == {}
    async with listening(served, "alice", secret) as stream:
        await stream.next()
        await served.network.unregister_agent("alice")
        assert await stream.next() == {"event": "closing", "data": '{"error":"unauthenticated"}'}


async def test_what_json_cannot_carry_and_what_was_lost_is_told(make_network: Make) -> None:
    async with serving(make_network({"port": 0}, agents={"inbox_size": 2})) as served:
        secret = await served.register("alice")
        await tell(served, 3)
        event = Event("chat.message", "system:system", "alice", payload={"inner": {b"key": 1}})
        await served.network.process_event(event)
        async with listening(served, "alice", secret) as stream:
            await stream.next()
            assert await stream.next() == {"event": "dropped", "data": '{"events":2,"sources":{"system:system":2}}'}
            assert await stream.payloads(1) == [2]
            assert (await stream.next())["event"] == "undeliverable"


async def test_a_network_that_stops_ends_its_streams(make_network: Make) -> None:
    async with serving(network := make_network({"port": 0})) as served:
        secret = await served.register("alice")
        async with listening(served, "alice", secret) as stream:
            await stream.next()
            await network.shutdown()
            assert await stream.next() == {}
