"""The read models of a network, and their plain form."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modvisor.supervisor.agents.agent import Agent
from modvisor.supervisor.calls.counters import NetworkCounters
from modvisor.supervisor.config import parse_config
from modvisor.supervisor.fleet.figures.monitor import ResourceMonitor
from modvisor.supervisor.fleet.figures.stats import (
    NetworkView,
    agent_directory,
    describe_mods,
    health,
    loaded_mods,
    mod_stats,
    network_stats,
    resources,
)
from modvisor.supervisor.fleet.read_models import Resources
from modvisor.supervisor.fleet.registry.families import Families

from ..conftest import MakeWorld

MONITOR = ResourceMonitor(list)


def of_nobody() -> NetworkView:
    return NetworkView(
        parse_config({"network": {"name": "n"}}, base_dir=Path("/")), NetworkCounters(), 0.0, 0.0, None, None
    )


def test_a_network_that_does_not_run_has_figures_of_the_same_shape() -> None:
    figures = network_stats(of_nobody()).to_dict()
    assert (figures["is_running"], figures["mods"], figures["families"], figures["journal"]) == (False, {}, {}, {})
    assert figures["dynamic_mods"] == {"count": 0, "loaded": [], "details": {}}
    assert list(figures["supervisor"])[:2] == ["pid", "cpu_percent"]
    assert figures["supervisor"]["pid"] == os.getpid()
    assert figures["events"]["processed"] == 0


def test_health_names_a_transport_only_while_the_network_listens() -> None:
    assert health(of_nobody()).to_dict()["transports"] == []
    listening = NetworkView(of_nobody().config, NetworkCounters(), 0.0, 0.0, 8700, None)
    assert health(listening).to_dict()["transports"] == [{"type": "http", "config": {"port": 8700}}]


@pytest.mark.parametrize(("said", "shown"), [(["chat"], ["chat"]), ("chat", []), (None, [])])
def test_the_capabilities_of_an_agent_are_a_list_whatever_it_says(said: object, shown: list[str]) -> None:
    agent = Agent("alice", {"capabilities": said}, None, b"", registered_at=0.0, last_seen=0.0, last_seen_at=5.0)
    entry = agent_directory([agent])["alice"].to_dict()
    assert entry == {"capabilities": shown, "last_seen": 5.0, "transport_type": "http", "address": None}


def test_figures_are_none_before_the_first_sample() -> None:
    assert set(resources(None).to_dict().values()) == {None}


@pytest.mark.anyio
async def test_a_mod_with_one_worker(make_world: MakeWorld) -> None:
    world = await make_world()
    await world.send().task
    (mod,) = world.mods
    assert list(loaded_mods([mod])["work"].to_dict()) == ["mod_id", "mod_path", "loaded_at", "state", "pid", "version"]
    assert describe_mods([mod])[0].to_dict()["capabilities"] == ["work.*"]
    reach = world.mods.families.stats_of(mod)
    figures = mod_stats(mod, MONITOR, reach=reach, watched_files=None, required_by=["shop"]).to_dict()
    assert (figures["state"], figures["traffic"]["answered"], figures["required_by"]) == ("ready", 1, ["shop"])
    assert list(figures)[-6:] == ["family", "audience", "reaches", "share", "watched_files", "required_by"]
    assert "workers" not in figures
    json.dumps(figures)


@pytest.mark.anyio
async def test_the_figures_of_several_workers_are_sums(make_world: MakeWorld) -> None:
    world = await make_world(workers=2)
    for source in ("agent:a", "agent:b", "agent:c", "agent:d"):
        await world.send(source=source).task
    (mod,) = world.mods
    assert len(loaded_mods([mod])["work"].to_dict()["pids"]) == 2
    reach = world.mods.families.stats_of(mod)
    figures = mod_stats(mod, MONITOR, reach=reach, watched_files=None, required_by=()).to_dict()
    assert [worker["mod_id"] for worker in figures["workers"]] == ["work#0", "work#1"]
    assert (figures["mod_id"], figures["pid"], figures["partition_by"]) == ("work", None, "source")
    assert figures["traffic"]["answered"] == sum(worker["traffic"]["answered"] for worker in figures["workers"]) == 4
    assert figures["resources"] == Resources().to_dict()


def test_families_are_shown_by_name() -> None:
    families = Families(None, lambda: None)  # pyright: ignore[reportArgumentType]
    assert families.stats() == {}
    assert families.describe("wiki").to_dict() == {"family": "wiki", "default": None, "promotions": 0, "versions": []}
