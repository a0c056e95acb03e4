"""What the operator sees of agents, channels, groups, the audit and one mod, and what a command would do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.http.serving import TALKER, Served, shared_network

pytestmark = pytest.mark.anyio

V1 = "/admin/v1"
PASSWORD = "0" * 64
GROUPS = {"sensors": {"permissions": ["channels"], "password_hash": PASSWORD, "send": ["test.*"]}}


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("overview")
    async with shared_network(folder, {"talker": TALKER}, agent_groups=GROUPS) as served:
        yield served


async def got(served: Served, path: str) -> Any:
    answer = await served.admin.get(f"{V1}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_agents_are_listed_with_what_waits_for_them(served: Served) -> None:
    secrets = {name: await served.register(name) for name in ("bot-1", "bot-2", "alice")}
    sent = await served.send("alice", secrets["alice"], "agent.message", "bot-1", payload={"text": "hi"})
    assert sent["success"], sent
    found = await got(served, "/agents?prefix=bot-&limit=1")
    assert found["total"] == 2
    [first] = found["agents"]
    assert (first["agent_id"], first["inbox"]["events"], first["connected"], first["guest"]) == ("bot-1", 1, None, True)
    assert first["inbox"]["bytes"] > 0
    alone = await got(served, "/agents/agent:alice")
    assert (alone["agent_id"], alone["rights"]["send"]) == ("alice", "*")
    assert not [key for key in alone if "secret" in key or "hash" in key]
    missing = await served.admin.get(f"{V1}/agents/nobody")
    assert (missing.status_code, missing.json()["error"]) == (404, "no_such_agent")


async def test_an_agent_that_is_kicked_is_gone_and_its_end_stands_in_the_audit(served: Served) -> None:
    await served.register("mallory")
    answer = (await served.admin.post(f"{V1}/agents/mallory/kick")).json()
    assert answer["success"], answer
    assert answer["data"]["kicked_by"].startswith("socket:uid ")
    assert (await served.admin.get(f"{V1}/agents/mallory")).status_code == 404
    assert (await served.admin.post(f"{V1}/agents/mallory/kick")).status_code == 404
    found = await got(served, "/audit?what=agent.kick&limit=2")
    assert [each["on"] for each in found["records"]] == ["mallory", "mallory"]
    newest, older = found["records"]
    assert newest["n"] > older["n"]
    assert not {"mac", "prev"} & newest.keys()
    page = await got(served, f"/audit?limit=1&before={newest['n']}")
    assert page["records"][0]["n"] < newest["n"]
    assert page["next"] == page["records"][0]["n"]


async def test_channels_and_groups_are_shown_without_their_passwords(served: Served) -> None:
    secret = await served.register("alice")
    await served.send("alice", secret, "system.create_channel", payload={"channel": "general"})
    [channel] = (await got(served, "/channels"))["channels"]
    assert channel == {"channel": "general", "members": ["alice"], "private": False, "created_by": None}
    [group] = (await got(served, "/groups"))["groups"]
    assert (group["group"], group["agents"], group["permissions"]) == ("sensors", 0, ["channels"])
    assert (group["has_password"], group["send"]) == (True, ["test.*"])
    assert PASSWORD not in str(group)


async def test_one_mod_has_its_config_without_secrets_and_what_it_keeps(served: Served) -> None:
    loaded = await served.network.load_mod("./talker", {"api_key": "k-12345678", "size": 3}, mod_id="talker@2")
    assert loaded.success, loaded
    try:
        mod = await got(served, "/mods/talker@2")
        assert (mod["mod_id"], mod["state"], mod["config"]) == ("talker@2", "ready", {"api_key": "***", "size": 3})
        assert (mod["config_schema"], mod["checkpoint"]) == (None, None)
        assert [each["mod_id"] for each in mod["versions"]] == ["talker", "talker@2"]
        assert mod["storage_bytes"] >= 0
        plan = await got(served, "/mods/talker@2/plan?do=promote")
        assert "talker stays loaded without events" in plan["text"]
        assert plan["affected"] == ["talker"]
    finally:
        await served.network.unload_mod("talker@2")
    assert (await served.admin.get(f"{V1}/mods/talker@2")).status_code == 404


@pytest.mark.parametrize(
    ("do", "says"),
    [
        ("unload", "Its process ends within 10 s. Its stored files and its log stay."),
        ("reload", "with the files as they are on disk now, beside the one that serves."),
        ("restart", "with the code that serves now, not with changed files"),
        ("swap", "The other mod takes its place in the load order"),
        ("rollback", "nothing to go back to"),
    ],
)
async def test_a_plan_says_what_a_command_would_do(served: Served, do: str, says: str) -> None:
    before = served.network.get_loaded_mods()
    assert says in (await got(served, f"/mods/talker/plan?do={do}"))["text"]
    assert served.network.get_loaded_mods() == before


async def test_a_plan_for_an_unknown_command_names_the_known_ones(served: Served) -> None:
    answer = await served.admin.get(f"{V1}/mods/talker/plan?do=explode")
    assert (answer.status_code, "unload, reload, swap" in answer.text) == (400, True)
