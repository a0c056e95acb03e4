"""The wiki mod, through its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import Refused
from modvisor.mods.workspace.wiki import WikiMod
from modvisor.worker.testing import ModHarness

pytestmark = pytest.mark.anyio
Wiki = ModHarness[WikiMod]


@pytest.fixture
async def wiki(tmp_path: Path, clock: Any) -> AsyncIterator[Wiki]:
    harness = ModHarness(WikiMod, storage_path=tmp_path)
    harness.mod.clock = clock
    async with harness:
        yield harness


async def ok(wiki: Wiki, name: str, source: str = "agent:alice", /, **payload: Any) -> dict[str, Any]:
    answer = await wiki.ask(f"wiki.{name}", payload, source_id=source)
    assert answer.success, answer
    assert answer.message
    return answer.data


async def fails(wiki: Wiki, name: str, code: str, field: str | None, source: str = "alice", /, **payload: Any) -> Any:
    answer = await wiki.ask(f"wiki.{name}", payload, source_id=source)
    assert (answer.success, answer.error) == (False, code), answer
    assert answer.data.get("field") == field
    return answer


async def test_a_page_and_its_revisions(wiki: Wiki, clock: Any) -> None:
    page = await ok(wiki, "page.create", path="Guide/Start", content="one", tags=["intro", "intro"])
    assert (page["title"], page["revision"], page["created_by"], page["tags"]) == ("Start", 1, "alice", ["intro"])
    assert "content" not in page
    clock.advance(5)
    edited = await ok(wiki, "page.edit", "bob", path="guide/start", content="two", summary="better", base_revision=1)
    assert (edited["revision"], edited["changed"], edited["path"]) == (2, True, "Guide/Start")
    same = await ok(wiki, "page.edit", path="guide/start", content="two")
    assert (same["revision"], same["changed"]) == (2, False)
    got = await ok(wiki, "page.get", path="GUIDE/START")
    assert (got["content"], got["updated_by"], got["updated_at"], got["tags"]) == ("two", "bob", clock.now, ["intro"])
    old = await ok(wiki, "page.get", path="guide/start", revision=1)
    assert (old["content"], old["author"], old["action"]) == ("one", "alice", "created")
    await ok(wiki, "page.revert", path="guide/start", revision=1)
    assert (await ok(wiki, "page.get", path="guide/start"))["content"] == "one"
    history = (await ok(wiki, "page.history", path="guide/start"))["revisions"]
    assert [(r["revision"], r["action"], r["summary"], r["size"]) for r in history] == [
        (3, "reverted", "reverted to revision 1", 3), (2, "edited", "better", 3), (1, "created", "", 3),
    ]  # fmt: skip


async def test_deletion_keeps_the_history_and_revert_restores(wiki: Wiki) -> None:
    await ok(wiki, "page.create", path="a", content="needle", tags=["t"])
    await ok(wiki, "page.delete", path="a", summary="old")
    gone = await fails(wiki, "page.get", "not_found", "path", path="a")
    assert "was deleted by alice" in gone.message
    for name in ("edit", "delete"):
        await fails(wiki, f"page.{name}", "not_found", "path", path="a", **({"content": "x"} if name == "edit" else {}))
    assert (await ok(wiki, "page.search", query="needle"))["pages"] == []
    assert (await ok(wiki, "page.list"))["pages"] == []
    assert (await ok(wiki, "page.list", tag="t"))["pages"] == []
    assert [page["path"] for page in (await ok(wiki, "page.list", deleted=True))["pages"]] == ["a"]
    await fails(wiki, "page.revert", "bad_input", "revision", path="a", revision=2)
    assert (await ok(wiki, "page.revert", path="a", revision=1))["revision"] == 3
    assert (await ok(wiki, "page.get", path="a"))["content"] == "needle"
    await ok(wiki, "page.delete", path="a")
    assert (await ok(wiki, "page.create", path="a", content="anew"))["revision"] == 5
    assert len((await ok(wiki, "page.history", path="a"))["revisions"]) == 5


async def test_conflicts_carry_the_current_revision(wiki: Wiki) -> None:
    await ok(wiki, "page.create", path="a", content="1")
    await ok(wiki, "page.edit", "bob", path="a", content="2")
    answer = await fails(wiki, "page.edit", "conflict", "base_revision", path="a", content="3", base_revision=1)
    assert (answer.data["revision"], answer.data["updated_by"]) == (2, "bob")
    await fails(wiki, "page.delete", "conflict", "base_revision", path="a", base_revision=1)
    answer = await fails(wiki, "page.create", "conflict", "path", path="A", content="x")
    assert answer.data["revision"] == 2
    assert (await ok(wiki, "page.get", path="a"))["content"] == "2"


async def test_changes_are_announced_and_reads_are_not(wiki: Wiki, clock: Any) -> None:
    await ok(wiki, "page.create", path="a", content="1")
    await ok(wiki, "page.edit", path="a", content="2")
    await ok(wiki, "page.edit", path="a", content="2")
    await ok(wiki, "page.get", path="a")
    await ok(wiki, "page.revert", path="a", revision=1)
    await ok(wiki, "page.delete", path="a", summary="done")
    assert [event.event_name.rpartition(".")[2] for event in wiki.sent] == ["created", "edited", "reverted", "deleted"]
    assert wiki.sent[-1].destination_id is None
    assert wiki.sent[-1].payload == {
        "path": "a", "title": "a", "revision": 4, "author": "alice", "at": clock.now, "summary": "done"
    }  # fmt: skip


async def test_announcements_go_where_the_config_says(tmp_path: Path) -> None:
    async with ModHarness(WikiMod, storage_path=tmp_path, config={"announce": "channel:news"}) as wiki:
        await ok(wiki, "page.create", path="a", content="1")
        assert wiki.sent[0].destination_id == "channel:news"


async def test_only_editors_edit_and_others_propose(tmp_path: Path) -> None:
    async with ModHarness(WikiMod, storage_path=tmp_path, config={"public": False, "editors": ["agent:eve"]}) as wiki:
        await ok(wiki, "page.create", "eve", path="a", content="1")
        for name, payload in {
            "page.create": {"path": "b", "content": ""}, "page.edit": {"path": "a", "content": "x"},
            "page.delete": {"path": "a"}, "page.revert": {"path": "a", "revision": 1},
        }.items():  # fmt: skip
            await fails(wiki, name, "forbidden", None, **payload)
        proposal = await ok(wiki, "proposal.create", path="a", content="2", rationale="newer")
        number = proposal["proposal_id"]
        await fails(wiki, "proposal.accept", "forbidden", None, proposal_id=number)
        await fails(wiki, "proposal.reject", "forbidden", None, "bob", proposal_id=number)
        accepted = await ok(wiki, "proposal.accept", "eve", proposal_id=number)
        assert accepted["page"]["updated_by"] == "alice"
        assert accepted["proposal"]["decided_by"] == "eve"
        assert (await ok(wiki, "page.history", path="a"))["revisions"][0]["summary"] == "newer"
        own = await ok(wiki, "proposal.create", path="a", content="3", rationale="oops")
        assert (await ok(wiki, "proposal.reject", proposal_id=own["proposal_id"]))["status"] == "rejected"


async def test_a_proposal_for_a_page_that_moved_on(wiki: Wiki) -> None:
    await ok(wiki, "page.create", path="a", content="1", tags=["keep"])
    first = (await ok(wiki, "proposal.create", path="a", content="2", rationale="r"))["proposal_id"]
    await ok(wiki, "page.edit", path="a", content="other")
    answer = await fails(wiki, "proposal.accept", "conflict", "proposal_id", proposal_id=first)
    assert (answer.data["revision"], answer.data["base_revision"]) == (2, 1)
    assert (await ok(wiki, "proposal.get", proposal_id=first))["status"] == "pending"
    assert (await ok(wiki, "proposal.accept", proposal_id=first, force=True))["page"]["revision"] == 3
    page = await ok(wiki, "page.get", path="a")
    assert (page["content"], page["tags"]) == ("2", ["keep"])
    for name in ("accept", "reject"):
        answer = await fails(wiki, f"proposal.{name}", "conflict", "proposal_id", proposal_id=first)
        assert answer.data["status"] == "accepted"
    new = (await ok(wiki, "proposal.create", path="b/c", content="new", rationale="r"))["proposal_id"]
    await ok(wiki, "proposal.accept", proposal_id=new)
    assert (await ok(wiki, "page.get", path="b/c"))["title"] == "c"
    rejected = (await ok(wiki, "proposal.create", path="a", content="3", rationale="r"))["proposal_id"]
    assert (await ok(wiki, "proposal.reject", proposal_id=rejected, reason="no"))["reason"] == "no"
    listed = (await ok(wiki, "proposal.list", status="accepted", path="A"))["proposals"]
    assert [proposal["proposal_id"] for proposal in listed] == [first]
    assert "content" not in listed[0]


async def test_search_ranks_and_shows_where(wiki: Wiki) -> None:
    await ok(wiki, "page.create", path="a", title="Rockets", content="How to build one. " * 20 + "The Engine is hot.")
    await ok(wiki, "page.create", path="b", title="Engine", content="Crème brûlée and rockets")
    await ok(wiki, "page.create", path="c", title="日本語", content="ロケット エンジン")
    found = (await ok(wiki, "page.search", query="engine"))["pages"]
    assert [page["path"] for page in found] == ["b", "a"]
    assert "**Engine** is hot" in found[1]["snippet"]
    for query, paths in {
        "creme": ["b"], "eng rock": [], "rockets eng": ["b", "a"], "ロケ": ["c"], "日本語": ["c"], "engine*": ["b", "a"],
        "NOT": [], 'hot" OR "build': [], "engine AND": ["b"], "title:engine": [],
    }.items():  # fmt: skip
        found = (await ok(wiki, "page.search", query=query))["pages"]
        assert sorted(page["path"] for page in found) == sorted(paths), query
    await fails(wiki, "page.search", "bad_input", "query", query="*** ---")
    await ok(wiki, "page.edit", path="b", content="nothing", title="Other")
    assert [page["path"] for page in (await ok(wiki, "page.search", query="engine"))["pages"]] == ["a"]


@pytest.mark.parametrize("name", ["page.list", "page.search", "page.history", "proposal.list"])
async def test_paging_to_the_end_finds_everything_once(wiki: Wiki, name: str) -> None:
    await ok(wiki, "page.create", path="p/0", content="word")
    for number in range(1, 23):
        await ok(wiki, "page.create", path=f"p/{number}", content="word")
        await ok(wiki, "page.edit", path="p/0", content=f"word {number}")
        await ok(wiki, "proposal.create", path="p/0", content="x", rationale="r")
    payload = {"page.search": {"query": "word"}, "page.history": {"path": "p/0"}}.get(name, {})
    seen: list[Any] = []
    cursor, pages = None, 0
    while True:
        data = await ok(wiki, name, limit=5, cursor=cursor, **payload)
        (rows,) = [value for value in data.values() if isinstance(value, list)]
        seen += [row.get("proposal_id") or (row.get("path"), row["revision"]) for row in rows]
        pages += 1
        cursor = data["next"]
        if not data["has_more"]:
            break
    assert cursor is None
    assert len(seen) == len(set(seen)) == (22 if name == "proposal.list" else 23)
    assert pages == 5


async def test_list_by_prefix_and_tag(wiki: Wiki) -> None:
    for path in ("guide", "Guide/Ä", "guide/b", "guidebook", "other"):
        await ok(wiki, "page.create", path=path, content="", tags=["x"] if path != "other" else [])
    assert [p["path"] for p in (await ok(wiki, "page.list", prefix="guide/"))["pages"]] == ["guide/b", "Guide/Ä"]
    assert len((await ok(wiki, "page.list", tag="x"))["pages"]) == 4
    assert len((await ok(wiki, "page.list", prefix="GUIDE", tag="x"))["pages"]) == 4
    await ok(wiki, "page.edit", path="guide", tags=[])
    assert len((await ok(wiki, "page.list", tag="x"))["pages"]) == 3


VALID: dict[str, dict[str, Any]] = {
    "page.create": {"path": "new", "content": "x"},
    "page.get": {"path": "a"},
    "page.edit": {"path": "a", "content": "x"},
    "page.revert": {"path": "a", "revision": 1},
    "page.delete": {"path": "a"},
    "page.history": {"path": "a"},
    "page.list": {},
    "page.search": {"query": "x"},
    "proposal.create": {"path": "a", "content": "x", "rationale": "r"},
    "proposal.list": {},
    "proposal.get": {"proposal_id": 1},
    "proposal.accept": {"proposal_id": 1},
    "proposal.reject": {"proposal_id": 1},
}


@pytest.mark.parametrize("name", sorted(VALID))
async def test_bad_input_of_every_event(wiki: Wiki, name: str) -> None:
    payload = VALID[name]
    await fails(wiki, name, "bad_input", "unknown", **payload, unknown=1)
    for field in payload:
        if (name, field) != ("page.edit", "content"):
            await fails(wiki, name, "bad_input", field, **{key: payload[key] for key in payload if key != field})
        for bad in ([], 5.5, {"a": 1}, "\0", "x\ud7ff" * 600_000):
            await fails(wiki, name, "bad_input", field, **{**payload, field: bad})
    if "path" in payload:
        for bad in ("../x", "/a", "a/", "a//b", ".hidden", "a b", "x" * 201, "-a"):
            await fails(wiki, name, "bad_input", "path", **{**payload, "path": bad})
        if name not in ("page.create", "proposal.create"):
            await fails(wiki, name, "not_found", "path", **{**payload, "path": "nope"})
    if "proposal_id" in payload:
        await fails(wiki, name, "not_found", "proposal_id", proposal_id=99)
    if name.endswith(("list", "search", "history")):
        for field, bad in {"limit": 0, "cursor": [], "tag" if name == "page.list" else "limit": 201}.items():
            await fails(wiki, name, "bad_input", field, **payload, **{field: bad})
    assert wiki.sent == []


async def test_other_refusals(wiki: Wiki) -> None:
    await ok(wiki, "page.create", path="a", content="")
    answer = await fails(wiki, "page.get", "not_found", "revision", path="a", revision=7)
    assert "revisions 1 to 1" in answer.message
    await fails(wiki, "page.edit", "bad_input", "content", path="a")
    answer = await fails(wiki, "page.edit", "bad_input", "sumary", path="a", content="x", sumary="y")
    assert "did you mean 'summary'" in answer.message


@pytest.mark.parametrize("config", [{"public": 1}, {"editors": "bob"}, {"announce": "nowhere"}, {"pubic": True}])
async def test_a_config_with_mistakes_keeps_the_wiki_from_starting(tmp_path: Path, config: dict[str, Any]) -> None:
    harness = ModHarness(WikiMod, storage_path=tmp_path, config=config)
    with pytest.raises(Refused, match=next(iter(config))):
        await harness.__aenter__()
    await harness.__aexit__()


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    text = "Größe 🚀 \u202e \U0010ffff\n" * 1000
    async with ModHarness(WikiMod, storage_path=tmp_path) as wiki:
        await ok(wiki, "page.create", path="Öl/日本", title="Öl 🚀", content=text)
        await ok(wiki, "proposal.create", path="Öl/日本", content="x", rationale="r")
    async with ModHarness(WikiMod, storage_path=tmp_path) as wiki:
        page = await ok(wiki, "page.get", path="o\u0308l/日本")
        assert (page["content"], page["title"], page["path"]) == (text, "Öl 🚀", "Öl/日本")
        assert len((await ok(wiki, "page.search", query="grösser"))["pages"]) == 0
        assert len((await ok(wiki, "page.search", query="große"))["pages"]) == 1
        assert len((await ok(wiki, "page.search", query="GRÖßE"))["pages"]) == 1
        assert len((await ok(wiki, "proposal.list"))["proposals"]) == 1
