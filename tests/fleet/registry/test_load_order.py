"""The mods in load order: looking them up, and putting them in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config import family_of
from modvisor.supervisor.fleet.registry.load_order import LoadedMods

from ..fake_mods import config, fake_mod

IDS = st.lists(st.sampled_from(["wiki", "wiki@2", "wiki@3", "shop", "shop@2", "chat"]), unique=True)


def loaded(*mod_ids: str) -> LoadedMods:
    mods = LoadedMods()
    for mod_id in mod_ids:
        mods._insert(fake_mod(mod_id))
    return mods


def order(mods: LoadedMods) -> list[str]:
    return [mod.mod_id for mod in mods]


def has_its_versions_together(ids: list[str]) -> bool:
    families = [family_of(mod_id) for mod_id in ids]
    return all(
        families[first:last].count(family) == last - first
        for family in families
        for first, last in [(families.index(family), len(families) - families[::-1].index(family))]
    )


@given(IDS, IDS)
def test_versions_of_a_mod_stay_together_and_nothing_is_lost(present: list[str], wanted: list[str]) -> None:
    mods = loaded(*present)
    assert has_its_versions_together(order(mods))
    before, now = mods._arrange(wanted)
    assert sorted(before) == sorted(now) == sorted(set(present) & set(wanted))
    assert sorted(order(mods)) == sorted(present)
    assert has_its_versions_together(order(mods))
    assert [mod_id for mod_id in order(mods) if mod_id in now] == now
    assert mods._arrange(wanted) == (now, now)


def test_a_path_that_two_mods_share_names_neither() -> None:
    mods = loaded("wiki", "wiki@2", "shop")
    refused = mods.named("pkg.wiki")
    assert (refused.error, refused.data["mod_ids"]) == ("conflict", ["wiki", "wiki@2"])
    assert mods.named("wiki") is mods.get("wiki")
    assert mods.named("pkg.shop") is mods.get("shop")
    assert mods.named("shopp").message == "no mod 'shopp' is loaded; did you mean 'shop'?"


def test_an_exchanged_mod_keeps_its_place_and_a_removed_stranger_takes_nothing_along() -> None:
    mods = loaded("wiki", "shop", "chat")
    old, new = mods.get("shop"), fake_mod("shop")
    mods._exchange(old, new)
    assert order(mods) == ["wiki", "shop", "chat"]
    mods._remove(old)  # it is not the one with this id any more
    assert mods.get("shop") is new
    mods._remove(new)
    assert order(mods) == ["wiki", "chat"]


def test_a_name_is_taken_by_the_alias_of_another_mod() -> None:
    mods = LoadedMods()
    mods._insert(fake_mod("wiki", aliases=["old"]))
    assert mods.taken_name(config("old"), None) == "the id 'old' is an alias of mod wiki"
    assert mods.taken_name(config("shop", aliases=["wiki"]), None) == "the alias 'wiki' is taken by mod wiki"
    assert mods.taken_name(config("old"), mods.get("wiki")) is None
    assert mods.taken_name(config("wiki", aliases=["old"]), None) is None
