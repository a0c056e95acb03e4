"""How the answers of several nodes become one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.cluster.nodes import merged
from modvisor.supervisor.cluster.nodes.merged import Seen


def mod(mod_id: str, **more: Any) -> dict[str, Any]:
    return {"mod_id": mod_id, **more}


OWN = {
    "chat": mod("chat"),
    "wiki": mod("wiki", pid=None),
    "search": mod("search"),
    "away": mod("away", state="starting"),
}


def test_each_mod_is_shown_on_each_node_that_runs_it_in_load_order() -> None:
    seen = [
        Seen("a", {"chat": mod("chat", pid=1), "search": mod("search", pid=2)}),
        Seen("b", {"search": mod("search", pid=3), "wiki": mod("wiki", pid=4)}),
    ]
    rows = merged.mods(OWN, seen)
    assert [(row["mod_id"], row["node"], row.get("pid")) for row in rows] == [
        ("chat", "a", 1),
        ("wiki", "b", 4),
        ("search", "a", 2),
        ("search", "b", 3),
        ("away", None, None),
    ]
    assert list(merged.by_key(rows)) == ["chat", "wiki", "search/a", "search/b", "away"]


def test_a_node_that_does_not_answer_is_named() -> None:
    seen = [Seen("a", {}), Seen("b", error="no answer within 2 s")]
    assert merged.named(seen) == [
        {"node": "a", "answered": True, "error": None},
        {"node": "b", "answered": False, "error": "no answer within 2 s"},
    ]
    assert [row["mod_id"] for row in merged.mods({"wiki": mod("wiki")}, seen)] == ["wiki"]


def stats(processed: int, mods: dict[str, Any]) -> dict[str, Any]:
    events = {"processed": processed, "dropped": {"full": processed}}
    more = {"started_at": 1.0, "uptime_seconds": 2.0, "supervisor": {"pid": processed}, "journal": {}}
    return {"events": events, "spares": {"wanted": 1}, "mods": mods, "agent_count": 5, **more}


def test_what_each_node_counts_is_added_up() -> None:
    own = stats(3, {"wiki": mod("wiki")})
    seen = [Seen("a", stats(3, {})), Seen("b", stats(4, {"wiki": mod("wiki", pid=9)})), Seen("c", error="gone")]
    whole = merged.stats(own, seen)
    assert whole["events"] == {"processed": 7, "dropped": {"full": 7}}
    assert whole["spares"] == {"wanted": 2}
    assert whole["agent_count"] == 5
    assert whole["mods"]["wiki"] == {"mod_id": "wiki", "pid": 9, "node": "b"}
    assert [(node["node"], node["answered"], node.get("mods")) for node in whole["nodes"]] == [
        ("a", True, []),
        ("b", True, ["wiki"]),
        ("c", False, None),
    ]


def test_lines_of_several_nodes_stand_in_the_order_of_time() -> None:
    seen = [
        Seen("a", ["2026-01-01T00:00:01Z one", "  of one", "2026-01-01T00:00:03Z three"]),
        Seen("b", ["2026-01-01T00:00:02Z two"]),
        Seen("c", error="gone"),
    ]
    assert [line for _, line in merged.lines(seen, 10)] == [
        "2026-01-01T00:00:01Z one",
        "  of one",
        "2026-01-01T00:00:02Z two",
        "2026-01-01T00:00:03Z three",
    ]
    assert [line for _, line in merged.lines(seen, 2)] == ["2026-01-01T00:00:02Z two", "2026-01-01T00:00:03Z three"]
    assert merged.lines(seen, 0) == []


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 9)), max_size=4))
def test_no_figure_is_lost_or_counted_twice(counted: list[dict[str, int | None]]) -> None:
    total = merged.added(counted)
    for name in "abc":
        assert (total.get(name) or 0) == sum(each.get(name) or 0 for each in counted)


def test_crashes_come_oldest_first_with_their_node() -> None:
    seen = [Seen("a", [{"at": 2.0}]), Seen("b", [{"at": 1.0}]), Seen("c", error="gone")]
    assert merged.crashes(seen) == [{"at": 1.0, "node": "b"}, {"at": 2.0, "node": "a"}]
