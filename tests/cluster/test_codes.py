"""The code of a mod is the same on every node that runs it, or the difference is refused and named."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.cluster.link import NoQuorum
from modvisor.supervisor.cluster.mods.codes import Codes
from modvisor.supervisor.config import ModConfig
from tests.conftest import until

from .networks import config_of_node, homes, ping
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SAYS = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler
from .words import WORD

class Says(BaseMod):
    @mod_event_handler("test.ping")
    async def ping(self, event):
        return EventResponse(True, data={{"says": "{}" + WORD}})
"""

Machine = Callable[..., AgentNetwork]


def write(folder: Path, says: str) -> None:
    """Write the mod as this machine has it."""
    mod = folder / "mods/says"
    mod.mkdir(parents=True, exist_ok=True)
    (mod / "mod.py").write_text(SAYS.format(says))
    (mod / "words.py").write_text('WORD = "!"\n')


@pytest.fixture
async def machine(servers: Servers, network_id: str, tmp_path: Path) -> AsyncIterator[Machine]:
    """Make a node with a folder of its own: `machine("a", "old")`. All end with the test."""
    made: list[AgentNetwork] = []

    def node(name: str, says: str, placement: dict[str, Any], **cluster: Any) -> AgentNetwork:
        folder = tmp_path / name / "net"
        write(folder, says)
        mods = [{"path": "./says", "placement": placement}]
        config = config_of_node(servers, network_id, folder, name, mods, lease=1.0, **cluster)
        made.append(AgentNetwork.from_config(config, base_dir=folder))
        return made[-1]

    yield node
    for network in reversed(made):
        await network.shutdown()


def folder_of(network: AgentNetwork) -> Path:
    return network.config.base_dir


def state(network: AgentNetwork) -> str:
    return network.get_loaded_mods()["says"]["state"]


async def says(network: AgentNetwork) -> Any:
    return (await ping(network, "says")).data["says"]


async def notes(network: AgentNetwork) -> dict[str, str]:
    """Return what `modvisor cluster status` says of mods whose code differs."""
    assert network.everywhere is not None
    return {f"{each['mod_id']}/{each['node']}": each["why"] for each in (await network.everywhere.overview())["mixed"]}


ALL = {"copies": "all"}


async def test_a_copy_with_the_same_files_elsewhere_on_the_disk_starts(machine: Machine) -> None:
    a, b = machine("a", "one", ALL), machine("b", "one", ALL)
    for network in (a, b):
        await network.initialize()
        assert (state(network), await says(network)) == ("ready", "one!")
    assert await notes(b) == {}


async def test_a_copy_with_other_files_is_refused_and_named_until_they_are_the_same(machine: Machine) -> None:
    a, b = machine("a", "one", ALL), machine("b", "two", ALL)
    await a.initialize()
    await b.initialize()
    assert state(b) == "failed"
    why = b.get_network_stats()["mods"]["says"]["last_error"]
    assert "this node's files are " in why
    assert "node a runs " in why
    assert "give all nodes the same files, then 'modvisor reload says'" in why
    assert "says/b" in await notes(b)
    refused = await a.reload_mod("says")
    assert refused.error == "conflict"
    assert "its files differ between the nodes (a: " in str(refused.message)
    shutil.copytree(folder_of(a) / "mods", folder_of(b) / "mods", dirs_exist_ok=True)
    done = await a.reload_mod("says")
    assert done.success, done
    assert (state(b), await says(b), await notes(b)) == ("ready", "one!", {})


async def test_a_copy_that_was_refused_starts_when_no_other_node_runs_other_code(machine: Machine) -> None:
    a, b = machine("a", "one", ALL), machine("b", "two", ALL)
    await a.initialize()
    await b.initialize()
    assert state(b) == "failed"
    await a.shutdown()
    await until(lambda: state(b) == "ready")
    assert await says(b) == "two!"


async def test_an_upgrade_node_by_node_may_be_mixed_and_says_so(machine: Machine) -> None:
    a, b = machine("a", "one", ALL), machine("b", "two", ALL, allow_mixed=True)
    await a.initialize()
    await b.initialize()
    assert (await says(a), await says(b)) == ("one!", "two!")
    assert "runs other code than other nodes (--allow-mixed): " in (await notes(b))["says/b"]
    while "says/b" not in await notes(a):
        pass
    of = {each["node"]: each["mixed"] for each in (await a.everywhere.mods(None))["mods"]}  # type: ignore[union-attr]
    assert of["a"] is None
    assert of["b"].startswith("runs other code than other nodes (--allow-mixed): ")
    shutil.copytree(folder_of(b) / "mods", folder_of(a) / "mods", dirs_exist_ok=True)
    assert (await b.reload_mod("says")).success
    assert (await says(a), await says(b)) == ("two!", "two!")
    await until(lambda: b.get_network_stats()["mods"]["says"]["mixed"] is None)
    while await notes(a):
        pass


async def test_a_mixed_copy_is_none_any_more_when_the_other_node_has_its_files(machine: Machine) -> None:
    a, b = machine("a", "one", ALL), machine("b", "two", ALL, allow_mixed=True)
    await a.initialize()
    await b.initialize()
    assert "says/b" in await notes(b)
    await a.shutdown()
    shutil.rmtree(folder_of(a) / "state", ignore_errors=True)
    again = machine("a", "two", ALL)
    await again.initialize()
    assert (await says(again), await says(b)) == ("two!", "two!")
    while await notes(b):
        pass
    assert b.get_network_stats()["mods"]["says"]["mixed"] is None


async def test_of_two_copies_that_start_at_once_with_other_code_one_serves(machine: Machine) -> None:
    a, b = machine("a", "one", ALL), machine("b", "two", ALL)
    await asyncio.gather(a.initialize(), b.initialize())
    await until(lambda: sorted([state(a), state(b)]) == ["failed", "ready"])


async def test_of_two_nodes_that_start_copies_at_once_with_other_code_one_serves(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal, compared, all_have = Codes.refusal, list[str](), asyncio.Event()

    async def at_once(codes: Codes, config: ModConfig, *, runs_snapshot: bool) -> str | None:
        found = await refusal(codes, config, runs_snapshot=runs_snapshot)
        compared.append(config.mod_id)
        if len(compared) == 4:
            all_have.set()
        await all_have.wait()
        return found

    def states() -> list[str]:
        return sorted(each["state"] for each in copies())

    def copies() -> list[dict[str, Any]]:
        mods = [network.get_network_stats()["mods"]["says"] for network in (a, b)]
        return [each for mod in mods for each in mod.get("workers", ())]

    with monkeypatch.context() as patched:
        patched.setattr(Codes, "refusal", at_once)
        a, b = machine("a", "one", {"copies": 4}), machine("b", "two", {"copies": 4})
        await asyncio.gather(a.initialize(), b.initialize())
    await until(lambda: states() == ["failed", "failed", "ready", "ready"])
    whys = {network: str(await notes(network)) for network in (a, b)}
    assert all("give all nodes the same files, then 'modvisor reload says#" in why for why in whys.values()), whys
    write(folder_of(a), "one")
    write(folder_of(b), "one")
    done = await a.reload_mod("says")
    assert done.success, done
    assert states() == ["ready"] * 4
    for n in range(8):
        event = Event("test.ping", f"agent:{n}", "mod:says")
        assert (await b.process_event(event)).data["says"] == "one!"
    assert (await notes(a), await notes(b)) == ({}, {})


async def test_a_takeover_runs_what_the_network_ran_and_names_other_files(machine: Machine) -> None:
    a, b = machine("a", "one", {"on": ["a", "b"]}), machine("b", "two", {"on": ["a", "b"]})
    await a.initialize()
    await until(lambda: homes(a) == {"says": "a"})
    await b.initialize()
    await a.shutdown()
    await until(lambda: homes(b) == {"says": "b"} and state(b) == "ready")
    assert await says(b) == "one!", "the last good version, whatever the files of node b say"
    assert "runs what the network ran last: the code " in (await notes(b))["says/b"]
    done = await b.reload_mod("says")
    assert done.success, done
    assert (await says(b), await notes(b)) == ("two!", {})
    late = machine("c", "one", {"on": ["a", "b"]})
    await late.initialize()
    assert await says(late) == "two!"


async def test_what_code_a_node_runs_is_told_again_when_the_servers_did_not_take_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = machine("a", "old", {"copies": "all"})
    await a.initialize()
    codes = a._running().cluster.codes
    await until(lambda: "a" in codes._told.get("says", {}))
    before, put, refused = codes._told["says"]["a"], codes._bucket.put, list[str]()

    async def refuse_one(key: str, value: Any, *known: int) -> int:
        if not refused:
            refused.append(key)
            raise NoQuorum("the servers did not answer in time")
        return await put(key, value, *known)

    monkeypatch.setattr(codes._bucket, "put", refuse_one)
    codes.notes["says"] = "what differs"  # as when its files were compared
    codes.look()
    await until(lambda: codes._told["says"]["a"] != before)
    assert refused == ["code.says.a"]
    assert codes._told["says"]["a"][2] == "what differs"


async def test_a_node_that_lacks_a_mod_which_another_one_loads_goes_on_with_its_commands(machine: Machine) -> None:
    a, b = machine("a", "one", {"on": ["b"]}), machine("b", "one", {"on": ["b"]})
    await asyncio.gather(a.initialize(), b.initialize())
    shutil.copytree(folder_of(a) / "mods/says", folder_of(a) / "mods/only")
    loaded = await a.load_mod("./only", placement={"on": ["a"]})
    assert loaded.success, loaded
    async with asyncio.timeout(10):
        done = await a.reload_mod("says")
    assert done.success, done


async def test_what_code_a_node_ran_is_removed_when_the_servers_did_not_take_that(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.supervisor.cluster.mods.codes.RETRY", 0.05)
    a = machine("a", "old", {"copies": "all"})
    await a.initialize()
    codes = a._running().cluster.codes
    await until(lambda: "a" in codes._told.get("says", {}))
    delete, refused = codes._bucket.delete, list[str]()

    async def refuse_one(key: str, *revision: int) -> None:
        if not refused:
            refused.append(key)
            raise NoQuorum("the servers did not answer in time")
        await delete(key, *revision)

    monkeypatch.setattr(codes._bucket, "delete", refuse_one)
    assert (await a.unload_mod("says")).success
    await until(lambda: refused == ["code.says.a"] and "a" not in codes._told["says"])
    assert await codes._bucket.get("code.says.a") is None
