"""Dead letters and copies of the journal over the operator's API, with a mod that really dies of events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.journal.records import DeadLetter
from tests.conftest import until
from tests.http.serving import Served, serving, shared_network

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
Write = Callable[..., str]

FRAGILE = """
    import os

    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Fragile(BaseMod):
        @mod_event_handler("work.do")
        async def do(self, event):
            if event.payload.get("poison"):
                os._exit(3)
            return EventResponse(True, "done", data={"n": event.payload.get("n")})
"""
FAST = {"restart": {"first_delay": 0.01, "max_delay": 0.02, "max_restarts": 100}, "max_attempts": 1}


@pytest.fixture
async def served(make_network: Make, write_mod: Write) -> AsyncIterator[Served]:
    """With a mod ``work`` that dies of events whose payload says ``poison``."""
    mods = [{"path": write_mod("fragile", FRAGILE), "id": "work", **FAST}]
    async with serving(make_network({"port": 0}, mods=mods)) as served:
        yield served


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """With two letters of a mod that is not loaded; one for all tests that are refused."""
    async with shared_network(tmp_path_factory.mktemp("letters"), {}) as served:
        await bury(served, 2, "work")
        yield served


async def died_of(served: Served, payload: dict[str, Any]) -> int:
    """Send an event that the mod dies of; the number of its letter."""
    event = Event("work.do", "agent:ann", payload={"poison": True, **payload})
    response = await served.network.process_event(event)
    assert response.error == "dead_lettered", response
    await until(lambda: served.network.get_loaded_mods()["work"]["state"] == "ready")
    return response.data["dead_letter"]


async def bury(served: Served, count: int, mod_id: str = "gone", at: float | None = None) -> list[int]:
    """Letters of a mod that is not loaded."""
    assert served.network._parts is not None
    journal = served.network._parts.journal
    event = Event("gone.by.now", "agent:ann", payload={"x": "y" * 1000}).to_dict()
    letter = DeadLetter(None, mod_id, event, 2, "dead_lettered", "it ended", None, at or time.time())
    return list(await asyncio.gather(*(journal.bury(letter) for _ in range(count))))


async def listed(served: Served, **query: Any) -> dict[str, Any]:
    response = await served.admin.get("/admin/v1/dead-letters", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_letter_is_listed_by_its_head_and_shown_whole(served: Served) -> None:
    letter_id = await died_of(served, {"n": 1, "raw": b"hi"})
    page = await listed(served)
    assert page["next"] is None
    (head,) = page["dead_letters"]
    assert (head["letter_id"], head["mod_id"], head["attempts"], head["code"]) == (
        letter_id, "work", 1, "dead_lettered",
    )  # fmt: skip
    assert (head["event"]["event_name"], head["event"]["source_id"]) == ("work.do", "agent:ann")
    assert "exit code 3" in head["reason"]
    assert head["size"] > 100
    assert "payload" not in head["event"]
    assert "report" not in head
    whole = (await served.admin.get(f"/admin/v1/dead-letters/{letter_id}")).json()
    assert whole["event"]["payload"] == {"poison": True, "n": 1, "raw": {"$base64": "aGk="}}
    assert (whole["report"]["cause"], whole["report"]["in_flight"][0]["attempt"]) == ("exited", 1)


async def test_letters_come_page_by_page_newest_first(served: Served) -> None:
    ids = await bury(served, 25)
    other = await bury(served, 1, "other")
    found: list[int] = []
    before: int | None = None
    sizes = []
    while True:
        page = await listed(served, mod="gone", limit=10, **({} if before is None else {"before": before}))
        found += [head["letter_id"] for head in page["dead_letters"]]
        sizes.append(len(page["dead_letters"]))
        if (before := page["next"]) is None:
            break
    assert found == sorted(ids, reverse=True)
    assert sizes == [10, 10, 5]
    assert (await listed(served, limit=1))["dead_letters"][0]["letter_id"] == other[0]
    assert (await listed(served, limit=26))["next"] is None


async def test_a_mod_is_named_by_its_id_or_its_path_loaded_or_not(served: Served) -> None:
    letter_id = await died_of(served, {})
    await bury(served, 2, "gone")
    await bury(served, 3, "gone.v2")

    async def count(mod: str) -> int:
        return len((await listed(served, mod=mod))["dead_letters"])

    assert [head["letter_id"] for head in (await listed(served, mod="./fragile"))["dead_letters"]] == [letter_id]
    assert [await count(mod) for mod in ("work", "gone", "./gone", "pkg.mods.gone", "gone.v2", "nobody")] == [
        1, 2, 2, 2, 3, 0,
    ]  # fmt: skip


async def test_a_replay_answers_with_what_became_of_the_event(served: Served, write_mod: Write) -> None:
    letter_id = await died_of(served, {"n": 7})
    again = await served.admin.post(f"/admin/v1/dead-letters/{letter_id}/replay")
    assert again.status_code == 200
    assert (again.json()["success"], again.json()["error"]) == (False, "dead_lettered")
    newer = again.json()["data"]["dead_letter"]
    assert newer > letter_id
    write_mod("fragile", FRAGILE.replace("os._exit(3)", "pass"))
    assert (await served.network.reload_mod("work")).success
    mended = (await served.admin.post(f"/admin/v1/dead-letters/{newer}/replay")).json()
    assert mended == {
        "success": True, "message": "done", "data": {"n": 7}, "letter_id": newer, "event_name": "work.do",
    }  # fmt: skip
    assert (await listed(served))["dead_letters"] == []


async def test_a_letter_of_a_mod_that_is_not_loaded_stays(served: Served) -> None:
    [letter_id] = await bury(served, 1)
    answer = await served.admin.post(f"/admin/v1/dead-letters/{letter_id}/replay")
    assert (answer.status_code, answer.json()["error"]) == (200, "no_such_mod")
    assert "load it first" in answer.json()["message"]
    assert len((await listed(served))["dead_letters"]) == 1


async def test_letters_are_removed_one_by_one_and_by_what_is_given(served: Served) -> None:
    first, *_ = await bury(served, 3)
    await bury(served, 2, "other")
    await bury(served, 2, "other", at=time.time() - 7200)

    async def remove(path: str = "", **query: Any) -> int:
        response = await served.admin.delete(f"/admin/v1/dead-letters{path}", params=query)
        assert response.status_code == 200, response.text
        return response.json()["data"]["removed"]

    assert await remove(f"/{first}") == 1
    assert await remove(mod="other", older_than=3600) == 2
    assert await remove(older_than=3600) == 0
    assert await remove(mod="./gone") == 2
    assert await remove(all=1) == 2
    assert await remove(all=1) == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "error", "text"),
    [
        ("DELETE", "", 400, "bad_input", "say which dead letters to remove: mod=MOD"),
        ("DELETE", "?all=0", 400, "bad_input", "say which dead letters to remove"),
        ("DELETE", "?all=1&mod=work", 400, "bad_input", "all: means every dead letter"),
        ("DELETE", "?mod=work&older_then=5", 400, "bad_input", "unknown keys 'older_then'; known are all, mod, older_than"),
        ("DELETE", "?older_than=0", 400, "bad_input", "older_than: expected a number from 0.001"),
        ("DELETE", "?mod=No Mod", 400, "invalid_event", "mod id 'No Mod'"),
        ("DELETE", "/999", 404, "not_found", "there is no dead letter 999"),
        ("GET", "/999", 404, "not_found", "there is no dead letter 999"),
        ("GET", "/seven", 400, "bad_input", "dead letter 'seven': expected its number"),
        ("GET", "?limit=0", 400, "bad_input", "limit: expected a whole number from 1 to 1000"),
        ("GET", "?before=x", 400, "bad_input", "before: expected a whole number"),
        ("GET", "?mods=work", 400, "bad_input", "unknown keys 'mods'"),
        ("POST", "/999/replay", 404, "not_found", "there is no dead letter 999"),
        ("POST", "/-1/replay", 400, "bad_input", "dead letter '-1': expected its number"),
    ],
)  # fmt: skip
async def test_a_request_that_makes_no_sense(
    asked: Served, method: str, path: str, status: int, error: str, text: str
) -> None:
    response = await asked.admin.request(method, f"/admin/v1/dead-letters{path}")
    assert (response.status_code, response.json()["error"]) == (status, error), response.text
    assert text in response.json()["message"]
    assert len((await listed(asked))["dead_letters"]) == 2


# -- copies of the journal


async def test_a_copy_of_the_journal(served: Served, make_network: Make, tmp_path: Path) -> None:
    secret = await served.register("alice")
    target = tmp_path / "copy.db"
    response = await served.admin.post("/admin/v1/backup", json={"path": str(target)})
    assert response.json() == {
        "success": True,
        "message": f"the journal was copied to {target}",
        "data": {"path": str(target), "bytes": target.stat().st_size},
    }
    other = make_network({"storage": "other"})
    (tmp_path / "other").mkdir()
    target.rename(tmp_path / "other" / "network.db")
    await other.initialize()
    assert other.authenticate("alice", secret)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "path: expected an absolute path on the machine of the network, got nothing"),
        ({"path": "copy.db"}, "got 'copy.db'"),
        ({"path": "/tmp/\0"}, "path: expected an absolute path"),
        ({"path": 7}, "path: expected text"),
        ({"file": "/tmp/copy.db"}, "unknown keys 'file'"),
        ({"path": "/nowhere/copy.db"}, "/nowhere/copy.db cannot be written: No such file or directory"),
        ({"path": "STATE/network.db"}, "is the journal itself; name another file"),
        ({"path": "STATE/state.lock"}, "is there and is no copy of a journal"),
    ],
)
async def test_a_copy_that_cannot_be_written(asked: Served, body: dict[str, Any], text: str) -> None:
    if isinstance(body.get("path"), str):
        body = {"path": body["path"].replace("STATE", str(asked.network.config.storage))}
    response = await asked.admin.post("/admin/v1/backup", json=body)
    assert (response.status_code, response.json()["error"]) == (400, "bad_input"), response.text
    assert text in response.json()["message"]
