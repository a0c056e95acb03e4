"""What an agent does on a WebSocket: it says who it is, sends events, and leaves."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork
from tests.http.serving import TALKER, Served, serving, shared_network
from tests.http.websocket.talking import JSON, MSGPACK, Talk, talking

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("session")
    groups = {"staff": {"password_hash": "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"}}
    async with shared_network(folder, {"talker": TALKER}, agent_groups=groups) as served:
        yield served


@pytest.fixture
async def alice(served: Served) -> AsyncIterator[Talk]:
    async with talking(served) as talk:
        await talk.register("alice")
        yield talk


@pytest.mark.parametrize("form", [MSGPACK, JSON, None])
async def test_an_agent_registers_sends_and_gets_events(served: Served, form: str | None) -> None:
    async with talking(served, form) as alice, talking(served) as bob:
        assert alice.socket.subprotocol == form
        welcome = await alice.register("alice", metadata={"name": "Alice"})
        assert welcome | {"secret": "", "cursor": "", "limits": {}} == {
            "type": "welcome", "id": 1, "agent_id": "alice", "secret": "", "network_id": "test", "network_name": "test",
            "assigned_group": None, "cursor": "", "resumed": False, "limits": {},
        }  # fmt: skip
        limits = {"message_bytes": 64 * 1024 * 1024, "credit": 1024, "in_flight": 64, "ping": 20.0}
        assert welcome["limits"] == limits
        answer = await alice.send("test.ping", payload={"i": 1}, event_id="e1")
        assert answer == {
            "type": "response", "id": 2, "success": True, "message": "pong", "data": {"i": 1, "from": "alice"},
            "event_id": "e1", "event_name": "test.ping",
        }  # fmt: skip
        await bob.register("bob")
        assert (await bob.send("chat.message", "alice", payload={"text": "hi"}))["data"] == {"delivered": 1}
        assert [payload for _, payload in await alice.events(1)] == [{"text": "hi"}]
        polled = alice.pushed[0][1]
        assert (polled["source_id"], polled["source_type"], polled["secret"]) == ("bob", "agent", None)


async def test_msgpack_carries_what_json_cannot(served: Served) -> None:
    when = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
    async with talking(served, MSGPACK) as alice, talking(served) as bob:
        await alice.register("alice")
        answer = await alice.send("test.ping", payload={"i": [b"\0\1", when]})
        assert answer["data"]["i"] == [b"\0\1", when]
        await bob.register("bob")
        await alice.send("chat.message", "bob", payload={"data": b"hi"})
        assert (await bob.events(1))[0][1] == {"data": {"$base64": "aGk="}}
        refused = await bob.send("test.unwritable")
        assert (refused["success"], refused["error"]) == (False, "unserializable")
        assert "cannot be written: data.inner" in refused["message"]


async def test_answers_come_as_events_finish_and_retries_get_the_first(alice: Talk) -> None:
    await alice.say("send", id=100, event={"event_name": "test.hold", "timeout": 0.2})
    again = {"event_name": "test.ping", "payload": {"i": 1}, "event_id": "same"}
    for number in (101, 102):
        await alice.say("send", id=number, event=again | {"payload": {"i": number}})
    answers = [await alice.hear("response") for _ in range(3)]
    assert [answer["id"] for answer in answers] == [101, 102, 100]
    assert [answer["data"].get("i") for answer in answers[:2]] == [101, 101]
    assert answers[2]["error"] == "timeout"


async def test_an_agent_goes_on_with_its_secret_alone(served: Served, alice: Talk) -> None:
    await alice.socket.close()
    async with talking(served, MSGPACK) as again:
        welcome = await again.ask("resume", agent_id="agent:alice", secret=alice.secret)
        assert (welcome["type"], welcome["agent_id"], "secret" in welcome) == ("welcome", "alice", False)
        assert (await again.send("test.ping"))["success"]


async def test_a_group_is_joined_by_its_password(served: Served) -> None:
    hashed = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
    async with talking(served) as alice:
        welcome = await alice.register("alice", group="staff", password_hash=hashed)
        assert welcome["assigned_group"] == "staff"


@pytest.mark.parametrize(
    ("hello", "error", "code"),
    [
        ({"type": "resume", "agent_id": "nobody", "secret": "x"}, "unauthenticated", 4401),
        ({"type": "register", "agent_id": "bob", "group": "staff", "password_hash": "0" * 64}, "unauthenticated", 4401),
        ({"type": "register", "agent_id": "bob", "group": "nothing"}, "no_such_group", 4403),
        ({"type": "register", "agent_id": "alice"}, "id_taken", 4403),
        ({"type": "register", "agent_id": "a/b"}, "invalid_event", 4400),
        ({"type": "register", "agent_id": "mod:x"}, "forbidden", 4403),
        ({"type": "send", "event": {"event_name": "test.ping"}}, "unauthenticated", 4401),
        ({"type": "unregister"}, "unauthenticated", 4401),
    ],
)
async def test_a_refused_hello_is_answered_and_the_connection_closed(
    served: Served, alice: Talk, hello: dict[str, Any], error: str, code: int
) -> None:
    async with talking(served) as stranger:
        keys = {key: value for key, value in hello.items() if key != "type"}
        refused = await stranger.ask(hello["type"], **keys)
        assert (refused["type"], refused["error"], refused["data"]["error"]) == ("error", error, error)
        assert (await stranger.closed())[0] == code


async def test_a_wrong_secret_is_counted_as_a_refusal(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    before = served.network.counters.refused
    async with talking(served) as stranger:
        await stranger.ask("resume", agent_id="carol", secret="guess")
    assert served.network.counters.refused == before + 1
    assert "guess" not in caplog.text


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"type": "wibble", "id": 7}, "type: expected one of register"),
        ({"id": 7}, "type: expected one of"),
        ({"type": ["send"], "id": 7}, "type: expected one of"),
        ({"type": "ping", "id": 7, "x": 1}, "unknown keys 'x'"),
        ({"type": "send", "id": 7, "event": {"event_name": "a.b", "source_id": "bob"}}, "unknown keys 'source_id'"),
        ({"type": "register", "id": 7, "agent_id": "bob"}, "this connection is agent 'alice' already"),
        ({"type": "ack", "cursor": "x.1"}, "no event was pushed with the cursor 'x.1'"),
        ({"type": "credit", "events": -1}, "events: expected a whole number from 1"),
        ({"type": "ping", "id": "7"}, "id: expected a whole number"),
    ],
    ids=str,
)
async def test_a_wrong_message_is_named_and_the_connection_stays(
    alice: Talk, message: dict[str, Any], says: str
) -> None:
    keys = {key: value for key, value in message.items() if key != "type"}
    await alice.socket.send(json.dumps(message))
    error = await alice.hear("error")
    assert says in error["message"]
    assert error.get("id") == (keys.get("id") if type(keys.get("id")) is int else None)
    assert (await alice.send("test.ping"))["success"]


async def test_an_event_that_is_none_is_answered_as_over_http(alice: Talk) -> None:
    answer = await alice.send("not an event", event_id="e")
    assert (answer["type"], answer["success"], answer["error"], answer["event_id"]) == (
        "response",
        False,
        "invalid_event",
        "e",
    )


async def test_an_agent_leaves(served: Served, alice: Talk) -> None:
    answer = await alice.ask("unregister")
    assert (answer["type"], answer["success"]) == ("response", True)
    assert await alice.closed() == (1000, {})
    assert served.network.agent_directory() == {}


@pytest.mark.parametrize("payload", [{}, {"agent_id": "alice"}, {"agent_id": "agent:alice"}])
async def test_an_agent_leaves_by_an_event_and_is_answered_first(
    served: Served, alice: Talk, payload: dict[str, str]
) -> None:
    answer = await alice.send("system.unregister_agent", payload=payload)
    assert (answer["type"], answer["success"]) == ("response", True)
    assert alice.others == []
    assert await alice.closed() == (1000, {})
    assert not served.network.agent_directory()


async def test_an_agent_that_registers_anew_gets_its_new_secret_before_the_end(served: Served, alice: Talk) -> None:
    answer = await alice.send("system.register_agent", payload={"metadata": {"name": "Alice"}})
    assert (answer["type"], answer["success"], alice.others) == ("response", True, [])
    assert (await alice.closed())[0] == 4409
    async with talking(served) as again:
        assert (await again.ask("resume", agent_id="alice", secret=answer["data"]["secret"]))["type"] == "welcome"


async def test_an_agent_that_may_not_remove_another_one_stays(served: Served, alice: Talk) -> None:
    await served.register("bob")
    assert (await alice.send("system.unregister_agent", payload={"agent_id": "bob"}))["error"] == "forbidden"
    assert (await alice.send("test.ping"))["success"]


async def test_a_newer_connection_takes_over(served: Served, alice: Talk) -> None:
    async with talking(served) as newer:
        await newer.ask("resume", agent_id="alice", secret=alice.secret)
        code, why = await alice.closed()
        assert (code, why["error"]) == (4409, "taken_over")
        # So does a registration with the present secret, here over HTTP: this connection's is no longer valid.
        await served.register("alice", secret=alice.secret)
        code, why = await newer.closed()
        assert (code, why["error"]) == (4409, "taken_over")


async def test_an_agent_that_was_removed_is_told(served: Served, alice: Talk) -> None:
    await served.network.unregister_agent("alice")
    code, why = await alice.closed()
    assert (code, why["error"]) == (4401, "unauthenticated")


async def test_what_a_connection_sends_waits_while_too_much_is_in_flight(
    make_network: Make, write_mod: Callable[..., str]
) -> None:
    network = make_network({"port": 0}, mods=[write_mod("talker", TALKER)], http={"ws_in_flight": 2})
    async with serving(network) as served, talking(served) as alice:
        await alice.register("alice")
        for number in (100, 101):
            await alice.say("send", id=number, event={"event_name": "test.hold", "timeout": 0.2})
        await alice.say("ping", id=102)
        pong = await alice.socket.ping()  # the protocol's own passes
        await pong
        first = await alice.next()
        assert (first["type"], first["error"]) == ("response", "timeout")
        assert (await alice.hear("pong"))["id"] == 102


async def test_a_network_that_stops_answers_what_is_in_flight_and_says_why_it_closes(
    make_network: Make, write_mod: Callable[..., str]
) -> None:
    network = make_network({"port": 0}, mods=[write_mod("talker", TALKER)])
    async with serving(network) as served, talking(served) as alice, talking(served, MSGPACK) as bob:
        await alice.register("alice")
        await bob.register("bob")
        await alice.say("send", id=9, event={"event_name": "test.hold", "timeout": 0.3})
        await alice.ask("ping")
        await network.shutdown()
        assert (await alice.hear("response"))["id"] == 9
        for talk in (alice, bob):
            code, why = await talk.closed()
            assert (code, why["error"]) == (1001, "not_running")
