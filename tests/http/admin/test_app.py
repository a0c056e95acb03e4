"""The operator's API over its unix socket: status, mods, logs, events, reconfiguration, stop."""

from __future__ import annotations

import asyncio
import json
import os
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.http.serving import TALKER, Served, serving, shared_network

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
Write = Callable[..., str]


@pytest.fixture
async def served(make_network: Make) -> AsyncIterator[Served]:
    async with serving(make_network({"port": 0})) as served:
        yield served


@pytest.fixture
async def talking(make_network: Make, write_mod: Write) -> AsyncIterator[Served]:
    """With a mod ``./talker`` that answers ``test.*``."""
    async with serving(make_network({"port": 0}, mods=[write_mod("talker", TALKER)])) as served:
        yield served


REFUSE = """
    from modvisor.mods import BaseMod
    class Refuse(BaseMod):
        def initialize(self):
            return False
"""


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("admin")
    for name, source in {"crash": "raise RuntimeError('at import')", "refuse": REFUSE}.items():
        (folder / "mods" / name).mkdir(parents=True)
        (folder / "mods" / name / "mod.py").write_text(textwrap.dedent(source))
    async with shared_network(folder, {"talker": TALKER}) as served:
        yield served


@pytest.fixture
async def asked(shared: Served) -> AsyncIterator[Served]:
    """The same as ``talking``, and one for all tests: they only ask."""
    yield shared
    await shared.forget_agents()
    assert list(shared.network.get_loaded_mods()) == ["talker"]


class Lines:
    """The JSON lines of a stream, one by one."""

    def __init__(self, response: Any) -> None:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return json.loads(await anext(self._lines))

    async def rest(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            return [json.loads(line) async for line in self._lines]


# -- looking


async def test_status(talking: Served, tmp_path: Path) -> None:
    await talking.register("alice")
    status = (await talking.admin.get("/admin/v1/status")).json()
    assert status.pop("uptime_seconds") > 0
    assert status.pop("started_at") > 1_700_000_000
    assert status.pop("version")
    assert status == {
        "name": "test",
        "network_id": "test",
        "pid": os.getpid(),
        "host": "127.0.0.1",
        "port": talking.network.port,
        "tls": False,
        "storage": str(tmp_path / "state"),
        "config_file": None,
        "mods": [{"mod_id": "talker", "state": "ready"}],
        "agents": 1,
    }


async def test_mods_and_stats(talking: Served, write_mod: Write) -> None:
    await talking.admin.post("/admin/v1/mods", json={"path": write_mod("another")})
    mods = (await talking.admin.get("/admin/v1/mods")).json()["mods"]
    assert [mod["mod_id"] for mod in mods] == ["talker", "another"]
    assert mods[0]["traffic"]["events_in"] == 0
    stats = (await talking.admin.get("/admin/v1/stats")).json()
    assert list(stats["mods"]) == ["talker", "another"]
    assert stats["network_id"] == "test"


# -- mods


async def test_load_use_reload_unload(served: Served, write_mod: Write) -> None:
    path = write_mod("talker", TALKER)
    loaded = await served.admin.post("/admin/v1/mods", json={"path": path, "id": "chat", "config": {"a": 1}})
    assert loaded.status_code == 200
    assert loaded.json()["success"] is True
    assert loaded.json()["data"]["mod_id"] == "chat"
    assert loaded.json()["data"]["mod_path"] == "./talker"
    pong = await served.admin.post("/admin/v1/events", json={"event_name": "test.ping", "payload": {"i": 1}})
    assert pong.json()["data"] == {"i": 1, "from": "system:system"}

    reloaded = await served.admin.post("/admin/v1/mods/chat/reload")
    assert (reloaded.status_code, reloaded.json()["success"]) == (200, True)
    assert served.network.get_loaded_mods()["chat"]["pid"] != loaded.json()["data"]["pid"]
    again = await served.admin.post("/admin/v1/mods/.%2Ftalker/reload", json={"config": {"a": 2}})
    assert (again.status_code, again.json()["success"]) == (200, True)

    unloaded = await served.admin.delete("/admin/v1/mods/.%2Ftalker", params={"timeout": 5})
    assert (unloaded.status_code, unloaded.json()["success"]) == (200, True)
    assert (await served.admin.get("/admin/v1/mods")).json() == {"mods": []}


async def test_a_load_takes_what_a_mods_entry_in_the_file_takes(served: Served, write_mod: Write) -> None:
    settings = {
        "delivery": "at_most_once", "max_attempts": 3, "durable": True, "checkpoint_every": "90s",
        "limits": {"memory": "300MB", "cpu": 0.5}, "restart": {"max_restarts": 1},
    }  # fmt: skip
    loaded = await served.admin.post("/admin/v1/mods", json={"path": write_mod("talker", TALKER), **settings})
    assert loaded.status_code == 200, loaded.text
    assert served.network._parts is not None
    keeper = served.network._parts.mods.find("talker")
    assert keeper is not None
    config = keeper.config
    assert (config.delivery, config.max_attempts, config.durable, config.checkpoint_every) == (
        "at_most_once", 3, True, 90.0,
    )  # fmt: skip
    assert (config.limits.memory, config.limits.cpu, config.restart.max_restarts) == (300_000_000, 0.5, 1)


async def test_a_mod_is_named_by_its_dotted_path_too(served: Served, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "talk.py").write_text(textwrap.dedent(TALKER))
    loaded = await served.admin.post("/admin/v1/mods", json={"path": "plugins.talk:Talker", "id": "chat"})
    assert loaded.status_code == 200, loaded.text
    assert (await served.admin.get("/admin/v1/mods/plugins.talk:Talker/log")).status_code == 200
    assert (await served.admin.post("/admin/v1/mods/plugins.talk:Talker/reload")).status_code == 200
    assert (await served.admin.delete("/admin/v1/mods/plugins.talk:Talker")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_input"),
        ({"path": 5}, 400, "bad_input"),
        ({"path": "no such path"}, 400, "bad_config"),
        ({"path": "../up"}, 400, "bad_config"),
        ({"path": "./absent"}, 400, "bad_config"),
        ({"path": "nowhere.at.all"}, 422, "import_failed"),
        ({"path": "./talker"}, 409, "already_loaded"),
        ({"path": "./talker", "id": "No Good"}, 400, "bad_config"),
        ({"path": "./talker", "id": "other", "limits": {"memory": "lots"}}, 400, "bad_config"),
        ({"path": "./talker", "id": "other", "permissions": ["everything"]}, 400, "bad_config"),
        ({"path": "./talker", "id": "other", "env": {"A": {"from": "env:NO_SUCH_VARIABLE"}}}, 400, "bad_config"),
        ({"path": "./talker", "id": "other", "conifg": {}}, 400, "bad_input"),
        ({"path": "./talker", "id": "other", "delivery": "twice"}, 400, "bad_config"),
        ({"path": "./talker", "id": "other", "max_attempts": 0}, 400, "bad_config"),
        ({"path": "./talker", "id": "other", "durable": "yes"}, 400, "bad_config"),
        ({"path": "./talker", "id": "other", "checkpoint_every": "often"}, 400, "bad_config"),
        ({"path": "os"}, 422, "no_mod_class"),
        ({"path": "./crash"}, 422, "import_failed"),
        ({"path": "./refuse"}, 422, "initialize_failed"),
    ],
)
async def test_a_load_that_fails(asked: Served, body: dict[str, Any], status: int, code: str) -> None:
    response = await asked.admin.post("/admin/v1/mods", json=body)
    answer = response.json()
    assert (response.status_code, answer["data"]["error"]) == (status, code), response.text
    assert answer["success"] is False
    assert answer["error"] == code
    assert answer["message"]
    assert [mod["mod_id"] for mod in (await asked.admin.get("/admin/v1/mods")).json()["mods"]] == ["talker"]


async def test_a_load_that_is_not_allowed(make_network: Make, write_mod: Write) -> None:
    path = write_mod("talker", TALKER)
    async with serving(make_network({"port": 0}, allowed_mods=["./other"])) as served:
        response = await served.admin.post("/admin/v1/mods", json={"path": path})
        assert (response.status_code, response.json()["error"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/mods/nobody"), ("POST", "/mods/nobody/reload"), ("GET", "/mods/nobody/log"),
        ("GET", "/mods/nobody/log?follow=1"), ("GET", "/mods/a.b.c:D/log"), ("GET", "/mods/..%2F..%2Fetc/log"),
        ("GET", "/mods/%2Fetc%2Fpasswd/log"), ("GET", "/mods/talker%237/log"), ("GET", "/mods/talker%237/log?follow=1"),
    ],
)  # fmt: skip
async def test_a_mod_that_is_not_there(asked: Served, method: str, path: str) -> None:
    response = await asked.admin.request(method, f"/admin/v1{path}")
    assert response.status_code in (400, 404)
    assert response.json()["error"] in ("no_such_mod", "invalid_event")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/mods/talker?timeout=soon", None), ("DELETE", "/mods/talker?timeout=-1", None),
        ("GET", "/mods/talker%23x/log", None), ("GET", "/mods/talker%23%2F..%2Fx/log", None),
        ("GET", "/mods/talker%23/log", None), ("GET", "/mods/talker%23%D9%A1/log?follow=1", None),
        ("GET", "/mods/talker/log?lines=x", None), ("GET", "/mods/talker/log?lines=-1", None),
        ("GET", "/mods/talker/log?follow=maybe", None), ("POST", "/mods/talker/reload", {"config": [1]}),
        ("POST", "/mods/talker/reload", {"konfig": {}}), ("GET", "/events?pattern=Not+A+Pattern", None),
        ("GET", "/events?limit=0", None), ("POST", "/events", {}), ("POST", "/events", {"event_name": 5}),
        ("POST", "/events", {"event_name": "a.b", "visibility": {}}), ("POST", "/events/batch", {}),
        ("POST", "/events/batch", {"events": {}}), ("POST", "/events/batch", {"events": [], "concurrency": 0}),
        ("POST", "/events/batch", {"events": [], "concurrency": True}),
        ("POST", "/events/batch", {"events": [], "in_order": 1}), ("POST", "/events/batch", {"events": [], "ordered": 1}),
    ],
)  # fmt: skip
async def test_a_request_that_makes_no_sense(asked: Served, method: str, path: str, body: Any) -> None:
    response = await asked.admin.request(method, f"/admin/v1{path}", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["success"] is False
    assert response.json()["message"]
    assert asked.network.get_loaded_mods()["talker"]["state"] == "ready"


# -- logs


async def say(served: Served, text: str) -> None:
    response = await served.network.process_event(Event("test.say", "system:system", payload={"text": text}))
    assert response.success


async def said(served: Served, text: str) -> None:
    await say(served, text)
    await until(lambda: any(line.endswith(f" {text}") for line in served.network.mod_log("talker")))


async def test_the_workers_of_a_mod(talking: Served) -> None:
    loaded = await talking.admin.post("/admin/v1/mods", json={"path": "./talker", "id": "many", "workers": 2})
    assert loaded.json()["success"], loaded.json()
    (mod,) = [mod for mod in (await talking.admin.get("/admin/v1/mods")).json()["mods"] if mod["mod_id"] == "many"]
    assert [worker["mod_id"] for worker in mod["workers"]] == ["many#0", "many#1"]
    for source in ("agent:a", "agent:b", "agent:c"):
        assert (await talking.network.process_event(Event("test.say", source, "mod:many", {"text": "hi"}))).success
    logs = [
        (await talking.admin.get(f"/admin/v1/mods/many{one}/log")).text.splitlines() for one in ("", "%230", "%231")
    ]
    assert len(logs[0]) == len(logs[1]) + len(logs[2]) > 0
    assert (await talking.admin.get("/admin/v1/mods/nobody%231/log")).status_code == 404
    assert (await talking.admin.get("/admin/v1/crashes?mod=many%231")).json() == {"crashes": []}


async def test_the_log_of_a_mod(talking: Served) -> None:
    for text in ("one", "two", "drei ü"):
        await said(talking, text)
    response = await talking.admin.get("/admin/v1/mods/talker/log", params={"lines": 2})
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line)["line"] for line in response.text.splitlines()]
    assert [line.split(" ", 1)[1] for line in lines] == ["two", "drei ü"]
    assert (await talking.admin.get("/admin/v1/mods/talker/log", params={"lines": 0})).text == ""


async def test_the_log_of_a_mod_outlives_it(talking: Served) -> None:
    await said(talking, "one")
    await talking.network.unload_mod("talker")
    response = await talking.admin.get("/admin/v1/mods/talker/log")
    assert json.loads(response.text.splitlines()[-1])["line"].endswith(" one")
    followed = await talking.admin.get("/admin/v1/mods/talker/log", params={"follow": 1})
    assert followed.status_code == 404


async def test_a_log_is_followed_from_the_past_on(talking: Served) -> None:
    await said(talking, "before")
    async with talking.admin.stream("GET", "/admin/v1/mods/talker/log", params={"follow": "1", "lines": 1}) as response:
        lines = Lines(response)
        assert (await lines.next())["line"].endswith(" before")
        for text in ("after", "later"):
            await say(talking, text)
            assert (await lines.next())["line"].endswith(f" {text}")
    await until(lambda: talking.requests_in_flight() == 0)
    assert talking.network._parts is not None
    keeper = talking.network._parts.mods.find("talker")
    assert keeper is not None
    assert not keeper.log._listeners  # the client has gone, and nobody collects lines for it


# -- events


async def test_an_event_of_the_operator(asked: Served) -> None:
    answer = (
        await asked.admin.post("/admin/v1/events", json={"event_name": "test.ping", "source_id": "agent:ghost"})
    ).json()
    assert answer["success"] is True
    assert answer["data"] == {"i": None, "from": "agent:ghost"}
    assert answer["event_name"] == "test.ping"
    failed = await asked.admin.post("/admin/v1/events", json={"event_name": "test.note", "destination_id": "bob"})
    assert failed.status_code == 200
    assert (failed.json()["success"], failed.json()["error"]) == (False, "no_such_agent")
    listed = await asked.admin.post("/admin/v1/events", json={"event_name": "system.mod.list"})
    assert set(listed.json()["data"]["mods"]) == {"talker"}


async def test_a_batch(asked: Served) -> None:
    bob = await asked.register("bob")
    events: list[Any] = [
        {"event_name": "test.note", "source_id": f"agent:a{i % 3}", "destination_id": "bob", "payload": {"i": i}}
        for i in range(30)
    ]
    events += ["no event", {"event_name": "test.note", "destination_id": "carol", "event_id": "lost"}]
    response = await asked.admin.post("/admin/v1/events/batch", json={"events": events, "concurrency": 4})
    results = response.json()["results"]
    assert [result["index"] for result in results] == list(range(32))
    assert all(result["success"] and result["delivered"] == 1 for result in results[:30])
    assert (results[30]["success"], results[30]["error"]) == (False, "invalid_event")
    assert (results[31]["event_id"], results[31]["error"]) == ("lost", "no_such_agent")
    polled = [event["payload"]["i"] for event in (await asked.poll("bob", bob))["messages"]]
    for source in range(3):
        assert [i for i in polled if i % 3 == source] == list(range(source, 30, 3))
    empty = await asked.admin.post("/admin/v1/events/batch", json={"events": [], "in_order": False})
    assert empty.json() == {"results": []}


async def test_events_are_watched(asked: Served) -> None:
    alice = await asked.register("alice")
    params = {"pattern": "test.ping", "limit": 2}
    async with asked.admin.stream("GET", "/admin/v1/events", params=params) as response:
        lines = Lines(response)
        assert await lines.next() == {"listening": True}
        await asked.send("alice", alice, "test.say", payload={"text": "not watched"})
        await asked.send("alice", alice, "test.ping", payload={"i": 1})
        first = await lines.next()
        assert first["event"]["event_name"] == "test.ping"
        assert first["event"]["source_id"] == "alice"
        assert first["event"]["payload"] == {"i": 1}
        assert first["response"]["data"] == {"i": 1, "from": "alice"}
        await asked.send("alice", alice, "test.ping", payload={"i": 2})
        [last] = await lines.rest()
        assert last["event"]["payload"] == {"i": 2}
    assert asked.network._parts is not None
    await until(lambda: not asked.network._parts.gateway.taps)


async def test_who_watches_sees_no_secret(asked: Served) -> None:
    async with asked.admin.stream("GET", "/admin/v1/events", params={"limit": 2}) as response:
        lines = Lines(response)
        await lines.next()
        secret = await asked.register("alice", metadata={"a": 1})
        await asked.send("alice", secret, "system.list_agents")
        seen = await lines.rest()
    assert [record["event"]["event_name"] for record in seen] == ["system.register_agent", "system.list_agents"]
    assert seen[0]["event"]["payload"]["metadata"] == {"a": 1}
    assert secret not in json.dumps(seen)


async def test_an_event_that_cannot_be_written_does_not_end_the_stream(asked: Served) -> None:
    async with asked.admin.stream("GET", "/admin/v1/events", params={"limit": 2}) as response:
        lines = Lines(response)
        await lines.next()
        for payload in ({"x": object()}, {"x": 1}):
            await asked.network.process_event(Event("test.note", "system:system", payload=payload))
        odd, plain = await lines.rest()
    assert "payload.x" in odd["error"]
    assert odd["event"]["event_name"] == "test.note"
    assert plain["event"]["payload"] == {"x": 1}


async def test_a_watcher_that_goes_is_forgotten(asked: Served) -> None:
    async with asked.admin.stream("GET", "/admin/v1/events") as response:
        await Lines(response).next()
    assert asked.network._parts is not None
    await until(lambda: not asked.network._parts.gateway.taps)


# -- the network


NETWORK_FILE = """
network: {{name: test, port: 0, storage: state}}
mods: [{mods}]
"""


async def test_reconfigure_reads_the_file_again(tmp_path: Path, write_mod: Write) -> None:
    write_mod("one")
    write_mod("two")
    file = tmp_path / "network.yaml"
    file.write_text(NETWORK_FILE.format(mods="./one"))
    network = AgentNetwork.load(file)
    try:
        async with serving(network) as served:
            assert (await served.admin.get("/admin/v1/status")).json()["config_file"] == str(file)

            file.write_text(NETWORK_FILE.format(mods="./one, ./two, ./three") + "nonsense: 1\n")
            refused = await served.admin.post("/admin/v1/reconfigure")
            assert (refused.status_code, refused.json()["error"]) == (422, "bad_config")
            problems = refused.json()["data"]["problems"]
            assert {problem["key"] for problem in problems} == {"mods[2]", "nonsense"}
            assert all(problem["file"] == str(file) and problem["line"] and problem["message"] for problem in problems)

            file.write_text(NETWORK_FILE.format(mods="./two") + "agents: {max_agents: 5}\njournal: {dead_letters: 0}\n")
            answer = (await served.admin.post("/admin/v1/reconfigure")).json()
            assert answer["success"] is True
            assert set(answer["data"]["added"]) == {"two"}
            assert answer["data"]["added"]["two"]["success"] is True
            assert set(answer["data"]["removed"]) == {"one"}
            assert answer["data"]["changed"] == {}
            assert answer["data"]["applied"] == ["agents.max_agents"]
            assert answer["data"]["needs_restart"] == ["journal.dead_letters"]
            assert answer["message"] == (
                "2 mods changed; applied: agents.max_agents; needs a restart of the network: journal.dead_letters"
            )
            assert list(network.get_loaded_mods()) == ["two"]

            file.unlink()
            assert (await served.admin.post("/admin/v1/reconfigure")).status_code == 422
    finally:
        await network.shutdown()


async def test_a_network_without_a_file_cannot_be_reconfigured(asked: Served) -> None:
    response = await asked.admin.post("/admin/v1/reconfigure")
    assert (response.status_code, response.json()["error"]) == (409, "conflict")


async def test_shutdown_is_answered_and_then_done(served: Served) -> None:
    response = await served.admin.post("/admin/v1/shutdown")
    assert (response.status_code, response.json()["success"]) == (200, True)
    async with asyncio.timeout(10):
        await served.network.wait_stopped()
    assert not served.network.is_running


async def test_an_unknown_route_lists_the_known_ones(asked: Served) -> None:
    for path in ("/", "/admin", "/admin/v2/status", "/api/health"):
        response = await asked.admin.get(path)
        assert response.status_code == 404
        assert "GET /admin/v1/status" in response.json()["data"]["routes"]
    wrong = await asked.admin.put("/admin/v1/mods")
    assert wrong.status_code == 405
