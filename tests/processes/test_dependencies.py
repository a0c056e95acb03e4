"""Mods that require others, with real workers: loaded first, kept while they are needed, and told of."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.network import StartError
from tests.conftest import until, worker_pids

pytestmark = pytest.mark.anyio

MOD = """
    import asyncio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Mod(BaseMod):
        version = "{version}"
        requires = {requires!r}
        optional = {optional!r}

        def initialize(self):
            self.told = []

        async def on_dependency(self, mod_id, what):
            self.told.append([mod_id, what])
            if what == "ready":
                answer = await self.context.request(f"mod:{{mod_id}}", "test.version")
                self.told.append([answer.data, "answered"])

        @mod_event_handler("test.version")
        async def say(self, event):
            return EventResponse(True, data=self.version)

        @mod_event_handler("test.told")
        async def say_told(self, event):
            return EventResponse(True, data=list(self.told))

        @mod_event_handler("test.ask")
        async def ask(self, event):
            answer = await self.context.request(event.payload["mod"], "test.version", {{}}, timeout=5)
            return EventResponse(True, data=answer.data if answer.success else answer.error)
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a mod that tells what it is told; returns its mod_path."""

    def write(
        name: str, version: str = "1.0", requires: Any = (), optional: Any = (), *, more: str = "", **files: str
    ) -> str:
        home = tmp_path / "mods" / name
        home.mkdir(parents=True, exist_ok=True)
        source = MOD.format(version=version, requires=list(requires), optional=list(optional))
        (home / "mod.py").write_text(textwrap.dedent(source) + more)
        for file, text in files.items():
            (home / file.replace("_", ".")).write_text(text)
        return f"./{name.partition('/')[0]}"

    return write


async def ask(network: AgentNetwork, mod_id: str, event_name: str = "test.told", **payload: Any) -> Any:
    response = await network.process_event(Event(event_name, "agent:a", f"mod:{mod_id}", payload=payload))
    assert response.success, response
    return response.data


async def told(network: AgentNetwork, mod: str, *expected: list[str]) -> None:
    """Wait until it was told that, and nothing else."""
    async with asyncio.timeout(10):
        while (found := await ask(network, mod)) != list(expected) and len(found) <= len(expected):
            await asyncio.sleep(0.005)
    assert found == list(expected)


def stats(network: AgentNetwork, mod: str) -> dict[str, Any]:
    return network.get_network_stats()["mods"][mod]


async def test_what_a_mod_requires_is_loaded_first_and_unloaded_last(network: AgentNetwork, write: Write) -> None:
    write("store", "1.2")
    write("wiki", "2.1", ["store>=1"])
    loaded = await network.load_mod(write("shop", "1.0", ["wiki>=2,<3", "store"]))
    assert loaded.success, loaded
    assert loaded.data["dependencies"] == ["store", "wiki"]
    assert list(network.get_loaded_mods()) == ["store", "wiki", "shop"]
    assert [stats(network, mod)["dependency"] for mod in ("store", "wiki", "shop")] == [True, True, False]
    assert stats(network, "store")["required_by"] == ["wiki", "shop"]
    assert stats(network, "shop")["requires"] == ["wiki<3,>=2", "store"]
    assert await ask(network, "shop", "test.ask", mod="mod:wiki") == "2.1"
    refused = await network.unload_mod("store")
    assert (refused.error, refused.data["needed_by"]) == ("needed", ["wiki", "shop"])
    assert "mod store is needed by wiki, shop; unload them first, or all together" in str(refused.message)
    assert len(network.get_loaded_mods()) == 3
    gone = await network.unload_mod("./store", cascade=True)
    assert gone.data["unloaded"] == ["shop", "wiki", "store"]
    assert (network.get_loaded_mods(), worker_pids()) == ({}, set())


async def test_by_mod_yaml_by_the_networks_file_and_without_being_asked_twice(
    make_network: Callable[..., AgentNetwork], write: Write
) -> None:
    write("wiki", "2.0")
    write("store", "1.0")
    write("shop", "1.0", ["nothing_of_the_kind"], mod_yaml="requires: [wiki]\n")
    network = make_network(mods=[{"path": "./shop", "optional": ["store"]}, "./store"])
    await network.initialize()
    assert {mod: each["state"] for mod, each in network.get_loaded_mods().items()} == {
        "shop": "ready", "store": "ready", "wiki": "ready"
    }  # fmt: skip
    assert (stats(network, "shop")["requires"], stats(network, "shop")["optional"]) == (["wiki"], ["store"])
    assert (stats(network, "store")["required_by"], stats(network, "wiki")["required_by"]) == ([], ["shop"])
    assert (await network.load_mod("./shop", mod_id="second")).data["dependencies"] == []
    assert (await network.load_mod("./shop", mod_id="third", requires=[])).success, "the network goes before"
    assert stats(network, "wiki")["required_by"] == ["shop", "second"]


@pytest.mark.parametrize(
    ("requires", "there", "said"),
    [
        (["nobody"], {}, "shop requires nobody; there is no mod nobody (see 'modvisor mods')"),
        (["wiki>=3"], {"wiki": ("2.0", [])}, "shop requires wiki>=3; available: wiki 2.0"),
        (
            ["wiki", "store<2"],
            {"wiki": ("1.0", ["store>=2"]), "store": ("2.0", [])},
            "shop requires store<2; available: store 2.0",
        ),
        (["wiki"], {"wiki": ("1.0", ["shop"])}, "mods require each other in a circle"),
    ],
)
async def test_what_cannot_be_had_is_explained_and_nothing_is_loaded(
    network: AgentNetwork, write: Write, requires: list[str], there: dict[str, tuple[str, list[str]]], said: str
) -> None:
    for name, (version, wants) in there.items():
        write(name, version, wants)
    failed = await network.load_mod(write("shop", "1.0", requires))
    assert failed.error == "unmet_requirement", failed
    assert said in str(failed.message)
    assert (network.get_loaded_mods(), worker_pids()) == ({}, set())


async def test_a_version_that_is_loaded_is_not_replaced_and_another_may_be_put_beside_it(
    network: AgentNetwork, write: Write
) -> None:
    write("wiki", "1.0")
    write("wiki/versions/2.0", "2.0")
    shop = write("shop", "1.0", ["wiki>=2"])
    await network.load_mod("./wiki")
    failed = await network.load_mod(shop)
    assert "wiki is 1.0; wiki 2.0 could be loaded beside it under an id of its own" in str(failed.message)
    assert (await network.load_mod("./wiki", version="2.0", mod_id="wiki@2")).success
    assert (await network.load_mod(shop)).success
    assert await ask(network, "shop", "test.ask", mod="mod:wiki") == "2.0", "the one it requires answers by that name"
    assert await ask(network, "wiki", "test.ask", mod="mod:wiki@2") == "2.0"
    assert (await network.unload_mod("wiki")).success, "nobody needs this one"
    assert (await network.unload_mod("wiki@2")).error == "needed"


async def test_the_newest_that_will_do_is_taken_if_what_one_gets_unasked_will_not(
    network: AgentNetwork, write: Write
) -> None:
    write("wiki", "1.0")
    write("wiki/versions/2.0", "2.0")
    write("wiki/versions/2.5", "2.5")
    write("wiki/versions/3.0", "3.0")
    assert (await network.load_mod(write("shop", "1.0", ["wiki>=2,<3"]))).success
    assert network.get_loaded_mods()["wiki"]["version"] == "2.5"


async def test_a_dependency_that_fails_fails_the_load_and_takes_the_others_back(
    network: AgentNetwork, write: Write
) -> None:
    write("store")
    write("wiki", "1.0", ["store"], more="\n1 / 0\n")
    failed = await network.load_mod(write("shop", "1.0", ["wiki"]))
    assert (failed.error, failed.data["dependency"], failed.data["reason"]) == (
        "dependency_failed",
        "wiki",
        "import_failed",
    )
    assert "ZeroDivisionError" in str(failed.message)
    write("wiki", "1.0", ["store"])
    failed = await network.load_mod(write("shop", "1.0", ["wiki"], more="\n1 / 0\n"))
    assert failed.error == "import_failed"
    assert (network.get_loaded_mods(), worker_pids()) == ({}, set())


async def test_two_loads_at_once_bring_what_both_require_once(network: AgentNetwork, write: Write) -> None:
    write("wiki", "2.0")
    paths = [write(name, "1.0", ["wiki>=2"]) for name in ("a", "b", "c")]
    loads = await asyncio.gather(network.load_mod("./wiki"), *map(network.load_mod, paths))
    assert [load.success for load in loads] == [True] * 4, loads
    assert sorted(network.get_loaded_mods()) == ["a", "b", "c", "wiki"]


async def test_a_load_that_is_given_up_leaves_nothing(network: AgentNetwork, write: Write) -> None:
    write("wiki", "1.0")
    path = write("shop", "1.0", ["wiki"], more="\nimport time\ntime.sleep(60)\n")
    loading = asyncio.create_task(network.load_mod(path))
    await until(lambda: "shop" in network.get_loaded_mods())
    assert (await network.unload_mod("wiki")).error == "needed", "by one that is on its way"
    loading.cancel()
    await asyncio.wait([loading])
    assert (network.get_loaded_mods(), worker_pids()) == ({}, set())


async def test_at_the_start_a_failure_is_that_of_those_who_need_it(
    make_network: Callable[..., AgentNetwork], write: Write
) -> None:
    write("shop", "1.0", ["wiki"])
    write("crm", "1.0", ["shop"])
    write("wiki", "1.0", more="\n1 / 0\n")
    write("reader", "1.0", optional=["wiki"])
    write("lonely", "1.0", ["nobody"])
    write("hen", "1.0", ["egg"])
    write("egg", "1.0", ["hen"])
    names = ["crm", "shop", "wiki", "reader", "lonely", "hen", "egg"]
    network = make_network(mods=[f"./{name}" for name in names])
    await network.initialize()
    mods = network.get_network_stats()["mods"]
    assert list(mods) == names
    assert [name for name in names if mods[name]["state"] == "ready"] == ["reader"]
    assert "mod crm: its dependency shop failed" in mods["crm"]["last_error"]
    assert "ZeroDivisionError" in mods["crm"]["last_error"]
    assert "lonely requires nobody; there is no mod nobody" in mods["lonely"]["last_error"]
    assert "mods require each other in a circle: " in mods["egg"]["last_error"]
    assert "mod hen: its dependency egg failed" in mods["hen"]["last_error"]
    write("wiki", "1.0")
    assert (await network.reload_mod("wiki")).success
    assert (await network.reload_mod("shop")).success
    assert (await network.reload_mod("crm")).success
    required = make_network({"storage": "other"}, mods=[{"path": "./lonely", "required": True}])
    with pytest.raises(StartError, match="lonely requires nobody"):
        await required.initialize()


async def test_what_was_loaded_for_another_is_so_after_a_restart_of_the_network(
    make_network: Callable[..., AgentNetwork], write: Write
) -> None:
    write("wiki", "2.0")
    write("shop", "1.0", ["wiki>=2"])
    network = make_network()
    await network.initialize()
    assert (await network.load_mod("./shop")).success
    await network.shutdown()
    await network.initialize()
    assert {mod: stats(network, mod)["dependency"] for mod in network.get_loaded_mods()} == {
        "wiki": True,
        "shop": False,
    }
    assert stats(network, "shop")["state"] == "ready"
    os.kill(stats(network, "shop")["pid"], signal.SIGKILL)
    await until(lambda: stats(network, "shop")["restarts"] == 1)
    assert stats(network, "shop")["requires"] == ["wiki>=2"], "of the version that ran"


async def test_a_mod_is_told_of_those_it_requires(network: AgentNetwork, write: Write) -> None:
    write("wiki", "2.0")
    await network.load_mod(write("shop", "1.0", ["wiki"]))
    expected = [["wiki", "ready"], ["2.0", "answered"]]
    await told(network, "shop", *expected)
    assert (await network.reload_mod("wiki")).success
    expected += [["wiki", "reloaded"]]
    await told(network, "shop", *expected)
    os.kill(network.get_loaded_mods()["wiki"]["pid"], signal.SIGKILL)
    expected += [["wiki", "away"], ["wiki", "ready"], ["2.0", "answered"]]
    await told(network, "shop", *expected)
    os.kill(network.get_loaded_mods()["shop"]["pid"], signal.SIGKILL)
    await until(lambda: stats(network, "shop")["restarts"] == 1)
    await told(network, "shop", ["wiki", "ready"], ["2.0", "answered"])


async def test_a_mod_is_told_of_those_it_uses_as_they_come_and_go(network: AgentNetwork, write: Write) -> None:
    write("wiki", "2.0")
    assert (await network.load_mod(write("shop", "1.0", optional=["wiki>=2"]))).success
    assert list(network.get_loaded_mods()) == ["shop"], "what is only used is not loaded for that"
    expected = [["wiki", "away"]]
    await told(network, "shop", *expected)
    assert await ask(network, "shop", "test.ask", mod="mod:wiki") == "no_such_mod"
    await network.load_mod("./wiki", mod_id="wiki@2")
    expected += [["wiki@2", "ready"], ["2.0", "answered"]]
    await told(network, "shop", *expected)
    assert await ask(network, "shop", "test.ask", mod="wiki") == "2.0"
    assert (await network.unload_mod("wiki@2")).success
    expected += [["wiki@2", "away"]]
    await told(network, "shop", *expected)


async def test_a_hook_that_fails_is_a_line_in_the_log_and_the_next_is_called(
    network: AgentNetwork, write: Write
) -> None:
    write("wiki", "2.0")
    more = "\n    def on_dependency(self, mod_id, what):\n        self.told.append(what)\n        return 1 / 0\n"
    assert (await network.load_mod(write("shop", "1.0", ["wiki"], more=more))).success
    await network.reload_mod("wiki")
    await told(network, "shop", "ready", "reloaded")  # type: ignore[arg-type]
    assert stats(network, "shop")["state"] == "ready"
    await until(lambda: any("ZeroDivisionError" in line for line in network.mod_log("shop")))


async def test_a_reload_that_others_could_not_do_with_is_refused(network: AgentNetwork, write: Write) -> None:
    write("wiki", "2.0")
    await network.load_mod(write("shop", "1.0", ["wiki>=2,<3"]))
    write("wiki", "3.0")
    failed = await network.reload_mod("wiki")
    assert (failed.error, failed.data["needed_by"], failed.data["step"]) == ("needed", ["shop"], "start")
    assert "shop requires wiki<3,>=2, and this is wiki 3.0" in str(failed.message)
    swapped = await network.swap_mod("wiki", write("other", "2.5"))
    assert swapped.error == "needed", "it is called otherwise"
    assert (await network.swap_mod("wiki", "./other", alias=True)).success, "unless by that name too"
    assert await ask(network, "shop", "test.ask", mod="mod:wiki") == "2.5"


async def test_a_reload_that_requires_what_is_not_loaded_is_refused(network: AgentNetwork, write: Write) -> None:
    write("store", "1.0")
    await network.load_mod(write("shop", "1.0"))
    write("shop", "1.1", ["store"])
    failed = await network.reload_mod("shop")
    assert (failed.error, failed.data["step"]) == ("unmet_requirement", "start")
    assert "shop requires store; no mod store is loaded; load the required mods first" in str(failed.message)
    assert network.get_loaded_mods()["shop"]["version"] == "1.0"
    await network.load_mod("./store")
    assert (await network.reload_mod("shop")).success
    assert stats(network, "store")["required_by"] == ["shop"]


async def test_a_reload_that_closes_a_circle_is_refused(network: AgentNetwork, write: Write) -> None:
    """The next start of the network could not put them in order."""
    write("store", "1.0")
    write("wiki", "1.0", ["store"])
    await network.load_mod(write("shop", "1.0", ["wiki"]))
    write("store", "1.1", ["shop"])
    failed = await network.reload_mod("store")
    assert failed.error == "unmet_requirement"
    assert "mods require each other in a circle: store requires shop requires wiki requires store" in str(
        failed.message
    )
    assert (await network.unload_mod("store", cascade=True)).data["unloaded"] == ["shop", "wiki", "store"]


async def test_a_changed_network_file_in_the_right_order(
    make_network: Callable[..., AgentNetwork], write: Write
) -> None:
    write("wiki", "2.0")
    write("shop", "1.0", ["wiki"])
    network = make_network(mods=[])
    await network.initialize()
    both = make_network(mods=["./shop", {"path": "./wiki", "limits": {"concurrency": 3}}]).config
    assert (await network.reconfigure(both)).success
    assert stats(network, "wiki")["limits"]["memory"] is not None
    assert stats(network, "wiki")["dependency"] is False, "it is in the file itself"
    without = await network.reconfigure(make_network(mods=["./shop"]).config)
    assert (without.success, without.removed["wiki"].error) == (False, "needed")
    assert (await network.reconfigure(make_network(mods=[]).config)).success
    gone = await network.reconfigure(make_network(mods=["./wiki", "./shop"]).config)
    assert (gone.success, list(gone.added)) == (True, ["wiki", "shop"])
    gone = await network.reconfigure(make_network(mods=[]).config)
    assert (gone.success, list(gone.removed)) == (True, ["shop", "wiki"])


async def test_several_workers_are_one_mod_and_each_is_told(network: AgentNetwork, write: Write) -> None:
    write("wiki", "2.0")
    await network.load_mod("./wiki", workers=2)
    assert (await network.load_mod(write("shop", "1.0", ["wiki>=2"]), workers=2)).success
    for source in ("agent:a", "agent:b", "agent:c", "agent:d"):
        event = Event("test.ask", source, "mod:shop", payload={"mod": "mod:wiki"})
        assert (await network.process_event(event)).data == "2.0"
    await told(network, "shop", ["wiki", "ready"], ["2.0", "answered"])
    assert (await network.unload_mod("wiki")).error == "needed"
    assert (await network.unload_mod("wiki", cascade=True)).data["unloaded"] == ["shop", "wiki"]


async def test_by_event(network: AgentNetwork, write: Write) -> None:
    write("wiki", "2.0")
    write("shop", "1.0", ["wiki"])
    loaded = await network.process_event(Event("system.mod.load", payload={"mod_path": "./shop"}))
    assert loaded.data["dependencies"] == ["wiki"]
    unload = Event("system.mod.unload", payload={"mod_id": "wiki"})
    assert (await network.process_event(unload)).error == "needed"
    odd = Event("system.mod.unload", payload={"mod_id": "wiki", "cascade": "yes"})
    assert "cascade: expected true or false" in str((await network.process_event(odd)).message)
    unload = Event("system.mod.unload", payload={"mod_id": "wiki", "cascade": True})
    assert (await network.process_event(unload)).data["unloaded"] == ["shop", "wiki"]


async def test_what_a_class_requires_has_to_be_written_as_it_is_read(network: AgentNetwork, write: Write) -> None:
    failed = await network.load_mod(write("shop", "1.0", ["wiki >= x"]))
    assert failed.error == "invalid_mod"
    assert "requires: expected the name of a mod and the versions to accept" in str(failed.message)
