"""Operators' tokens of a real network: made, used over TCP, revoked, kept over a restart, and never stored as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.http.serving import JSON, TALKER, Served, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
V1 = "/admin/v1"


async def made(served: Served, name: str, scope: str, **more: Any) -> str:
    answer = await served.admin.post(f"{V1}/tokens", json={"name": name, "scope": scope, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["token"]


async def asked(served: Served, token: str, method: str, path: str, **more: Any) -> httpx.Response:
    return await served.agents.request(method, f"{V1}{path}", headers={"Authorization": f"Bearer {token}"}, **more)


async def test_a_token_is_used_over_tcp_kept_over_a_restart_and_revoked(
    make_network: Make, write_mod: Callable[..., str]
) -> None:
    network = make_network({"port": 0}, mods=[write_mod("echo")])
    async with serving(network) as served:
        token = await made(served, "ci", "operate")
        assert token.startswith("mvt_")
        assert (await asked(served, token, "POST", "/mods/echo/reload")).json()["success"]
        listed = (await served.admin.get(f"{V1}/tokens")).json()["tokens"]
        assert [(each["name"], each["scope"], each["expired"]) for each in listed] == [("ci", "operate", False)]
        assert listed[0]["created_by"].startswith("socket:uid ")
        assert token not in json.dumps(listed)
    await network.shutdown()
    whole = b"".join(path.read_bytes() for path in network.state_dir.root.rglob("*") if path.is_file())
    assert token.encode() not in whole
    async with serving(network) as served:
        assert (await asked(served, token, "GET", "/status")).status_code == 200
        assert (await served.admin.delete(f"{V1}/tokens/ci")).json()["message"] == "token ci revoked"
        assert (await asked(served, token, "GET", "/status")).status_code == 404  # there is no token any more
        assert (await served.admin.delete(f"{V1}/tokens/ci")).status_code == 404


async def test_what_a_scope_may_not_do_it_may_not_do_by_other_ways(
    make_network: Make, write_mod: Callable[..., str]
) -> None:
    network = make_network({"port": 0}, mods=[write_mod("echo")])
    async with serving(network) as served:
        read, operate = await made(served, "reader", "read"), await made(served, "worker", "operate")
        load = {"event_name": "system.mod.load", "payload": {"mod_path": write_mod("evil")}}
        kick = {"event_name": "system.kick_agent", "payload": {"target_agent_id": "bob"}}
        for token, method, path, body in (
            (read, "POST", "/mods/echo/restart", None),
            (read, "POST", "/events", {"event_name": "test.echo"}),
            (read, "GET", "/tokens", None),
            (operate, "POST", "/mods", {"path": "./evil"}),
            (operate, "POST", "/events", load),
            (operate, "POST", "/events/batch", {"events": [{"event_name": "test.echo"}, kick]}),
            (operate, "POST", "/mods/echo/reload", {"path": "./evil"}),
            (operate, "POST", "/mods/echo/reload", {"config": {"a": 1}}),
            (operate, "POST", "/tokens", {"name": "more", "scope": "admin"}),
            (operate, "POST", "/backup", {"path": "/tmp/x"}),
            (operate, "POST", "/shutdown", None),
        ):
            answer = await asked(served, token, method, path, json=body)
            assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), (path, answer.text)
        assert (await asked(served, operate, "POST", "/events", json={"event_name": "test.echo"})).status_code == 200
        assert list(network.get_loaded_mods()) == ["echo"]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"name": "a b", "scope": "read"}, "name: expected up to 64 letters"),
        ({"name": "ci", "scope": "all"}, "scope: expected one of read, operate, admin, got 'all'"),
        ({"name": "ci"}, "scope: missing"),
        ({"scope": "read"}, "name: missing"),
        ({"name": "ci", "scope": "read", "expires": -1}, "expires: expected a number"),
        ({"name": "ci", "scope": "read", "lasts": 1}, "lasts"),
    ],
)
async def test_a_token_that_cannot_be_made_is_refused(make_network: Make, body: dict[str, Any], wrong: str) -> None:
    async with serving(make_network()) as served:
        answer = await served.admin.post(f"{V1}/tokens", json=body)
        assert answer.status_code == 400
        assert wrong in answer.json()["message"]


async def test_a_name_is_given_once(make_network: Make) -> None:
    async with serving(make_network()) as served:
        await made(served, "ci", "read")
        answer = await served.admin.post(f"{V1}/tokens", json={"name": "ci", "scope": "admin"})
        assert (answer.status_code, answer.json()["error"]) == (409, "conflict")


async def test_of_two_that_ask_for_one_name_at_once_one_gets_it(make_network: Make) -> None:
    network = make_network()
    async with serving(network) as served:
        body = {"name": "ci", "scope": "read"}
        answers = await asyncio.gather(*(served.admin.post(f"{V1}/tokens", json=body) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        [token] = [answer.json()["data"]["token"] for answer in answers if answer.status_code == 200]
        assert network.tokens_in_force().find(token.encode()) is not None
        both = (served.admin.delete(f"{V1}/tokens/ci"), served.admin.post(f"{V1}/tokens", json=body))
        assert [answer.status_code for answer in await asyncio.gather(*both)] == [200, 200]
        assert [each["name"] for each in network.list_tokens()] == ["ci"]


@pytest.mark.parametrize(
    ("path", "first"), [("/mods/talker/log?follow=true", "said before"), ("/events?pattern=test.*", "listening")]
)
async def test_a_stream_ends_with_its_token(
    make_network: Make, write_mod: Callable[..., str], path: str, first: str
) -> None:
    network = make_network({"port": 0}, mods=[write_mod("talker", TALKER)])
    async with serving(network) as served:
        revoked = await made(served, "revoked", "read", payloads=True)
        other = await made(served, "other", "read", payloads=True)
        await network.process_event(Event("test.say", payload={"text": "said before"}))
        await until(lambda: "said before" in str(network.mod_log("talker", 10)))

        async def read(token: str, seen: list[str]) -> None:
            headers = {"Authorization": f"Bearer {token}"}
            async with served.agents.stream("GET", f"{V1}{path}", headers=headers) as answer:
                async for line in answer.aiter_lines():
                    seen.append(line)

        mine: list[str] = []
        others: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read(revoked, mine))
            still_reading = tasks.create_task(read(other, others))
            await until(lambda: first in str(mine) and first in str(others))
            await network.revoke_token("revoked")
            await reading
            await network.process_event(Event("test.say", payload={"text": "said after"}))
            await until(lambda: "said after" in str(others))
            still_reading.cancel()
        assert "said after" not in str(mine)


async def test_a_stream_ends_when_its_token_expires(make_network: Make) -> None:
    network = make_network({"port": 0})
    async with serving(network) as served:
        token = await made(served, "short", "read", expires=0.3)
        async with served.agents.stream("GET", f"{V1}/events", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert [line async for line in answer.aiter_lines()] == ['{"listening":true}']


async def test_commands_over_each_way_are_in_the_audit_with_their_senders(
    make_network: Make, write_mod: Callable[..., str]
) -> None:
    network = make_network({"port": 0}, mods=[write_mod("echo")])
    async with serving(network) as served:
        token = await made(served, "ci", "admin")
        await asked(served, token, "POST", "/mods/echo/restart")
        await served.admin.post(f"{V1}/mods/echo/restart", headers=JSON)
        event = {"event_name": "system.mod.unload", "payload": {"mod_id": "echo"}}
        await asked(served, token, "POST", "/events", json=event)
    await network.shutdown()
    lines = (network.state_dir.root / "audit" / "audit.jsonl").read_text().splitlines()
    told = [(each["who"].partition(" ")[0], each["from"], each["what"]) for each in map(json.loads, lines)
            if each["outcome"] == "ok" and each["who"] != "program"]  # fmt: skip
    assert told == [
        ("socket:uid", None, "token.create"),
        ("operator:ci", "127.0.0.1", "operator.login"),
        ("operator:ci", "127.0.0.1", "mod.restart"),
        ("socket:uid", None, "mod.restart"),
        ("operator:ci", "127.0.0.1", "mod.unload"),
    ]
