"""A swap outlives the run of the network: exactly one of the two mods serves, and what the file says against it is told."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.event import Event
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.config import NetworkConfig, parse_config
from tests.conftest import until, worker_pids

pytestmark = pytest.mark.anyio

MakeNetwork = Callable[..., AgentNetwork]
WriteMod = Callable[..., str]

COUNTS = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counts(BaseMod):
        def initialize(self):
            self.count = 0
            return True

        def get_state(self):
            return self.count

        def set_state(self, state, from_version):
            self.count = state

        @mod_event_handler("count.up")
        async def up(self, event):
            self.count += 1
            return EventResponse(True, data=[self.context.mod_id, self.count])
"""


async def up(network: AgentNetwork, destination: str = "agent:broadcast") -> Any:
    answer = await network.process_event(Event("count.up", "agent:alice", destination))
    return answer.data if answer.success else answer.error


@pytest.fixture
def file(make_network: MakeNetwork, write_mod: WriteMod) -> Callable[..., AgentNetwork]:
    """Networks whose file names ``v1``, and whatever else is given for its list of mods."""
    write_mod("v1", COUNTS)
    write_mod("v2", COUNTS)
    write_mod("v3", COUNTS)
    return lambda *mods: make_network(mods=list(mods) or ["./v1"])


async def restarted(network: AgentNetwork, after: AgentNetwork) -> AgentNetwork:
    await network.shutdown()
    await after.initialize()
    return after


@pytest.mark.parametrize("alias", [True, False])
async def test_a_swapped_mod_of_the_file_stays_swapped(
    file: Callable[..., AgentNetwork], caplog: pytest.LogCaptureFixture, *, alias: bool
) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2", alias=alias)).success
    await restarted(network, network)
    assert {mod_id: mod["state"] for mod_id, mod in network.get_loaded_mods().items()} == {"v2": "ready"}
    assert len(worker_pids()) == 1
    assert (await up(network))[0] == "v2"
    assert (await up(network, "mod:v1") != "no_such_mod") == alias
    assert "the network file names mod v1, and mod v2 (./v2) took its place in a swap" in caplog.text


@pytest.mark.slow
async def test_a_swap_of_a_swapped_mod_has_the_first_place(file: Callable[..., AgentNetwork]) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2")).success
    assert (await network.swap_mod("v2", "./v3")).success
    await restarted(network, network)
    assert list(network.get_loaded_mods()) == ["v3"]


@pytest.mark.slow
async def test_a_swap_back_leaves_the_mod_of_the_file(file: Callable[..., AgentNetwork]) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2", alias=True)).success
    assert (await network.swap_mod("v2", "./v1")).success
    await restarted(network, network)
    assert list(network.get_loaded_mods()) == ["v1"]


@pytest.mark.slow
async def test_another_path_under_the_same_id_is_remembered(file: Callable[..., AgentNetwork]) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2", mod_id="v1")).success
    await restarted(network, network)
    assert {mod_id: mod["mod_path"] for mod_id, mod in network.get_loaded_mods().items()} == {"v1": "./v2"}


@pytest.mark.slow
async def test_an_unloaded_mod_gives_its_place_back(file: Callable[..., AgentNetwork]) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2", alias=True)).success
    assert (await network.unload_mod("v2")).success
    await restarted(network, network)
    assert list(network.get_loaded_mods()) == ["v1"]


async def test_an_entry_that_was_edited_since_the_swap_has_its_place_again(
    file: Callable[..., AgentNetwork], caplog: pytest.LogCaptureFixture
) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2", alias=True)).success
    await restarted(network, other := file({"path": "./v1", "config": {"new": True}}))
    assert list(other.get_loaded_mods()) == ["v1"]
    assert "the network file's entry of v1 was changed since" in caplog.text
    await restarted(other, file())
    assert len(worker_pids()) == 1, "and the swap is forgotten"


@pytest.mark.slow
async def test_a_file_that_names_the_new_mod_rules(file: Callable[..., AgentNetwork]) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2", alias=True)).success
    await restarted(network, other := file("./v2"))
    assert list(other.get_loaded_mods()) == ["v2"]


@pytest.mark.slow
async def test_a_file_that_names_both_has_one_of_them(file: Callable[..., AgentNetwork]) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2")).success
    await restarted(network, other := file("./v1", "./v2"))
    assert list(other.get_loaded_mods()) == ["v2"]
    await restarted(other, again := file("./v1", "./v2"))
    assert list(again.get_loaded_mods()) == ["v2"]


@pytest.mark.slow
async def test_the_place_in_the_load_order_outlives_the_run(file: Callable[..., AgentNetwork]) -> None:
    network = file("./v1", "./v3")
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2")).success
    await restarted(network, network)
    assert list(network.get_loaded_mods()) == ["v2", "v3"]


@pytest.mark.slow
async def test_a_journal_that_knows_a_swap_by_its_alias_alone(
    file: Callable[..., AgentNetwork], make_network: MakeNetwork
) -> None:
    """As versions before this one have kept it."""
    network = make_network()
    await network.initialize()
    assert (await network.load_mod("./v2", aliases=["v1"])).success
    await restarted(network, other := file())
    assert {mod_id: mod["state"] for mod_id, mod in other.get_loaded_mods().items()} == {"v2": "ready"}


# -- reconfigure


def config(folder: Path, *mods: Any) -> NetworkConfig:
    return parse_config({"network": {"name": "test", "storage": "state"}, "mods": list(mods)}, base_dir=folder)


@pytest.mark.parametrize("alias", [True, False])
async def test_the_same_file_leaves_a_swap_alone(
    file: Callable[..., AgentNetwork], tmp_path: Path, *, alias: bool
) -> None:
    network = file()
    await network.initialize()
    assert (await network.swap_mod("v1", "./v2", alias=alias)).success
    before = await up(network)
    changes = await network.reconfigure(config(tmp_path, "./v1"))
    assert (changes.added, changes.removed, changes.changed) == ({}, {}, {})
    assert changes.swapped == {"v1": "v2"}
    assert list(network.get_loaded_mods()) == ["v2"]
    assert await up(network) == ["v2", before[1] + 1]


@pytest.mark.parametrize("alias", [True, False])
async def test_an_edited_entry_takes_its_place_without_losing_the_state(
    file: Callable[..., AgentNetwork], tmp_path: Path, *, alias: bool
) -> None:
    network = file()
    await network.initialize()
    await up(network)
    assert (await network.swap_mod("v1", "./v2", alias=alias)).success
    changes = await network.reconfigure(config(tmp_path, {"path": "./v1", "config": {"new": 1}}))
    assert (list(changes.changed), changes.success) == (["v1"], True)
    assert await up(network) == ["v1", 2]
    assert list(network.get_loaded_mods()) == ["v1"]


@pytest.mark.parametrize("alias", [True, False])
async def test_a_file_that_has_the_new_mod_instead_takes_it_over_as_it_is(
    file: Callable[..., AgentNetwork], tmp_path: Path, *, alias: bool
) -> None:
    network = file()
    await network.initialize()
    await up(network)
    assert (await network.swap_mod("v1", "./v2", alias=alias)).success
    changes = await network.reconfigure(config(tmp_path, "./v2"))
    assert (changes.removed, changes.added, list(changes.changed)) == ({}, {}, ["v2"])
    assert await up(network) == ["v2", 2]
    assert list(network.get_loaded_mods()) == ["v2"]


# -- what a path names


async def test_a_path_that_two_mods_share_names_none(network: AgentNetwork, write_mod: WriteMod) -> None:
    write_mod("v1", COUNTS)
    for mod_id in ("one", "two"):
        assert (await network.load_mod("./v1", mod_id=mod_id)).success
    for command in (
        network.unload_mod("./v1"),
        network.reload_mod("./v1"),
        network.restart_mod("./v1"),
        network.swap_mod("./v1", "./v1", mod_id="three"),
        network.set_audience("./v1", percent=10),
        network.promote_mod("./v1"),
        network.rollback_mod("./v1"),
    ):
        answer = await command
        assert (answer.error, "one, two" in str(answer.message)) == ("conflict", True), answer
    assert list(network.get_loaded_mods()) == ["one", "two"]
    assert (await network.unload_mod("one")).success
    assert (await network.unload_mod("./v1")).success, "now it names one"


# -- who is loaded


async def test_a_mod_that_failed_to_start_is_not_among_the_loaded(
    make_network: MakeNetwork, write_mod: WriteMod, caplog: pytest.LogCaptureFixture
) -> None:
    write_mod("broken", "1 / 0")
    write_mod("v1", COUNTS)
    network = make_network(mods=["./broken", "./v1"])
    with caplog.at_level(logging.WARNING):
        await network.initialize()
    dynamic = network.get_network_stats()["dynamic_mods"]
    assert (dynamic["count"], dynamic["loaded"]) == (1, ["v1"])
    assert (dynamic["details"]["broken"]["loaded_at"], dynamic["details"]["broken"]["state"]) == (None, "failed")
    assert dynamic["details"]["v1"]["loaded_at"] > 0
    told = [record.message for record in caplog.records if "ZeroDivisionError" in record.message]
    assert len(told) == 1, told


@pytest.mark.slow
@pytest.mark.parametrize("is_down", [False, True])
async def test_a_mod_with_workers_is_swapped_for_the_next_run_too(
    make_network: MakeNetwork, write_mod: WriteMod, *, is_down: bool
) -> None:
    write_mod("v1", COUNTS)
    write_mod("v2", COUNTS)
    write_mod("v3", "1 / 0")
    network = make_network()
    await network.initialize()
    await network.load_mod("./v1", workers=2, restart={"policy": "temporary"})
    if is_down:
        for pid in network.get_loaded_mods()["v1"]["pids"]:
            os.kill(pid, signal.SIGKILL)
        workers = lambda: network.get_network_stats()["mods"]["v1"]["workers"]  # noqa: E731
        await until(lambda: {worker["state"] for worker in workers()} == {"stopped"})
        failed = await network.swap_mod("v1", "./v3", workers=2)
        assert failed.error == "import_failed"
        assert {mod_id: mod["state"] for mod_id, mod in network.get_loaded_mods().items()} == {"v1": "failed"}
    assert (await network.swap_mod("v1", "./v2", workers=2)).success
    await restarted(network, network)
    assert {mod_id: mod["state"] for mod_id, mod in network.get_loaded_mods().items()} == {"v2": "ready"}
    assert len(worker_pids()) == 2
