"""The project mod, through its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.mods.workspace.project import ProjectMod
from modvisor.worker.testing import ModHarness

pytestmark = pytest.mark.anyio
Project = ModHarness[ProjectMod]


@pytest.fixture
async def project(tmp_path: Path, clock: Any) -> AsyncIterator[Project]:
    harness = ModHarness(ProjectMod, storage_path=tmp_path, config={"max_artifact": 1000, "keep_versions": 3})
    harness.mod.clock = clock
    async with harness:
        yield harness


async def ok(project: Project, name: str, source: str = "agent:alice", /, **payload: Any) -> dict[str, Any]:
    answer = await project.ask(f"project.{name}", payload, source_id=source)
    assert answer.success, answer
    assert answer.message
    return answer.data


async def fails(
    project: Project, name: str, code: str, field: str | None, source: str = "alice", /, **payload: Any
) -> Any:
    answer = await project.ask(f"project.{name}", payload, source_id=source)
    assert (answer.success, answer.error) == (False, code), answer
    assert answer.data.get("field") == field
    return answer


async def test_a_project_from_start_to_archive(project: Project, clock: Any) -> None:
    created = await ok(project, "create", name="Rocket Öl 2", description="d", goals=["fly", "land"])
    assert (created["project_id"], created["status"], created["role"]) == ("rocket-ol-2", "planned", "owner")
    assert created["counts"] == {"members": 1, "artifacts": 0, "commits": 0, "goals": 2, "open_goals": 2}
    assert (await ok(project, "create", name="Rocket Öl 2"))["project_id"] == "rocket-ol-2-2"
    assert (await ok(project, "create", name="火箭"))["project_id"] == "project"
    key = {"project_id": "rocket-ol-2"}
    clock.advance(9)
    assert (await ok(project, "status.set", **key, status="active", note="go"))["status"] == "active"
    answer = await fails(project, "status.set", "conflict", "status", **key, status="planned")
    assert answer.data["legal"] == ["paused", "done", "archived"]
    updated = await ok(project, "update", **key, name="Rocket", private=True)
    assert (updated["name"], updated["private"], updated["updated_at"]) == ("Rocket", True, clock.now)
    assert (await ok(project, "archive", **key))["status"] == "archived"
    answer = await fails(project, "goal.add", "conflict", "project_id", **key, text="more")
    assert "archived" in answer.message
    await ok(project, "status.set", **key, status="active")
    await ok(project, "goal.add", **key, text="more")
    names = [event.event_name.rpartition(".")[2] for event in project.sent]
    assert names == ["created"] * 3 + ["status_set", "updated", "status_set", "status_set", "goal_added"]


async def test_members_and_owners(project: Project) -> None:
    key = {"project_id": "p"}
    await ok(project, "create", name="P", **key)
    for name, payload in {
        "update": {"name": "x"}, "goal.add": {"text": "x"}, "artifact.put": {"name": "a", "content": "x"},
        "member.add": {"agent_id": "eve"}, "member.remove": {"agent_id": "alice"}, "archive": {},
        "commit.add": {"sha": "1", "author": "a", "timestamp": 0},
    }.items():  # fmt: skip
        await fails(project, name, "forbidden", None, "bob", **key, **payload)
    await ok(project, "member.add", **key, agent_id="agent:bob")
    await ok(project, "goal.add", "bob", **key, text="mine")
    await fails(project, "member.add", "forbidden", None, "bob", **key, agent_id="eve")
    await fails(project, "update", "forbidden", None, "bob", **key, private=True)
    await fails(project, "member.remove", "conflict", "agent_id", **key, agent_id="alice")
    await fails(project, "member.add", "conflict", "agent_id", **key, agent_id="alice", role="member")
    await fails(project, "member.remove", "not_found", "agent_id", **key, agent_id="eve")
    assert (await ok(project, "member.add", **key, agent_id="bob", role="owner"))["changed"]
    assert not (await ok(project, "member.add", **key, agent_id="bob", role="owner"))["changed"]
    await ok(project, "member.remove", **key, agent_id="alice")
    members = (await ok(project, "member.list", **key))["members"]
    assert [(member["agent_id"], member["role"]) for member in members] == [("bob", "owner")]
    await ok(project, "member.add", "bob", **key, agent_id="carol")
    await ok(project, "member.remove", "carol", **key, agent_id="carol")


async def test_a_private_project_does_not_exist_for_others(project: Project) -> None:
    key = {"project_id": "secret"}
    await ok(project, "create", name="S", private=True, **key)
    await ok(project, "member.add", **key, agent_id="bob")
    for name, payload in {
        "get": {}, "update": {"name": "x"}, "goal.list": {}, "member.list": {}, "artifact.list": {}, "commit.list": {},
        "activity.list": {}, "artifact.get": {"name": "a"}, "status.set": {"status": "active"},
    }.items():  # fmt: skip
        answer = await fails(project, name, "not_found", "project_id", "eve", **key, **payload)
        assert answer.message == "project_id: there is no project 'secret'"
    assert (await ok(project, "list", "eve"))["projects"] == []
    assert len((await ok(project, "list", "bob"))["projects"]) == 1
    assert {event.visibility for event in project.sent} == {"restricted"}
    assert project.sent[-1].allowed_agents == ["alice", "bob"]
    await ok(project, "member.remove", "bob", **key, agent_id="bob")
    assert project.sent[-1].allowed_agents == ["alice"]


async def test_lists_of_projects(project: Project) -> None:
    await ok(project, "create", name="A")
    await ok(project, "create", "bob", name="B")
    await ok(project, "status.set", "bob", project_id="b", status="active")
    assert [p["project_id"] for p in (await ok(project, "list"))["projects"]] == ["a", "b"]
    assert [p["project_id"] for p in (await ok(project, "list", mine=True))["projects"]] == ["a"]
    assert [p["project_id"] for p in (await ok(project, "list", status="active"))["projects"]] == ["b"]


async def test_goals(project: Project) -> None:
    key = {"project_id": "p"}
    await ok(project, "create", name="P", goals=["one", "two"])
    await ok(project, "create", name="Q", goals=["other"])
    goals = (await ok(project, "goal.list", **key))["goals"]
    assert [goal["text"] for goal in goals] == ["one", "two"]
    first = goals[0]["goal_id"]
    assert (await ok(project, "goal.update", **key, goal_id=first, status="done"))["text"] == "one"
    assert [g["text"] for g in (await ok(project, "goal.list", **key, status="open"))["goals"]] == ["two"]
    assert (await ok(project, "get", **key))["counts"]["open_goals"] == 1
    await fails(project, "goal.update", "not_found", "goal_id", project_id="q", goal_id=first, status="done")
    await fails(project, "goal.update", "bad_input", "status", **key, goal_id=first)


@pytest.mark.parametrize("content", ["text 🚀", "", b"\x00\xff", {"a": [1, 2.5, None, True, "ü"]}, [], 7, False])
async def test_an_artifact_comes_back_as_it_was(project: Project, content: Any) -> None:
    await ok(project, "create", name="P")
    put = await ok(project, "artifact.put", project_id="p", name="a/b.txt", kind="note", content=content)
    got = await ok(project, "artifact.get", project_id="p", name="a/b.txt")
    assert got["content"] == content
    assert type(got["content"]) is type(content)
    assert (got["version"], got["kind"], got["author"], got["size"]) == (1, "note", "alice", put["size"])


async def test_versions_of_an_artifact(project: Project) -> None:
    await ok(project, "create", name="P")
    key = {"project_id": "p", "name": "a"}
    for number in range(1, 6):
        base = number - 1
        assert (await ok(project, "artifact.put", **key, content=f"v{number}", base_version=base))["version"] == number
    answer = await fails(project, "artifact.put", "conflict", "base_version", **key, content="x", base_version=4)
    assert answer.data["version"] == 5
    assert (await ok(project, "artifact.get", **key, version=4))["content"] == "v4"
    answer = await fails(project, "artifact.get", "not_found", "version", **key, version=2)
    assert answer.data["versions"] == [3, 4, 5]
    await ok(project, "artifact.delete", **key)
    for name in ("get", "delete"):
        await fails(project, f"artifact.{name}", "not_found", "name", **key)
    assert (await ok(project, "artifact.list", project_id="p"))["artifacts"] == []
    assert (await ok(project, "artifact.put", **key, content="again", base_version=0))["version"] == 6
    await fails(project, "artifact.get", "not_found", "version", **key, version=5)
    (only,) = (await ok(project, "artifact.list", project_id="p"))["artifacts"]
    assert (only["version"], "content" in only) == (6, False)


async def test_what_an_artifact_cannot_hold(project: Project) -> None:
    await ok(project, "create", name="P")
    key = {"project_id": "p", "name": "a"}
    answer = await fails(project, "artifact.put", "too_large", "content", **key, content="ü" * 501)
    assert answer.message == "content: expected at most 1000 bytes, got 1002"
    for bad in ({1: 2}, [b"x"], {"a": {"b": float("nan")}}):
        answer = await fails(project, "artifact.put", "bad_input", "content", **key, content=bad)
    assert answer.message.startswith("content['a']['b']: expected text, bytes or JSON data, got float")


async def test_commits_are_added_once(project: Project, clock: Any) -> None:
    key = {"project_id": "p"}
    await ok(project, "create", name="P")
    commit = {"sha": "abc", "author": "Ann", "timestamp": 1.5e9, "message": "Fix\n\nit", "files": ["a.py", "b.py"]}
    assert await ok(project, "commit.add", **key, **commit) == {"sha": "abc", "new": True}
    sent = len(project.sent)
    assert await ok(project, "commit.add", **key, **{**commit, "message": "other"}) == {"sha": "abc", "new": False}
    assert len(project.sent) == sent
    (got,) = (await ok(project, "commit.list", **key))["commits"]
    assert {name: got[name] for name in commit} == commit
    assert [entry["action"] for entry in (await ok(project, "activity.list", **key))["activity"]] == [
        "commit_added",
        "created",
    ]
    await fails(project, "commit.add", "not_found", "project_id", project_id="nope", **commit)
    await fails(project, "commit.add", "bad_input", "timestamp", **key, **{**commit, "timestamp": 1.5e12})


async def test_a_page_of_large_commits_ends_early(project: Project) -> None:
    key = {"project_id": "p"}
    await ok(project, "create", name="P")
    files = [f"{number:04}" + "x" * 900 for number in range(2_000)]
    for number in range(5):
        await ok(project, "commit.add", **key, sha=str(number), author="a", timestamp=0, files=files)
    shas, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        data = await ok(project, "commit.list", **key, cursor=cursor)
        shas += [commit["sha"] for commit in data["commits"]]
        cursor, pages = data["next"], pages + 1
    assert (shas, pages) == (["4", "3", "2", "1", "0"], 3)


@pytest.mark.parametrize("name", ["list", "member.list", "goal.list", "artifact.list", "commit.list", "activity.list"])
async def test_paging_to_the_end_finds_everything_once(project: Project, name: str) -> None:
    for number in range(12):
        await ok(project, "create", name=f"P {number}")
    key = {"project_id": "p-0"}
    for number in range(12):
        await ok(project, "member.add", **key, agent_id=f"a{number}")
        await ok(project, "goal.add", **key, text="g")
        await ok(project, "artifact.put", **key, name=f"ä{number}", content="")
        await ok(project, "commit.add", **key, sha=str(number), author="a", timestamp=number)
    expected = {"member.list": 13, "activity.list": 1 + 4 * 12}.get(name, 12)
    seen: list[Any] = []
    cursor, more = None, True
    while more:
        data = await ok(project, name, limit=5, cursor=cursor, **({} if name == "list" else key))
        (rows,) = [value for value in data.values() if isinstance(value, list)]
        assert len(rows) <= 5
        seen += [next(row[field] for field in IDS if field in row) for row in rows]
        cursor, more = data["next"], data["has_more"]
    assert len(seen) == len(set(seen)) == expected


IDS = ("agent_id", "goal_id", "id", "name", "project_id")

VALID: dict[str, dict[str, Any]] = {
    "create": {"name": "New"},
    "get": {},
    "list": {},
    "update": {"name": "x"},
    "status.set": {"status": "active"},
    "archive": {},
    "member.add": {"agent_id": "bob"},
    "member.remove": {"agent_id": "alice"},
    "member.list": {},
    "goal.add": {"text": "x"},
    "goal.update": {"goal_id": 1, "status": "done"},
    "goal.list": {},
    "artifact.put": {"name": "a", "content": "x"},
    "artifact.get": {"name": "a"},
    "artifact.list": {},
    "artifact.delete": {"name": "a"},
    "commit.add": {"sha": "a", "author": "b", "timestamp": 0},
    "commit.list": {},
    "activity.list": {},
}


@pytest.mark.parametrize("name", sorted(VALID))
async def test_bad_input_of_every_event(project: Project, name: str) -> None:
    payload = dict(VALID[name])
    if name not in ("create", "list"):
        payload["project_id"] = "p"
        await fails(project, name, "not_found", "project_id", **payload)
    await fails(project, name, "bad_input", "unknown", **payload, unknown=1)
    for field in payload:
        if (name, field) not in {("update", "name"), ("goal.update", "status")}:
            await fails(project, name, "bad_input", field, **{key: payload[key] for key in payload if key != field})
        if field != "content":
            for bad in ([], {"a": 1}, "\0", "x" * 100_000, -1e300):
                await fails(project, name, "bad_input", field, **{**payload, field: bad})
    if "project_id" in payload:
        for bad in ("A", "a b", "../x", "x" * 65):
            await fails(project, name, "bad_input", "project_id", **{**payload, "project_id": bad})
    if name.endswith("list"):
        await fails(project, name, "bad_input", "limit", **payload, limit=201)
        await fails(project, name, "bad_input", "cursor", **payload, cursor=[])
    assert project.sent == []


async def test_a_taken_id_is_a_conflict(project: Project) -> None:
    await ok(project, "create", name="x", project_id="mine")
    await fails(project, "create", "conflict", "project_id", name="x", project_id="mine")
    await fails(project, "update", "bad_input", "name", project_id="mine")


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    async with ModHarness(ProjectMod, storage_path=tmp_path) as project:
        await ok(project, "create", name="P 🚀", goals=["größer"])
        await ok(project, "artifact.put", project_id="p", name="日本", content=b"\xff")
        await ok(project, "commit.add", project_id="p", sha="1", author="ä", timestamp=-5)
    async with ModHarness(ProjectMod, storage_path=tmp_path) as project:
        got = await ok(project, "get", project_id="p")
        assert (got["name"], got["role"]) == ("P 🚀", "owner")
        assert (await ok(project, "goal.list", project_id="p"))["goals"][0]["text"] == "größer"
        assert (await ok(project, "artifact.get", project_id="p", name="日本"))["content"] == b"\xff"
        assert not (await ok(project, "commit.add", project_id="p", sha="1", author="ä", timestamp=-5))["new"]
