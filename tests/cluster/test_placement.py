"""Where mods are placed: only where they may run, evenly, and with as few moves as possible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.cluster.mods.placement import Place, allowed, chosen, copies, ranked
from modvisor.supervisor.config import PlacementConfig

NAMES = st.sets(st.sampled_from("abcdefghij"), min_size=1)
MODS = [f"mod{number}" for number in range(60)]
ANYWHERE = PlacementConfig()


def places(names: set[str]) -> list[Place]:
    return [Place(name) for name in names]


def test_a_mod_may_run_on_the_nodes_that_it_names_by_name_or_label() -> None:
    nodes = [Place("a", frozenset({"gpu"})), Place("b"), Place("c", frozenset({"disk", "gpu"})), Place("d")]
    assert allowed(PlacementConfig(on=("gpu", "d")), nodes) == ["a", "c", "d"]
    assert allowed(ANYWHERE, nodes) == ["a", "b", "c", "d"]


def test_a_node_that_is_drained_takes_no_mod() -> None:
    assert chosen("wiki", PlacementConfig(on=("a",)), [Place("a", is_open=False), Place("b")]) is None
    assert chosen("wiki", ANYWHERE, [Place("a", is_open=False), Place("b")]) == "b"


@given(NAMES, st.sampled_from("abcdefghij"))
def test_a_node_that_leaves_or_comes_moves_its_own_mods_only(names: set[str], other: str) -> None:
    with_it, without = names | {other}, names - {other}
    for mod_id in MODS if without else ():
        before, after = chosen(mod_id, ANYWHERE, places(with_it)), chosen(mod_id, ANYWHERE, places(without))
        assert before in (after, other)


def test_mods_are_shared_out() -> None:
    homes = [chosen(mod_id, ANYWHERE, places({"a", "b", "c"})) for mod_id in MODS]
    assert all(homes.count(name) >= len(MODS) // 6 for name in "abc")


@given(NAMES, st.integers(1, 12))
def test_copies_are_spread_as_far_as_there_are_nodes(names: set[str], count: int) -> None:
    found = copies("wiki", PlacementConfig(copies=count, spread=True), places(names))
    assert sorted(found) == list(range(count))
    used = [[*found.values()].count(name) for name in names]
    assert max(used) - min(used) <= 1


@given(NAMES)
def test_all_nodes_rank_alike(names: set[str]) -> None:
    assert ranked("wiki", names) == ranked("wiki", sorted(names, reverse=True))
    assert set(ranked("wiki", names)) == names


def spread(count: int) -> PlacementConfig:
    return PlacementConfig(copies=count, spread=True)


@given(NAMES, st.sampled_from("abcdefghij"), st.integers(2, 12))
def test_a_node_that_leaves_moves_its_own_copies_only(names: set[str], other: str, count: int) -> None:
    with_it, without = names | {other}, names - {other}
    before = copies("wiki", spread(count), places(with_it))
    after = copies("wiki", spread(count), places(without), before)
    if without:
        assert {part for part, node in before.items() if after[part] != node} == {
            part for part, node in before.items() if node == other
        }
    else:
        assert after == {}


@given(NAMES, st.sampled_from("abcdefghij"), st.integers(2, 12))
def test_a_node_that_comes_gets_its_share_of_the_copies_and_moves_no_other(
    names: set[str], other: str, count: int
) -> None:
    without = names - {other}
    before = copies("wiki", spread(count), places(without))
    after = copies("wiki", spread(count), places(without | {other}), before)
    moved = {part for part in before if after[part] != before[part]}
    assert len(moved) <= count // (len(without) + 1) or not without
    assert all(after[part] == other for part in moved)


@given(NAMES, st.integers(2, 12), st.dictionaries(st.integers(0, 15), st.sampled_from("abcdefghijxyz")))
def test_copies_come_to_rest_wherever_they_are(names: set[str], count: int, held: dict[int, str]) -> None:
    found = copies("wiki", spread(count), places(names), held)
    used = [[*found.values()].count(name) for name in names]
    assert sorted(found) == list(range(count))
    assert max(used) - min(used) <= 1
    assert copies("wiki", spread(count), places(names), found) == found
    assert copies("wiki", spread(count), reversed(places(names)), dict(reversed(held.items()))) == found


@given(NAMES, st.sampled_from("abcdefghij"), st.integers(2, 12))
def test_copies_that_may_lie_anywhere_are_drawn_one_by_one(names: set[str], other: str, count: int) -> None:
    placement = PlacementConfig(copies=count, spread=False)
    before, after = (copies("wiki", placement, places(each)) for each in (names | {other}, names - {other}))
    assert all(after[part] in (node, None) or node == other for part, node in before.items() if after)
