from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.topic import matches
from modvisor.supervisor.fleet.registry.router import CACHE_SIZE, Entry, Router

part = st.sampled_from("abc")
name = st.lists(part, min_size=2, max_size=3).map(".".join)
pattern = st.just("*") | name | st.lists(part, min_size=1, max_size=2).map(lambda parts: ".".join(parts) + ".*")
patterns = st.lists(pattern, max_size=3).map(tuple)


@given(st.lists(st.tuples(patterns, patterns), max_size=6), st.lists(name, min_size=1, max_size=5))
def test_an_event_goes_to_every_matching_mod_once_in_load_order(
    mods: list[tuple[tuple[str, ...], tuple[str, ...]]], names: list[str]
) -> None:
    router: Router[int] = Router()
    entries = [Entry(f"mod{index}", asked, observes, index) for index, (asked, observes) in enumerate(mods)]
    router.replace(lambda: entries, any(observes for _, observes in mods))
    for event_name in names + names:  # the second time from the cache
        route = router.route(event_name)
        for found, which in ((route.asked, 0), (route.observers, 1)):
            expected = [
                index for index, mod in enumerate(mods) if any(matches(text, event_name) for text in mod[which])
            ]
            assert [entry.target for entry in found] == expected


def test_a_change_of_mods_is_seen_at_once() -> None:
    router: Router[str] = Router()
    assert router.route("a.b").asked == ()
    router.replace(lambda: [Entry("one", ("a.*",), (), "one")], False)
    assert [entry.target for entry in router.route("a.b").asked] == ["one"]
    router.replace(list, False)
    assert router.route("a.b").asked == ()


def test_entries_are_made_once_however_often_they_were_replaced_before_an_event() -> None:
    router: Router[str] = Router()
    made: list[str] = []

    def entries(name: str) -> list[Entry[str]]:
        made.append(name)
        return [Entry(name, ("a.*",), (), name)]

    for name in ("one", "two", "three"):
        router.replace(lambda name=name: entries(name), True)
        assert router.has_observers
    for event_name in ("a.b", "a.c"):
        assert [entry.target for entry in router.route(event_name).asked] == ["three"]
    assert made == ["three"]


def test_names_from_outside_cannot_fill_the_cache() -> None:
    router: Router[str] = Router()
    for n in range(CACHE_SIZE * 2 + 10):
        router.route(f"a.b{n}")
    assert len(router._cache) <= CACHE_SIZE


def test_a_mod_sends_under_its_id_and_under_its_path_if_it_has_one() -> None:
    assert Entry("wiki", (), (), None).addresses == ("mod:wiki",)
    assert Entry("wiki", (), (), None, path="their.mods.wiki").addresses == ("mod:wiki", "mod:their.mods.wiki")
