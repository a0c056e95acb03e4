"""A changed network file: what takes effect, and what is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.config import parse_config
from modvisor.supervisor.config.network.effects import EFFECTS, Effect, in_force
from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.printed.reference import TABLES
from modvisor.supervisor.fleet.commands.loading import Loading
from modvisor.supervisor.fleet.commands.reconfigure import Changes, apply_changes
from tests.config.other_values import other_value

from ..conftest import MakeWorld

pytestmark = pytest.mark.anyio


async def test_keys_that_are_read_at_the_start_stay(make_world: MakeWorld) -> None:
    world = await make_world()
    changed = replace(world.config, name="other", event_timeout=1.0, allowed_mods=("pkg.work",))
    taken = in_force(world.config, changed)
    assert (taken.name, taken.event_timeout, taken.allowed_mods) == ("world", world.config.event_timeout, ("pkg.work",))


async def test_only_what_changed_is_touched(make_world: MakeWorld) -> None:
    world = await make_world()
    loading = Loading(world.ask)
    (work,) = world.mods
    same = await apply_changes(loading, world.config, world.config)
    assert (same.success, same.added, same.removed, same.changed, same.needs_restart) == (True, {}, {}, {}, [])
    number = work.incarnation.number

    plain = {"network": {"name": "world", "cgroups": False, "port": 1}, "mods": [{"path": "pkg.wiki"}]}
    new = parse_config(plain, base_dir=world.config.base_dir)
    changes = await apply_changes(loading, world.config, new)
    assert (list(changes.removed), list(changes.added), changes.needs_restart) == (["work"], ["wiki"], ["port"])
    assert [mod.mod_id for mod in world.mods] == ["wiki"]
    assert number == 1


async def test_an_audience_changes_without_a_reload(make_world: MakeWorld) -> None:
    world = await make_world()
    (work,) = world.mods
    audience = {"path": "pkg.work", "audience": {"agents": ["alice"]}}
    new = parse_config(
        {"network": {"name": "world", "cgroups": False}, "mods": [audience]}, base_dir=world.config.base_dir
    )
    pid = work.incarnation.pid
    changes = await apply_changes(Loading(world.ask), world.config, new)
    assert changes.changed["work"].message == "mod work reaches agent alice now"
    assert work.incarnation.pid == pid


OF_MODS = sorted(name for name in EFFECTS if name.startswith("mods[]"))
GIVEN = {  # keys whose change is no other value of the same entry
    "mods[].path": {"path": "pkg.other", "id": "work"},
    "mods[].name": {"name": "pkg.other", "id": "work"},
    "mods[].id": {"id": "other"},
    "mods[].workers": None,  # see test_a_number_of_workers_that_cannot_be_changed_is_told
    "mods[].env.NAME.from": {"env": {"HOME": {"from": "env:HOME"}}},
    "mods[].requires": {"requires": []},  # written out, it overrides the mod's mod.yaml
    "mods[].version": {"version": "1.0"},
    "mods[].limits.memory_soft": {"limits": {"memory_soft": 30_000_000}},
}


@pytest.mark.parametrize("name", OF_MODS)
async def test_each_key_of_an_entry_does_what_the_table_says(make_world: MakeWorld, tmp_path: Path, name: str) -> None:
    world = await make_world()
    entry = _changed_entry(name, tmp_path)
    if entry is None:
        return
    new = _with_entry(world.config, entry)
    old = _with_entry(world.config, "pkg.work")
    (work,) = world.mods
    pid = work.incarnation.pid
    changes = await apply_changes(Loading(world.ask), old, new)
    assert changes.success, changes
    touched = [*changes.changed, *changes.removed, *changes.added]
    assert "work" in touched, "the change is not told"
    is_same_process = [mod.incarnation.pid for mod in world.mods if mod.mod_id == "work"] == [pid]
    assert is_same_process is (EFFECTS[name] is Effect.NOW)
    assert (changes.applied, changes.needs_restart) == ([], [])
    again = await apply_changes(Loading(world.ask), in_force(old, new), new)
    assert again == Changes(), "what was applied is not applied again"


def _changed_entry(name: str, base_dir: Path) -> dict[str, Any] | None:
    if name in GIVEN:
        given = GIVEN[name]
        return None if given is None else given if "name" in given else {"path": "pkg.work", **given}
    table, _, key = name.rpartition(".")
    described = TABLES[table][key]
    value: Any = {key: other_value(described.reader, described.default, base_dir)}
    return {"path": "pkg.work", **(value if table == "mods[]" else {table.removeprefix("mods[]."): value})}


def _with_entry(config: NetworkConfig, *entries: dict[str, Any] | str) -> NetworkConfig:
    network = {"name": "world", "cgroups": False}
    data = {"network": network, "mods": list(entries), "agent_groups": {"wiki": {}}}
    return parse_config(data, base_dir=config.base_dir)


async def test_a_number_of_workers_that_cannot_be_changed_is_told(make_world: MakeWorld) -> None:
    world = await make_world()
    new = _with_entry(world.config, {"path": "pkg.work", "workers": 2})
    changes = await apply_changes(Loading(world.ask), world.config, new)
    assert not changes.success
    assert "unload it, and load it anew" in str(changes.changed["work"].message)


async def test_a_default_that_is_written_out_overrides_the_mod_yaml(make_world: MakeWorld) -> None:
    """The values are the same, but the mod.yaml of the mod no longer counts."""
    world = await make_world()
    new = _with_entry(world.config, {"path": "pkg.work", "limits": {"memory": None}})
    changes = await apply_changes(Loading(world.ask), world.config, new)
    assert list(changes.changed) == ["work"]


async def test_the_order_of_the_file_is_the_load_order(make_world: MakeWorld) -> None:
    world = await make_world()
    loading = Loading(world.ask)
    one, three = _with_entry(world.config, "pkg.work"), _with_entry(world.config, "pkg.first", "pkg.work", "pkg.last")
    changes = await apply_changes(loading, one, three)
    assert (list(changes.added), changes.applied) == (["first", "last"], [])
    assert [mod.mod_id for mod in world.mods] == ["first", "work", "last"]
    turned = _with_entry(world.config, "pkg.last", "pkg.first", "pkg.work")
    changes = await apply_changes(loading, three, turned)
    assert (changes.added, changes.changed, changes.applied) == ({}, {}, ["mods (order)"])
    assert [mod.mod_id for mod in world.mods] == ["last", "first", "work"]
    assert [entry.mod_id for entry in world.mods.router.route("work.x").asked] == ["last", "first", "work"]
    assert await apply_changes(loading, turned, turned) == Changes()
