"""The agents' API over real sockets: every route, every refusal, inboxes, long-polls."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.http.serving import TALKER, Served, serving, shared_network

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
ADMINS_PASSWORD = hashlib.sha256(b"sesame").hexdigest()


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    groups = {"admins": {"permissions": ["mods"], "password_hash": ADMINS_PASSWORD}, "guests": {}}
    async with shared_network(tmp_path_factory.mktemp("agents"), {"talker": TALKER}, agent_groups=groups) as served:
        yield served


# -- health


async def test_health_tells_anybody_how_to_connect(served: Served) -> None:
    await served.register("alice")
    response = await served.agents.get("/api/health")
    assert response.status_code == 200
    body = response.json()
    assert body["success"] is True
    assert body["status"] == "healthy"
    assert body["data"]["transports"] == [{"type": "http", "config": {"port": served.network.port}}]
    assert body["data"]["agent_count"] == 1
    assert body["data"]["agents"] == {}


async def test_health_lists_agents_for_an_agent(served: Served) -> None:
    secret = await served.register("alice", metadata={"capabilities": ["talk"]})
    await served.register("odd", metadata={"capabilities": 5})
    in_query = await served.agents.get("/api/health", params={"agent_id": "alice", "secret": secret})
    headers = {"X-Agent-Id": "alice", "Authorization": f"Bearer {secret}"}
    in_headers = await served.agents.get("/api/health", headers=headers)
    for response in (in_query, in_headers):
        agents = response.json()["data"]["agents"]
        assert set(agents) == {"alice", "odd"}
        assert agents["alice"]["capabilities"] == ["talk"]


@pytest.mark.parametrize("secret", ["", "wrong", "Bearer", "ü\u0000"])
async def test_health_lists_no_agents_for_a_stranger(served: Served, secret: str) -> None:
    await served.register("alice")
    response = await served.agents.get("/api/health", params={"agent_id": "alice", "secret": secret})
    assert response.json()["data"]["agents"] == {}


# -- register, unregister


async def test_register_gives_a_secret_and_the_network(served: Served) -> None:
    response = await served.agents.post(
        "/api/register", json={"agent_id": "alice", "metadata": {"name": "Alice"}, "password_hash": ""}
    )
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"success", "network_name", "network_id", "secret", "assigned_group"}
    assert body["success"] is True
    assert (body["network_name"], body["network_id"]) == ("test", "test")
    assert len(body["secret"]) >= 40
    assert response.headers["cache-control"] == "no-store"


async def test_a_password_opens_its_group(served: Served) -> None:
    by_password = await served.agents.post(
        "/api/register", json={"agent_id": "a", "metadata": {}, "password_hash": ADMINS_PASSWORD}
    )
    by_name = await served.agents.post("/api/register", json={"agent_id": "b", "agent_group": "guests"})
    assert by_password.json()["assigned_group"] == "admins"
    assert by_name.json()["assigned_group"] == "guests"


async def test_a_live_id_is_retaken_with_its_old_secret_only(served: Served) -> None:
    old = await served.register("alice")
    for wrong in ({}, {"secret": "wrong"}, {"secret": ""}):
        refused = await served.agents.post("/api/register", json={"agent_id": "alice", **wrong})
        assert refused.status_code == 409
        assert refused.json()["success"] is False
        assert refused.json()["error"] == "id_taken"
        assert "taken" in refused.json()["error_message"]
    assert (await served.poll("alice", old))["success"] is True
    new = await served.register("alice", secret=old)
    assert new != old
    assert (await served.poll("alice", old))["success"] is False
    assert (await served.poll("alice", new))["success"] is True


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_input"),
        ({"agent_id": ""}, 400, "bad_input"),
        ({"agent_id": None}, 400, "bad_input"),
        ({"agent_id": 5}, 400, "bad_input"),
        ({"agent_id": "two words"}, 400, "invalid_event"),
        ({"agent_id": "../etc"}, 400, "invalid_event"),
        ({"agent_id": "x" * 5000}, 400, "invalid_event"),
        ({"agent_id": "broadcast"}, 400, "invalid_event"),
        ({"agent_id": "mod:wiki"}, 403, "forbidden"),
        ({"agent_id": "system:system"}, 403, "forbidden"),
        ({"agent_id": "alice", "metadata": [1]}, 400, "bad_input"),
        ({"agent_id": "alice", "metadata": "x"}, 400, "bad_input"),
        ({"agent_id": "alice", "secret": 5}, 400, "bad_input"),
        ({"agent_id": "alice", "password_hash": 5}, 400, "bad_input"),
        ({"agent_id": "alice", "password_hash": "0" * 64}, 401, "unauthenticated"),
        ({"agent_id": "alice", "agent_group": "nobody"}, 404, "no_such_group"),
        ({"agent_id": "alice", "agent_group": "admins"}, 401, "unauthenticated"),
        ({"agent_id": "alice", "agent_group": "admins", "password_hash": "wrong"}, 401, "unauthenticated"),
    ],
)
async def test_a_registration_that_is_refused(served: Served, body: dict[str, Any], status: int, code: str) -> None:
    response = await served.agents.post("/api/register", json=body)
    assert (response.status_code, response.json()["error"]) == (status, code), response.text
    assert response.json()["success"] is False
    assert response.json()["error_message"]
    assert "source_id" not in response.json()["message"], "the client sent no source_id"
    assert (await served.agents.get("/api/health")).json()["data"]["agent_count"] == 0


async def test_a_full_network_says_so(make_network: Make) -> None:
    async with serving(make_network({"port": 0}, agents={"max_agents": 1})) as served:
        await served.register("alice")
        response = await served.agents.post("/api/register", json={"agent_id": "bob"})
        assert (response.status_code, response.json()["error"]) == (503, "overloaded")


async def test_unregister_needs_the_secret(served: Served) -> None:
    secret = await served.register("alice")
    for body in ({"agent_id": "alice"}, {"agent_id": "alice", "secret": "x"}, {"agent_id": "bob", "secret": secret}):
        refused = await served.agents.post("/api/unregister", json=body)
        assert (refused.status_code, refused.json()["error"]) == (401, "unauthenticated")
    done = await served.agents.post("/api/unregister", json={"agent_id": "alice", "secret": secret})
    assert (done.status_code, done.json()) == (200, {"success": True})
    assert (await served.poll("alice", secret))["error"] == "unauthenticated"


# -- send_event


async def test_a_mod_answers(served: Served) -> None:
    secret = await served.register("alice")
    body = await served.send("alice", secret, "test.ping", payload={"i": 7}, event_id="answered")
    assert body == {
        "success": True,
        "message": "pong",
        "data": {"i": 7, "from": "alice"},
        "event_id": "answered",
        "event_name": "test.ping",
    }
    by_id = await served.send("agent:alice", secret, "test.ping", "mod:talker")
    assert by_id["data"] == {"i": None, "from": "agent:alice"}


async def test_a_retry_of_an_event_gets_the_first_answer(served: Served) -> None:
    secret = await served.register("alice")
    first = await served.send("alice", secret, "test.ping", payload={"i": 1}, event_id="same")
    again = await served.send("alice", secret, "test.ping", payload={"i": 2}, event_id="same")
    assert again == first


async def test_what_json_cannot_carry_is_written_legibly(served: Served) -> None:
    secret = await served.register("alice")
    assert (await served.send("alice", secret, "test.values"))["data"] == {
        "bytes": {"$base64": "aGk="},
        "when": "2026-01-31T12:00:00+00:00",
        "nan": {"$float": "NaN"},
        "1": {"$float": "Infinity"},
    }


async def test_an_answer_that_cannot_be_written_is_a_failure_that_says_where(served: Served) -> None:
    secret = await served.register("alice")
    body = await served.send("alice", secret, "test.unwritable", event_id="unwritable")
    assert body["success"] is False
    assert body["error"] == "unserializable"
    assert body["event_id"] == "unwritable"
    assert "data.inner" in body["error_message"]
    assert "processed" in body["error_message"]


async def test_a_handler_that_raises_is_a_failure(served: Served) -> None:
    secret = await served.register("alice")
    body = await served.send("alice", secret, "test.raise")
    assert body["success"] is False
    assert body["error"] == "handler_error"
    assert body["message"] == body["error_message"]


async def test_events_between_agents(served: Served) -> None:
    alice, bob = await served.register("alice"), await served.register("bob")
    sent = await served.send("alice", alice, "test.note", "bob", payload={"text": "grüße"}, metadata={"m": 1})
    assert sent["success"] is True
    assert sent["data"] == {"delivered": 1}
    [event] = (await served.poll("bob", bob))["messages"]
    assert event["payload"] == {"text": "grüße"}
    assert event["metadata"] == {"m": 1}
    assert event["source_id"] == "alice"
    assert event["source_type"] == "agent"
    assert event["event_id"] == sent["event_id"]
    assert event["secret"] is None
    assert type(event["timestamp"]) is int
    assert (await served.poll("bob", bob))["messages"] == []
    absent = await served.send("alice", alice, "test.note", "carol")
    assert (absent["success"], absent["error"]) == (False, "no_such_agent")


@pytest.mark.parametrize(
    ("source", "name", "more", "error"),
    [
        ("bob", "test.note", {}, "unauthenticated"),
        ("agent:bob", "test.note", {}, "unauthenticated"),
        ("nobody", "test.note", {}, "unauthenticated"),
        ("mod:wiki", "test.note", {}, "forbidden"),
        ("system:system", "test.note", {}, "forbidden"),
        ("system", "test.note", {}, "forbidden"),
        ("channel:general", "test.note", {}, "forbidden"),
        ("system:system", "system.mod.load", {"payload": {"mod_path": "os"}}, "forbidden"),
        (None, "test.note", {}, "forbidden"),
        ("", "test.note", {}, "forbidden"),
        ("alice", "test.note", {"secret": ""}, "unauthenticated"),
        ("alice", "test.note", {"secret": None}, "unauthenticated"),
        ("alice", "test.note", {"secret": "wrong"}, "unauthenticated"),
        ("alice", "test.note", {"secret": 5}, "invalid_event"),
        ("alice", "test.note", {"secret": {"a": 1}}, "invalid_event"),
        ("alice", "system.nonsense", {}, "unknown_event"),
        ("alice", "system.mod.load", {"payload": {"mod_path": "os"}}, "forbidden"),
        ("alice", "system.mod.unload", {"payload": {"mod_id": "wiki"}}, "forbidden"),
        ("alice", "system.unregister_agent", {"payload": {"agent_id": "bob"}}, "forbidden"),
        ("alice", "system.poll_messages", {"payload": {"agent_id": "bob"}}, "forbidden"),
        ("alice", "system.register_agent", {"payload": {"agent_id": "bob"}}, "id_taken"),
        ("alice", "NoDots", {}, "invalid_event"),
        ("alice", None, {}, "invalid_event"),
        ("alice", "test.note", {"payload": [1]}, "invalid_event"),
        ("alice", "test.note", {"visibility": ["x"]}, "invalid_event"),
        ("alice", "test.note", {"target_agent_id": "no such"}, "invalid_event"),
        ("alice", "test.nobody", {}, "unknown_event"),
    ],
)
async def test_an_event_that_is_refused(
    served: Served, source: str | None, name: Any, more: dict[str, Any], error: str
) -> None:
    """With status 200: OpenAgents' client reads no other body."""
    secret = await served.register("alice")
    bob = await served.register("bob")
    body = await served.send(source, secret, name, **{"event_id": "e1", **more})
    assert (body["success"], body["error"], body["event_id"]) == (False, error, "e1"), body
    assert body["error_message"] == body["message"] != ""
    assert body["data"]["error"] == error
    assert (await served.poll("bob", bob))["success"] is True


@pytest.mark.parametrize("path", ["/api/send_event", "/api/register", "/api/unregister"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"a":"\\ud800"}', b"[" * 10_000, b"a=b&c=d"]
)
async def test_a_body_that_is_no_json_object(served: Served, path: str, body: bytes) -> None:
    response = await served.agents.post(path, content=body)
    assert response.status_code == 400
    assert response.json()["success"] is False
    assert response.json()["error"] == "bad_input"


@pytest.mark.parametrize("path", ["/api/register", "/api/unregister"])
async def test_a_body_that_is_too_large(served: Served, path: str) -> None:
    large = b'{"agent_id": "' + b"x" * 1_100_000 + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 50_000):
            yield large[start : start + 50_000]

    for content in (large, chunks()):  # announced, and found out
        response = await served.agents.post(path, content=content)
        assert (response.status_code, response.json()["error"]) == (413, "too_large")
    assert (await served.agents.get("/api/health")).status_code == 200


async def test_an_event_over_the_cap_is_refused_before_it_is_sent(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
    writer.write(
        b"POST /api/send_event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 67108865\r\n\r\n"
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


async def test_a_megabyte_passes(served: Served) -> None:
    alice, bob = await served.register("alice"), await served.register("bob")
    text = "x" * 3_000_000
    assert (await served.send("alice", alice, "test.note", "bob", payload={"text": text}))["success"] is True
    [event] = (await served.poll("bob", bob))["messages"]
    assert event["payload"]["text"] == text


# -- poll


async def test_a_thousand_events_in_order(served: Served) -> None:
    bob = await served.register("bob")
    for i in range(1000):
        await served.network.process_event(Event("test.note", "system:system", "agent:bob", {"i": i}))
    some = await served.poll("bob", bob, limit=10)
    assert [event["payload"]["i"] for event in some["messages"]] == list(range(10))
    rest = await served.poll("bob", bob)
    assert [event["payload"]["i"] for event in rest["messages"]] == list(range(10, 1000))
    assert "undeliverable" not in rest


async def test_an_event_json_cannot_carry_is_reported_beside_the_others(served: Served) -> None:
    bob = await served.register("bob")
    for payload in ({"i": 1}, {"x": object()}, {"i": 2, "nan": float("nan")}):
        await served.network.process_event(Event("test.note", "system:system", "agent:bob", payload))
    body = await served.poll("bob", bob)
    assert body["success"] is True
    assert [event["payload"]["i"] for event in body["messages"]] == [1, 2]
    [report] = body["undeliverable"]
    assert set(report) == {"event_id", "event_name", "error"}
    assert "payload.x" in report["error"]


@pytest.mark.parametrize("params", [{"secret": "wrong"}, {}, {"secret": ""}, {"agent_id": "nobody", "secret": "x"}])
async def test_a_poll_that_is_refused(served: Served, params: dict[str, str]) -> None:
    await served.register("alice")
    refused = served.network.counters.refused
    response = await served.agents.get("/api/poll", params={"agent_id": "alice", **params})
    assert response.status_code == 200
    body = response.json()
    assert body["success"] is False
    assert body["messages"] == []
    assert body["error"] == "unauthenticated"
    assert body["error_message"]
    assert served.network.counters.refused == refused + 1


@pytest.mark.parametrize(
    "params",
    [{"wait": "x"}, {"wait": "nan"}, {"wait": "-1"}, {"wait": "61"}, {"limit": "0"}, {"limit": "-5"}, {"limit": "²"}],
)
async def test_a_poll_with_wrong_numbers(served: Served, params: dict[str, str]) -> None:
    secret = await served.register("alice")
    response = await served.agents.get("/api/poll", params={"agent_id": "alice", "secret": secret, **params})
    assert response.status_code == 400
    assert next(iter(params)) in response.json()["error_message"]


async def test_a_poll_without_an_agent(served: Served) -> None:
    assert (await served.agents.get("/api/poll")).status_code == 400


async def test_a_poll_may_prove_itself_in_headers(served: Served) -> None:
    secret = await served.register("alice")
    headers = {"X-Agent-Id": "agent:alice", "Authorization": f"bearer {secret}"}
    assert (await served.agents.get("/api/poll", headers=headers)).json() == {
        "success": True,
        "messages": [],
        "agent_id": "alice",
    }


async def test_head_takes_nothing_out_of_an_inbox(served: Served) -> None:
    bob = await served.register("bob")
    await served.network.process_event(Event("test.note", "system:system", "agent:bob"))
    response = await served.agents.head("/api/poll", params={"agent_id": "bob", "secret": bob})
    assert response.status_code == 405
    assert len((await served.poll("bob", bob))["messages"]) == 1


async def test_a_long_poll_wakes_up(served: Served) -> None:
    bob = await served.register("bob")
    polling = asyncio.create_task(served.poll("bob", bob, wait=60))
    await until(lambda: served.waits("bob"))
    await served.network.process_event(Event("test.note", "system:system", "agent:bob", {"i": 1}))
    [event] = (await asyncio.wait_for(polling, 5))["messages"]
    assert event["payload"] == {"i": 1}


async def test_a_long_poll_without_events_ends_empty(served: Served) -> None:
    bob = await served.register("bob")
    assert (await served.poll("bob", bob, wait=0.05))["messages"] == []


async def test_a_long_poll_of_an_agent_that_leaves(served: Served) -> None:
    bob = await served.register("bob")
    polling = asyncio.create_task(served.poll("bob", bob, wait=60))
    await until(lambda: served.waits("bob"))
    await served.network.unregister_agent("bob")
    assert (await asyncio.wait_for(polling, 5))["error"] == "unauthenticated"


async def test_a_long_poll_gets_nothing_once_its_secret_is_replaced(served: Served) -> None:
    old = await served.register("bob")
    polling = asyncio.create_task(served.poll("bob", old, wait=0.5))
    await until(lambda: served.waits("bob"))
    new = await served.register("bob", secret=old)
    await served.network.process_event(Event("test.note", "system:system", "agent:bob"))
    assert (await asyncio.wait_for(polling, 5))["error"] == "unauthenticated"
    assert len((await served.poll("bob", new))["messages"]) == 1


async def test_a_client_that_goes_during_a_long_poll_loses_nothing(served: Served) -> None:
    bob = await served.register("bob")
    _, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
    writer.write(f"GET /api/poll?agent_id=bob&secret={bob}&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await until(lambda: served.waits("bob"))
    writer.close()
    await writer.wait_closed()
    await until(lambda: not served.waits("bob"))
    await served.network.process_event(Event("test.note", "system:system", "agent:bob"))
    assert len((await served.poll("bob", bob))["messages"]) == 1


async def test_an_event_that_comes_as_the_client_goes_is_not_lost(served: Served) -> None:
    """Both are known by the time the poll wakes up: the client's end decides."""
    bob = await served.register("bob")
    _, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
    writer.write(
        f"GET /api/poll?agent_id=bob&secret={bob}&wait=60 HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n".encode()
    )
    await until(lambda: served.waits("bob"))
    assert served.network._parts is not None
    [server] = [server for server in served.network._parts.servers._servers if server.server_state.tasks]
    for connection in list(server.server_state.connections):
        if connection.cycle is not None and not connection.cycle.response_complete:
            connection.connection_lost(None)
    await served.network.process_event(Event("test.note", "system:system", "agent:bob"))
    await until(lambda: served.requests_in_flight() == 0)
    writer.close()
    await writer.wait_closed()
    assert len((await served.poll("bob", bob))["messages"]) == 1


# -- errors


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/api"), ("GET", "/api/health/"), ("POST", "/x/y")])
async def test_an_unknown_route_lists_the_known_ones(served: Served, method: str, path: str) -> None:
    response = await served.agents.request(method, path)
    assert response.status_code == 404
    body = response.json()
    assert (body["success"], body["error"]) == (False, "not_found")
    assert body["data"]["routes"] == [
        "GET /api/health", "POST /api/register", "POST /api/send_event", "GET /api/poll", "GET /api/events",
        "POST /api/unregister", "GET /ws",
    ]  # fmt: skip


async def test_the_admin_api_is_not_there_without_a_token(served: Served) -> None:
    response = await served.agents.get("/admin/v1/status", headers={"Authorization": "Bearer x"})
    assert response.status_code == 404


async def test_a_wrong_method_says_which_is_right(served: Served) -> None:
    response = await served.agents.get("/api/register")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


async def test_an_unexpected_error_is_logged_and_leaks_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = await served.register("alice")

    def fail() -> dict[str, Any]:
        raise RuntimeError("internals")

    monkeypatch.setattr(served.network, "health", fail)
    response = await served.agents.get("/api/health", params={"agent_id": "alice", "secret": secret})
    assert response.status_code == 500
    assert (response.json()["success"], response.json()["error"]) == (False, "internal_error")
    assert "internals" not in response.text
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "GET /api/health failed" in record.message
    assert secret not in caplog.text.replace(_lines_of("httpx", caplog), "")
    monkeypatch.undo()
    assert (await served.agents.get("/api/health")).status_code == 200


async def test_secrets_of_the_query_are_in_no_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = await served.register("alice")
    await served.poll("alice", secret)
    served.network.refusals.tell()  # else this refusal may only be counted
    await served.poll("alice", secret + "x")
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore", "hpack"))]
    assert ours
    assert not [record for record in ours if secret in record.getMessage()]


def _lines_of(name: str, caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name.startswith(name))


async def test_answers_say_nothing_of_the_server(served: Served) -> None:
    response = await served.agents.get("/api/health")
    assert "server" not in response.headers
    assert response.headers["content-type"] == "application/json"
    assert response.headers["date"]


async def test_one_connection_serves_many_requests(served: Served) -> None:
    secret = await served.register("alice")
    limits = httpx.Limits(max_connections=1)
    base = f"http://127.0.0.1:{served.network.port}"
    async with httpx.AsyncClient(base_url=base, limits=limits, trust_env=False) as client:
        for _ in range(50):
            response = await client.get("/api/poll", params={"agent_id": "alice", "secret": secret})
            assert response.json()["success"] is True
