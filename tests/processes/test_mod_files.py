"""A mod.yaml beside a mod's code: in force when the mod is loaded and reloaded, and as good as its last good version."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modvisor.supervisor.config.mod_file as mod_file_reader
from modvisor.supervisor import AgentNetwork
from tests.conftest import until

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]


@pytest.fixture
def mod_file(tmp_path: Path, write_mod: WriteMod) -> Path:
    write_mod("echo")
    file = tmp_path / "mods" / "echo" / "mod.yaml"
    file.write_text("limits: {memory: 300MB, concurrency: 4}\nrestart: {first_delay: 10ms}\n")
    return file


def limit(network: AgentNetwork, key: str) -> Any:
    return network.get_network_stats()["mods"]["echo"]["limits"][key]["limit"]


async def test_it_is_in_force_and_the_network_goes_before(network: AgentNetwork, mod_file: Path) -> None:
    assert (await network.load_mod("./echo", limits={"open_files": 99})).success
    assert (limit(network, "memory"), limit(network, "open_files")) == (300_000_000, 99)
    assert (await network.reload_mod("echo", config={"x": 1})).success
    assert (limit(network, "memory"), limit(network, "open_files")) == (300_000_000, 99)
    await network.unload_mod("echo")
    assert (await network.load_mod("./echo", limits={"memory": "400MB"})).success
    assert limit(network, "memory") == 400_000_000


async def test_an_edit_is_taken_over_by_a_reload_and_mistakes_leave_the_old_one(
    network: AgentNetwork, mod_file: Path
) -> None:
    assert (await network.load_mod("./echo")).success
    mod_file.write_text("limits: {memory: 350MB}")
    assert (await network.reload_mod("echo")).success
    assert limit(network, "memory") == 350_000_000
    mod_file.write_text("limits:\n  memory: plenty")
    failed = await network.reload_mod("echo")
    assert failed.error == "bad_config"
    assert f"{mod_file}:2: limits.memory: expected a size" in str(failed.message)
    assert network.get_loaded_mods()["echo"]["state"] == "ready"
    assert limit(network, "memory") == 350_000_000
    await network.unload_mod("echo")
    failed = await network.load_mod("./echo")
    assert (failed.error, str(mod_file) in str(failed.message)) == ("bad_config", True)
    assert network.get_loaded_mods() == {}


async def test_a_restart_after_a_fault_runs_the_last_good_one(network: AgentNetwork, mod_file: Path) -> None:
    assert (await network.load_mod("./echo")).success
    mod_file.write_text("half an edit: [")
    os.kill(network.get_loaded_mods()["echo"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_network_stats()["mods"]["echo"]["restarts"] == 1)
    assert limit(network, "memory") == 300_000_000


async def test_a_changed_network_file_is_compared_with_what_was_asked_for(
    make_network: Callable[..., AgentNetwork], mod_file: Path
) -> None:
    network = make_network(mods=["./echo"])
    await network.initialize()
    assert limit(network, "memory") == 300_000_000
    same = make_network(mods=["./echo"]).config
    assert (await network.reconfigure(same)).changed == {}
    other = make_network(mods=[{"path": "./echo", "limits": {"memory": "200MB"}}]).config
    assert (await network.reconfigure(other)).changed["echo"].success
    assert limit(network, "memory") == 200_000_000


async def test_a_mistake_of_a_mod_of_the_file_is_its_own(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod, mod_file: Path
) -> None:
    write_mod("fine")
    mod_file.write_text("limits: 3")
    network = make_network(mods=["./echo", "./fine"])
    await network.initialize()
    states = {mod: entry["state"] for mod, entry in network.get_loaded_mods().items()}
    assert states == {"echo": "failed", "fine": "ready"}
    assert str(mod_file) in network.get_network_stats()["mods"]["echo"]["last_error"]
    mod_file.write_text("")
    assert (await network.reload_mod("echo")).success


async def test_a_mod_yaml_is_read_beside_the_loop(
    network: AgentNetwork, mod_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the mod's file, and may take a second to read: the network serves meanwhile."""
    threads: set[int] = set()
    parse = mod_file_reader.parse_yaml

    def noted(*args: Any, **more: Any) -> Any:
        threads.add(threading.get_ident())
        return parse(*args, **more)

    monkeypatch.setattr(mod_file_reader, "parse_yaml", noted)
    assert (await network.load_mod("./echo")).success
    assert (await network.reload_mod("./echo")).success
    assert (await network.restart_mod("./echo")).success
    assert threads
    assert threading.get_ident() not in threads


async def test_loads_keep_the_order_in_which_they_were_asked_for(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    names = [f"mod{index}" for index in range(6)]
    for name in names:
        write_mod(name)
    (tmp_path / "mods" / names[0] / "mod.yaml").write_text("# long\n" * 3000)
    loads = [network.load_mod(f"./{name}") for name in names]
    assert all(response.success for response in await asyncio.gather(*loads))
    assert list(network.get_loaded_mods()) == names
