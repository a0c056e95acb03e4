"""Load and unload with the mods that are required."""

from __future__ import annotations

import pytest

from modvisor.supervisor.fleet.commands.loading import Loading

from ..conftest import MakeWorld
from ..fake_mods import config

pytestmark = pytest.mark.anyio


async def test_mods_start_after_the_mods_that_they_require(make_world: MakeWorld) -> None:
    world = await make_world()
    loading = Loading(world.ask)
    outcomes = await loading.load_all([config("shop", requires=["store"]), config("store", requires=["work"])])
    assert {mod_id: outcome.success for mod_id, outcome in outcomes.items()} == {"shop": True, "store": True}
    assert loading.dependents_first(["work", "store", "shop"]) == ["shop", "store", "work"]


async def test_a_mod_whose_dependency_fails_is_not_started(make_world: MakeWorld) -> None:
    world = await make_world()
    world.conduct.starts.append("import fails")
    outcomes = await Loading(world.ask).load_all([config("store"), config("shop", requires=["store"])])
    assert (outcomes["store"].error, outcomes["shop"].error) == ("import_failed", "dependency_failed")
    assert outcomes["shop"].data["dependency"] == "store"


async def test_a_mod_that_others_need_goes_only_with_them(make_world: MakeWorld) -> None:
    world = await make_world()
    loading = Loading(world.ask)
    assert (await loading.load(config("shop", requires=["work"]))).data["dependencies"] == []
    refused = await loading.unload("work")
    assert (refused.error, refused.data["needed_by"]) == ("needed", ["shop"])
    assert (await loading.unload("work", cascade=True)).data["unloaded"] == ["shop", "work"]
    assert len(world.mods) == 0
