"""The operator's API of versions, and the events that do the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import Event
from tests.http.serving import TALKER, Served, shared_network

pytestmark = pytest.mark.anyio

AUDIENCE = "/admin/v1/mods/talker@2/audience"


@asynccontextmanager
async def two_versions(folder: Path) -> AsyncIterator[Served]:
    """A network with a mod ``./talker`` in two versions, of which the second is for alice."""
    groups = {"beta": {}, "admins": {"permissions": ["mods"]}}
    async with shared_network(folder, {"talker": TALKER}, agent_groups=groups) as served:
        body = {"path": "./talker", "id": "talker@2", "audience": {"agents": ["alice"]}}
        loaded = await served.admin.post("/admin/v1/mods", json=body)
        assert loaded.status_code == 200, loaded.text
        yield served


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with two_versions(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """One for all tests that are refused."""
    async with two_versions(tmp_path_factory.mktemp("audience")) as served:
        yield served


async def shown(served: Served, mod: str = "talker") -> dict[str, Any]:
    """By version: in words, whose events it gets."""
    answer = await served.admin.get(f"/admin/v1/mods/{mod}/audience")
    assert answer.status_code == 200, answer.text
    return {version["mod_id"]: version["reaches"] for version in answer.json()["data"]["versions"]}


async def test_show_change_promote_and_back(served: Served) -> None:
    assert await shown(served) == {"talker": "everyone else", "talker@2": "agent alice"}
    assert await shown(served, "talker@2") == await shown(served, ".%2Ftalker") == await shown(served)
    changed = await served.admin.post(AUDIENCE, json={"percent": 10, "groups": ["beta"], "agents": []})
    assert (changed.status_code, changed.json()["success"]) == (200, True)
    assert changed.json()["data"]["mod_id"] == "talker@2"
    assert await shown(served) == {"talker": "everyone else", "talker@2": "10 % of the sources, group beta"}
    promoted = await served.admin.post("/admin/v1/mods/talker@2/promote")
    assert promoted.json()["data"]["default"] == "talker@2"
    assert await shown(served) == {"talker": "nobody", "talker@2": "everyone"}
    assert (await served.admin.post("/admin/v1/mods/talker/rollback")).status_code == 200
    assert await shown(served) == {"talker": "everyone else", "talker@2": "10 % of the sources, group beta"}
    assert (await served.admin.post(AUDIENCE, json={"everyone": True})).status_code == 200
    assert await shown(served) == {"talker": "everyone", "talker@2": "nobody"}
    stats = (await served.admin.get("/admin/v1/stats")).json()
    assert stats["families"]["talker"]["default"] == "talker"


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("nobody/audience", {"percent": 1}, 404, "no_such_mod"),
        ("nobody/promote", {}, 404, "no_such_mod"),
        ("nobody/rollback", {}, 404, "no_such_mod"),
        ("talker@2/audience", {}, 400, "bad_input"),
        ("talker@2/audience", {"percentage": 1}, 400, "bad_input"),
        ("talker@2/audience", {"everyone": 1}, 400, "bad_input"),
        ("talker@2/audience", {"percent": "10"}, 400, "bad_config"),
        ("talker@2/audience", {"groups": ["bta"]}, 400, "bad_config"),
        ("talker/rollback", {}, 409, "conflict"),
    ],
)
async def test_what_cannot_be(asked: Served, path: str, body: dict[str, Any], status: int, error: str) -> None:
    answer = await asked.admin.post(f"/admin/v1/mods/{path}", json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert await shown(asked) == {"talker": "everyone else", "talker@2": "agent alice"}


async def test_a_load_with_a_wrong_audience(asked: Served) -> None:
    body = {"path": "./talker", "id": "talker@3", "audience": {"percent": 200}}
    answer = await asked.admin.post("/admin/v1/mods", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"] == "./talker: audience.percent: expected a number from 0 to 100, got 200"


async def test_by_events_of_those_who_may(served: Served) -> None:
    secrets = {
        agent: (await served.network.register_agent(agent, group=group)).data["secret"]
        for agent, group in (("boss", "admins"), ("bob", None))
    }

    async def command(agent: str, name: str, **payload: Any) -> dict[str, Any]:
        return await served.send(agent, secrets[agent], f"system.mod.{name}", payload=payload)

    for name in ("audience", "promote", "rollback"):
        assert (await command("bob", name, mod_id="talker@2"))["error"] == "forbidden"
    assert (await command("boss", "audience", mod_id="talker@2", percent=10))["success"]
    found = await command("boss", "audience", mod_id="talker")
    reaches = {version["mod_id"]: version["reaches"] for version in found["data"]["versions"]}
    assert reaches == {"talker": "everyone else", "talker@2": "10 % of the sources, agent alice"}
    assert (await command("boss", "audience", mod_id="talker@2", everyone="yes"))["error"] == "bad_input"
    assert (await command("boss", "audience", mod_id="talker@2", everyone=True))["success"]
    assert (await command("boss", "promote", mod_id="talker@2"))["data"]["default"] == "talker@2"
    assert (await command("boss", "rollback", mod_id="talker"))["data"]["default"] == "talker"
    answer = await served.network.process_event(Event("test.ping", "alice", "mod:talker@2"))
    assert answer.success, "side by side, and no audience: each can be addressed"
