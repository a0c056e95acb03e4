"""A changed network file: what takes effect, and what is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modvisor.supervisor.config import parse_config
from modvisor.supervisor.fleet.loading import Loading
from modvisor.supervisor.fleet.reconfigure import apply_changes, in_force

from .conftest import MakeWorld

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
