"""Which mods there are, in which order, and what may be loaded."""

from __future__ import annotations

import pytest

from ..conftest import MakeWorld
from ..fake_mods import config

pytestmark = pytest.mark.anyio


async def test_a_mod_is_found_by_id_alias_and_path(make_world: MakeWorld) -> None:
    mods = (await make_world(aliases=["old"])).mods
    (work,) = mods
    assert mods.find("work") is mods.find("old") is mods.find("pkg.work") is work
    assert mods.find("other") is None
    assert mods.no_such_mod("other").message == "no mod 'other' is loaded (loaded: work)"


async def test_a_version_stands_behind_its_siblings(make_world: MakeWorld) -> None:
    mods = (await make_world()).mods
    for mod_id in ("wiki", "shop", "wiki@2", "work@2"):
        mods.add(config(mod_id))
    assert [mod.mod_id for mod in mods] == ["work", "work@2", "wiki", "wiki@2", "shop"]


async def test_a_placed_mod_may_be_loaded_and_a_loaded_one_may_not(make_world: MakeWorld) -> None:
    mods = (await make_world()).mods
    mods.add(config("wiki"))
    assert mods.may_load(config("wiki")) is None
    refused = mods.may_load(config("work"))
    assert refused is not None
    assert (refused.error, "is already loaded (from pkg.work, ready)" in str(refused.message)) == (
        "already_loaded",
        True,
    )


async def test_names_in_use_are_refused(make_world: MakeWorld) -> None:
    mods = (await make_world(aliases=["old"])).mods
    mods.reserved_ids.add("coming")
    for wanted in (config("old"), config("coming"), config("wiki", aliases=["work"])):
        refused = mods.may_load(wanted)
        assert refused is not None
        assert refused.error == "already_loaded"
    mods.is_closing = True
    refused = mods.may_load(config("wiki"))
    assert refused is not None
    assert refused.error == "not_running"


async def test_routes_follow_the_mods_and_listeners_hear_of_it(make_world: MakeWorld) -> None:
    mods, heard = (await make_world()).mods, []
    mods.listeners.append(lambda: heard.append([entry.mod_id for entry in mods.router.route("work.do").asked]))
    (work,) = mods
    work.is_member = False
    mods.changed()
    mods.take_in(work)
    mods.discard(work)
    assert heard == [[], ["work"], []]
    assert (len(mods), work in mods) == (0, False)
