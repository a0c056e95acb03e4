"""Another number of copies: their states are split anew, and their accepted events go to where they belong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.ipc.partition import partition_of
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cluster.moving.moving import export_state, import_state
from modvisor.supervisor.config import parse_config
from modvisor.supervisor.journal import StateDir
from tests.conftest import until

from .networks import Nodes, config_of_node, nodes
from .servers import Servers
from .test_copies import COUNTING, ask, copies_of, serves
from .test_moving import at

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

COUNTS = """
    import os
    from modvisor.ipc.partition import partition_of
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counts(BaseMod):
        def initialize(self):
            self.counts = {}

        @mod_event_handler("test.ping")
        async def ping(self, event):
            key = event.payload["key"]
            if os.path.exists(self.config["hold"]):
                os._exit(1)
            self.counts[key] = self.counts.get(key, 0) + 1
            return EventResponse(True, data=[self.context.replica, self.counts[key], event.attempt])

        def get_state(self):
            return self.counts

        def set_state(self, state, from_version):
            self.counts = state

        def merge_state(self, states, from_version):
            return {key: count for state in states if state for key, count in state.items()}

        def split_state(self, state, count):
            parts = [{} for _ in range(count)]
            for key, value in state.items():
                parts[partition_of(key, count)][key] = value
            return parts
"""

KEYS = [str(number) for number in range(12)]


def mods_of(write_mod: WriteMod, folder: Path, number: int, source: str = COUNTS, **entry: Any) -> list[dict[str, Any]]:
    config = {"hold": str(folder / "hold")}
    return copies_of(write_mod, number, source, config=config, sandbox="off", checkpoint_every=60, **entry)


async def counts(network: AgentNetwork) -> dict[str, list[int]]:
    """Ask with each key. Returns the copy that answered, how often it was asked with the key, and the attempt."""
    answers = await asyncio.gather(*(ask(network, key) for key in KEYS))
    assert all(each.success for each in answers), answers
    return {key: each.data for key, each in zip(KEYS, answers, strict=True)}


async def run(nodes: Nodes, mods: list[dict[str, Any]], *names: str) -> list[AgentNetwork]:
    """Start nodes one after the other: the first one brings the new file."""
    networks = [nodes(name, mods, lease=1.0) for name in names]
    for network in networks:
        await network.initialize()
        await until(serves(network))
    return networks


async def end(*networks: AgentNetwork) -> None:
    for network in networks:
        await network.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(2, 3), (3, 2, 5), (1, 3, 1)])
async def test_the_states_of_copies_are_split_when_their_number_changes(
    nodes: Nodes, write_mod: WriteMod, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    for round_, number in enumerate(numbers, 1):
        networks = await run(nodes, mods_of(write_mod, tmp_path, number), "a", "b")
        expected = {key: [partition_of(key, number) if number > 1 else None, round_, 1] for key in KEYS}
        assert await counts(networks[round_ % 2]) == expected
        await end(*networks)


HELD = """
    import asyncio, os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Held(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            while os.path.exists(self.config["hold"]):
                await asyncio.sleep(0.01)
            with open(self.config["hold"] + "-calls", "a") as file:
                file.write(f"{event.payload['key']} {self.context.replica} {event.attempt}\\n")
            return EventResponse(True)
"""


@pytest.mark.slow
async def test_accepted_events_go_to_the_copies_that_they_belong_to_now(
    nodes: Nodes, write_mod: WriteMod, tmp_path: Path
) -> None:
    entry = {"durable": True, "delivery": "at_least_once", "limits": {"drain_timeout": 0.2}, "max_attempts": 9}
    (tmp_path / "hold").touch()
    networks = await run(nodes, mods_of(write_mod, tmp_path, 2, HELD, **entry), "a", "b")
    asked = [asyncio.create_task(ask(networks[0], key)) for key in KEYS]
    journals = [network._running().journal for network in networks]
    async with asyncio.timeout(10):
        while sum([sum((await each.pending_counts()).values()) for each in journals]) < len(KEYS):
            await asyncio.sleep(0.01)
    await end(*networks)
    await asyncio.gather(*asked)
    (tmp_path / "hold").unlink()
    calls = tmp_path / "hold-calls"
    await run(nodes, mods_of(write_mod, tmp_path, 3, HELD, **entry), "a", "b")
    await until(lambda: calls.exists() and len(calls.read_text().splitlines()) >= len(KEYS))
    called = {key: int(part) for key, part, _ in map(str.split, calls.read_text().splitlines())}
    assert called == {key: partition_of(key, 3) for key in KEYS}


@pytest.mark.slow
async def test_copies_of_a_mod_that_cannot_split_its_state_do_not_start_and_go_on_with_the_former_number(
    nodes: Nodes, write_mod: WriteMod, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (network,) = await run(nodes, mods_of(write_mod, tmp_path, 2, COUNTING), "a")
    first = (await ask(network, "1")).data
    await end(network)
    network = nodes("a", mods_of(write_mod, tmp_path, 3, COUNTING), lease=1.0)
    await network.initialize()
    await until(lambda: network.get_loaded_mods()["wiki"]["state"] == "failed")
    assert "mod wiki had 2 copies when it last ran, and cannot split its state for 3: " in caplog.text
    assert "set 'placement.copies: 2', or unload it to forget its state" in caplog.text
    refused = await network.reload_mod("wiki")
    assert "cannot split its state" in str(refused.message), refused
    await end(network)
    (network,) = await run(nodes, mods_of(write_mod, tmp_path, 2, COUNTING), "a")
    assert (await ask(network, "1")).data["count"] == first["count"] + 1, "it was kept"


@pytest.mark.slow
async def test_what_a_mod_has_kept_on_one_machine_is_shared_by_its_copies_in_a_cluster_and_goes_back(
    nodes: Nodes, servers: Servers, network_id: str, write_mod: WriteMod, tmp_path: Path
) -> None:
    mods, single = (mods_of(write_mod, tmp_path, number, durable=True) for number in (3, 1))
    state = tmp_path / "alone"
    config = {"network": {"name": "one", "storage": str(state)}, "mods": mods}
    async with AgentNetwork.from_config(config, base_dir=tmp_path) as alone:
        assert await counts(alone) == {key: [None, 1, 1] for key in KEYS}
    clustered = parse_config(config_of_node(servers, network_id, tmp_path, "a", mods), base_dir=tmp_path)
    await at(StateDir(state), import_state, clustered)
    networks = await run(nodes, mods, "a", "b")
    assert await counts(networks[1]) == {key: [partition_of(key, 3), 2, 1] for key in KEYS}
    await end(*networks)
    why = r"kept of mods with copies \(wiki\) is divided among them: set 'placement.copies: 1'"
    with pytest.raises(ModvisorError, match=why):
        await at(StateDir(tmp_path / "back"), export_state, clustered)
    await end(*await run(nodes, single, "a"))
    together = parse_config(config_of_node(servers, network_id, tmp_path, "a", single), base_dir=tmp_path)
    moved = await at(StateDir(tmp_path / "back"), export_state, together)
    assert moved.counts["checkpoints"] == 1
    back = {"network": {"name": "one", "storage": str(tmp_path / "back")}, "mods": single}
    async with AgentNetwork.from_config(back, base_dir=tmp_path) as alone:
        assert await counts(alone) == {key: [None, 3, 1] for key in KEYS}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_what_workers_have_kept_on_one_machine_is_shared_by_copies_in_a_cluster(
    nodes: Nodes, servers: Servers, network_id: str, write_mod: WriteMod, tmp_path: Path, workers: int
) -> None:
    (entry,) = mods = mods_of(write_mod, tmp_path, 3)
    config = {
        "network": {"name": "one", "storage": str(tmp_path / "alone")},
        "mods": [{key: value for key, value in entry.items() if key != "placement"} | {"workers": workers}],
    }
    async with AgentNetwork.from_config(config, base_dir=tmp_path) as alone:
        assert [count for _, count, _ in (await counts(alone)).values()] == [1] * len(KEYS)
    clustered = parse_config(config_of_node(servers, network_id, tmp_path, "a", mods), base_dir=tmp_path)
    await at(StateDir(tmp_path / "alone"), import_state, clustered)
    (network,) = await run(nodes, mods, "a")
    assert await counts(network) == {key: [partition_of(key, 3), 2, 1] for key in KEYS}
