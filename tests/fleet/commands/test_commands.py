"""Commands on one mod, as responses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modvisor.ipc.errors import ModvisorError as _Refusal
from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.process.process import Exit

from ..conftest import MakeWorld
from ..fake_mods import config

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("command", ["reload", "restart", "unload"])
async def test_a_command_on_a_mod_that_is_not_loaded_names_the_loaded_ones(make_world: MakeWorld, command: str) -> None:
    world = await make_world()
    response = await getattr(world.ask, command)("wiki")
    assert (response.error, response.message) == ("no_such_mod", "no mod 'wiki' is loaded (loaded: work)")


async def test_a_failed_reload_says_that_the_old_version_serves(make_world: MakeWorld) -> None:
    world = await make_world()
    world.conduct.starts.append("import fails")
    response = await world.ask.reload("work")
    assert (response.success, response.error, response.data["step"]) == (False, "import_failed", "import")
    assert str(response.message).startswith("mod work was not reloaded, the old one still serves: ")


async def test_a_failed_swap_is_about_the_new_mod_and_frees_its_id(make_world: MakeWorld) -> None:
    world = await make_world()
    world.conduct.starts.append("import fails")
    response = await world.ask.swap("work", config("wiki"))
    assert (response.data["mod_id"], response.data["mod_path"]) == ("wiki", "pkg.wiki")
    assert str(response.message).startswith("mod work was not swapped for wiki, the old one stays: ")
    assert (world.mods.reserved_ids, [mod.mod_id for mod in world.mods]) == (set(), ["work"])


async def test_a_swap_keeps_place_audience_and_alias(make_world: MakeWorld) -> None:
    world = await make_world(audience={"agents": ["alice"]})
    world.mods.add(config("last"))
    response = await world.ask.swap("work", config("wiki"), alias=True)
    assert (response.success, response.data["former_id"]) == (True, "work")
    first = next(iter(world.mods))
    assert (first.mod_id, world.mods.find("work") is first, str(first.audience)) == ("wiki", True, "agent alice")


async def test_an_unload_cancels_a_load_and_a_reload(make_world: MakeWorld) -> None:
    world = await make_world()
    for begun in (world.ask.reload("work"), world.ask.load(config("wiki"))):
        world.conduct.starts.append("imports forever")
        command = world.command(begun)
        name = "work" if world.mods.find("wiki") is None and world.mods.find("work") is not None else "wiki"
        await world.until(lambda: not world.conduct.starts)
        assert (await world.ask.unload(name)).success
        response = await command
        assert (response.error, "was cancelled by an unload" in str(response.message)) == ("not_running", True)
    assert len(world.mods) == 0


async def test_a_mod_that_is_not_tried_stays_only_if_the_file_names_it(make_world: MakeWorld) -> None:
    world = await make_world()
    cause = (await world.ask.load(config("work"))).error
    assert cause == "already_loaded"
    error = _Refusal("no")
    assert not world.ask.not_started(config("wiki"), error).success
    assert world.mods.find("wiki") is None
    assert not world.ask.not_started(replace(config("shop"), from_file=True), error).success
    shop = world.mods.find("shop")
    assert shop is not None
    assert (shop.state, shop.last_error) == (State.FAILED, "no")


async def test_a_mod_with_workers_does_not_take_the_place_of_one_without(make_world: MakeWorld) -> None:
    world = await make_world()
    response = await world.ask.reload("work", replace(world.mod, workers=2))
    assert (response.error, response.data["step"]) == ("conflict", "start")


async def test_a_swap_of_a_mod_that_is_down_leaves_it_as_it_was_when_the_new_one_fails(make_world: MakeWorld) -> None:
    world = await make_world(restart={"policy": "temporary"})
    assert world.worker is not None
    world.worker.die(Exit(1, None))
    await world.until(lambda: world.keeper is not None and world.keeper.state is State.STOPPED)
    world.conduct.starts.append("import fails")
    response = await world.ask.swap("work", config("wiki"))
    assert (response.error, response.data["mod_id"]) == ("import_failed", "wiki")
    assert [mod.mod_id for mod in world.mods] == ["work"]
    assert (world.mods.get("wiki"), world.mods.find("work")) == (None, next(iter(world.mods)))
    assert (await world.ask.restart("work")).success
    assert (await world.send().task).success


async def test_a_load_that_is_refused_leaves_nothing_starting(make_world: MakeWorld) -> None:
    world = await make_world(aliases=["wiki"])
    wanted = config("wiki")
    world.mods.add(wanted)
    response = await world.ask.load(wanted, restored=True)
    assert response.error == "already_loaded"
    mod = world.mods.get("wiki")
    assert mod is not None
    assert (mod.state, "is an alias of mod work" in str(mod.last_error)) == (State.FAILED, True)


async def test_a_mod_that_is_down_keeps_its_entry_when_another_one_fails(make_world: MakeWorld) -> None:
    world = await make_world(restart={"policy": "temporary"})
    assert world.worker is not None
    world.worker.die(Exit(1, None))
    await world.until(lambda: world.keeper is not None and world.keeper.state is State.STOPPED)
    world.conduct.starts.append("import fails")
    assert not (await world.ask.swap("work", config("work", config={"new": True}))).success
    assert world.keeper is not None
    assert (world.keeper.config.config, world.keeper.config.spec) == ({}, None)
