"""Hot reload with real workers and real files: a save reloads what it touches, whatever the editor does, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.fleet.commands.autoreload import Saved
from tests.conftest import ECHO, until

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]
MakeNetwork = Callable[..., AgentNetwork]

# Counts what it has answered, so that a reload is known from a new start.
COUNTER = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counter(BaseMod):
        version = "%s"
        count = 0

        def get_state(self):
            return self.count

        def set_state(self, state, from_version):
            self.count = state

        @mod_event_handler("count.up")
        async def up(self, event):
            self.count += 1
            return EventResponse(True, data=[self.version, self.count])
"""


class Follower:
    """What is told of saves."""

    def __init__(self, network: AgentNetwork, queue: asyncio.Queue[Saved]) -> None:
        self.network = network
        self._queue = queue

    async def next(self) -> Saved:
        async with asyncio.timeout(20):
            return await self._queue.get()

    def nothing_more(self) -> bool:
        return self._queue.empty()


@asynccontextmanager
async def watching(network: AgentNetwork, *mods: str) -> AsyncIterator[Follower]:
    """From when the files of these mods are watched."""
    with network.follow_saves() as queue:
        await until(lambda: all(watched_files(network, mod) for mod in mods))
        yield Follower(network, queue)


def watched_files(network: AgentNetwork, mod: str) -> list[str]:
    assert network._parts is not None
    found = network._parts.autoreload.files_of(mod)
    return [os.path.basename(path) for path in found or ()]


@pytest.fixture
async def watched(make_network: MakeNetwork) -> AgentNetwork:
    """A running network without mods, that watches every mod."""
    network = make_network({"watch": True})
    await network.initialize()
    return network


async def ask(network: AgentNetwork, name: str = "count.up", **payload: Any) -> Any:
    response = await network.process_event(Event(name, "agent:alice", payload=payload))
    return response.data if response.success else response


def rename_into(path: Path, text: str) -> None:
    """As most editors save: a new file in place of the old one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    os.replace(fresh, path)


def number_of(network: AgentNetwork, mod: str) -> int:
    """Of the incarnation: how many there have been."""
    assert network._parts is not None
    keeper = network._parts.mods.find(mod)
    assert keeper is not None
    assert keeper.incarnation is not None
    return keeper.incarnation.number


async def test_a_save_reloads_the_mod_with_its_state(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await watched.load_mod(write_mod("counter", COUNTER % "1"))
    await watched.load_mod(write_mod("echo"))
    assert await ask(watched) == ["1", 1]
    pid = watched.get_loaded_mods()["echo"]["pid"]
    async with watching(watched, "counter", "echo") as follower:
        assert watched.get_network_stats()["mods"]["counter"]["watched_files"] == 1
        write_mod("counter", COUNTER % "2")
        saved = await follower.next()
        assert (saved.mod_id, saved.files) == ("counter", (str(tmp_path / "mods/counter/mod.py"),))
        assert saved.response.success, saved.response
        assert await ask(watched) == ["2", 2]
        rename_into(tmp_path / "mods/counter/mod.py", (COUNTER % "3").replace("\n    ", "\n"))
        assert (await follower.next()).response.success
        assert await ask(watched) == ["3", 3]
    assert watched.get_loaded_mods()["echo"]["pid"] == pid, "nobody saved its files"


async def test_a_file_that_is_removed_and_written_anew(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await watched.load_mod(write_mod("counter", COUNTER % "1"))
    file = tmp_path / "mods/counter/mod.py"
    async with watching(watched, "counter") as follower:
        file.unlink()
        write_mod("counter", COUNTER % "2")
        while not (await follower.next()).response.success:
            pass  # a busy machine may need longer than the file is waited for
        assert (await ask(watched))[0] == "2"


async def test_a_folder_that_goes_and_comes_back(watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path) -> None:
    await watched.load_mod(write_mod("counter", COUNTER % "1"))
    async with watching(watched, "counter") as follower:
        shutil.rmtree(tmp_path / "mods/counter")
        gone = await follower.next()
        assert not gone.response.success
        assert "the old one still serves" in str(gone.response.message)
        assert (await ask(watched))[0] == "1"
        write_mod("counter", COUNTER % "2")
        while not (await follower.next()).response.success:
            pass
        assert (await ask(watched))[0] == "2"
        write_mod("counter", COUNTER % "3")
        assert (await follower.next()).response.success, "the new folder is watched"
        assert (await ask(watched))[0] == "3"


async def test_a_link_that_leads_elsewhere_saves_many_files_at_once(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    for version in "12":
        source = "from .helper import VERSION\n" + (COUNTER % version).replace("\n    ", "\n").replace(
            f'"{version}"', "VERSION"
        )
        write_mod(f"v{version}", source, helper=f"VERSION = '{version}'\n")
    link = tmp_path / "mods/counter"
    link.symlink_to("v1")
    await watched.load_mod("./counter")
    assert await ask(watched) == ["1", 1]
    async with watching(watched, "counter") as follower:
        fresh = tmp_path / "mods/counter.new"
        fresh.symlink_to("v2")
        os.replace(fresh, link)
        saved = await follower.next()
        assert saved.response.success, saved.response
        assert await ask(watched) == ["2", 2]
        (tmp_path / "mods/v2/helper.py").write_text("VERSION = 'three'\n")
        assert (await follower.next()).response.success
        assert await ask(watched) == ["three", 3]
        assert number_of(watched, "counter") == 3, "one reload for each of the two saves"


async def test_a_broken_save_is_told_once_and_the_next_one_mends_it(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await watched.load_mod(write_mod("counter", COUNTER % "1"))
    file = tmp_path / "mods/counter/mod.py"
    async with watching(watched, "counter") as follower:
        file.write_text("x = 1\nthis is no python\n")
        broken = await follower.next()
        assert not broken.response.success
        assert f"{file}:2: SyntaxError" in str(broken.response.message)
        assert "the old one still serves" in str(broken.response.message)
        assert await ask(watched) == ["1", 1]
        number = number_of(watched, "counter")
        write_mod("counter", COUNTER % "2")
        mended = await follower.next()
        assert mended.response.success, mended.response
        assert await ask(watched) == ["2", 2]
        assert number_of(watched, "counter") == number + 2


async def test_what_it_imports_from_elsewhere_is_watched_and_what_that_should_have_been(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    """Also a module that a broken version wanted, and one that is learnt by a reload."""

    def version_from(module: str) -> str:
        text = (COUNTER % "0").replace("\n    ", "\n").replace('"0"', "VERSION")
        return f"from {module} import VERSION\n{text}"

    (tmp_path / "shared").mkdir()
    deep = tmp_path / "shared/deep.py"
    deep.write_text("VERSION = 'deep'\n")
    await watched.load_mod(write_mod("counter", COUNTER % "1"))
    async with watching(watched, "counter") as follower:
        write_mod("counter", version_from("missing"))
        assert "No module named 'missing'" in str((await follower.next()).response.message)
        (tmp_path / "missing.py").write_text("VERSION = 'found'\n")
        assert (await follower.next()).response.success
        assert (await ask(watched))[0] == "found"
        deep.write_text("VERSION = (\n")
        write_mod("counter", version_from("shared.deep"))
        assert "deep.py:1: SyntaxError" in str((await follower.next()).response.message)
        deep.write_text("VERSION = 'mended'\n")
        assert (await follower.next()).response.success, "it is known what the broken version had read"
        assert (await ask(watched))[0] == "mended"
        deep.write_text("VERSION = 'edited'\n")
        assert (await follower.next()).files == (str(deep),)
        assert (await ask(watched))[0] == "edited"


async def test_a_new_module_in_a_new_folder_of_the_package(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    optional = "try:\n    from .parts.names import VERSION\nexcept ImportError:\n    VERSION = 'none'\n" + (
        COUNTER % "0"
    ).replace("\n    ", "\n").replace('"0"', "VERSION")
    await watched.load_mod(write_mod("counter", optional))
    async with watching(watched, "counter") as follower:
        assert (await ask(watched))[0] == "none"
        (tmp_path / "mods/counter/parts").mkdir()
        (tmp_path / "mods/counter/parts/names.py").write_text("VERSION = 'parts'\n")
        saved = await follower.next()
        assert saved.files == (str(tmp_path / "mods/counter/parts/names.py"),)
        assert (await ask(watched))[0] == "parts"


async def test_a_save_that_changes_nothing_reloads_nothing(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await watched.load_mod(write_mod("counter", COUNTER % "1"))
    file = tmp_path / "mods/counter/mod.py"
    async with watching(watched, "counter") as follower:
        file.touch()
        rename_into(file, file.read_text())
        (tmp_path / "mods/counter/notes.txt").write_text("not code")
        (tmp_path / "mods/counter/mod.yaml").write_text("limits: {concurrency: 3}\n")
        saved = await follower.next()
        assert saved.files == (str(tmp_path / "mods/counter/mod.yaml"),)
        assert follower.nothing_more()
        assert number_of(watched, "counter") == 2
        assert watched._parts.mods.find("counter").config.limits.concurrency == 3


GATED = """
    import asyncio
    from pathlib import Path
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler
    from .helper import VERSION

    class Gated(BaseMod):
        async def initialize(self):
            gate = Path(self.config["gate"])
            Path(self.config["gate"] + ".reached").touch()
            while not gate.exists():
                await asyncio.sleep(0.005)

        @mod_event_handler("gated.version.get")
        async def version_of(self, event):
            return EventResponse(True, data=VERSION)
"""


async def test_saves_during_a_reload_are_one_more_reload_after_it(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    gate, reached = tmp_path / "gate", tmp_path / "gate.reached"
    gate.touch()
    helper = tmp_path / "mods/gated/helper.py"
    await watched.load_mod(write_mod("gated", GATED, helper="VERSION = 1\n"), {"gate": str(gate)})
    async with watching(watched, "gated") as follower:
        gate.unlink()
        reached.unlink()
        helper.write_text("VERSION = 2\n")
        await until(reached.exists)
        for version in (3, 4, 5):
            helper.write_text(f"VERSION = {version}\n")
        (tmp_path / "mods/gated/other.py").write_text("# new\n")
        gate.touch()
        assert (await follower.next()).response.success
        assert (await follower.next()).response.success
        assert await ask(watched, "gated.version.get") == 5
        assert number_of(watched, "gated") == 3
        helper.touch()
        helper.write_text("VERSION = 6\n")
        assert (await follower.next()).files == (str(helper),)
        assert number_of(watched, "gated") == 4


async def test_a_module_that_two_mods_share_reloads_both(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    shared = tmp_path / "shared.py"
    shared.write_text("VERSION = '1'\n")
    source = "from shared import VERSION\n" + (COUNTER % "0").replace("\n    ", "\n").replace('"0"', "VERSION")
    for name in ("one", "two"):
        await watched.load_mod(write_mod(name, source))
    await watched.load_mod(write_mod("three", ECHO))
    async with watching(watched, "one", "two", "three") as follower:
        shared.write_text("VERSION = '2'\n")
        assert {(await follower.next()).mod_id for _ in range(2)} == {"one", "two"}
        assert {mod: each["version"] for mod, each in watched.get_loaded_mods().items()} == {
            "one": "2", "two": "2", "three": "1.0",
        }  # fmt: skip


async def test_a_mod_that_is_down_is_started_by_a_save(
    make_network: MakeNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/shared.py").write_text("1 / 0\n")
    write_mod("failed", "from lib import shared\n")
    dies = """
        import os
        from modvisor.mods import BaseMod, mod_event_handler

        class Dies(BaseMod):
            @mod_event_handler("count.up")
            async def die(self, event):
                os._exit(3)
    """
    write_mod("dies", dies)
    network = make_network(
        {"watch": True},
        mods=["./failed", {"path": "./dies", "max_attempts": 1, "restart": {"max_restarts": 0}}],
    )
    await network.initialize()
    async with watching(network, "failed", "dies") as follower:
        await ask(network)
        await until(lambda: network.get_loaded_mods()["dies"]["state"] == "quarantined")
        (tmp_path / "mods/dies/mod.py").touch()
        assert (await follower.next()).mod_id == "dies", "nothing else was changed: it is asked for all the same"
        assert network.get_loaded_mods()["dies"]["state"] == "ready"
        write_mod("dies", COUNTER % "2")
        assert (await follower.next()).response.success
        assert (await ask(network))[0] == "2"

        assert network.get_loaded_mods()["failed"]["state"] == "failed"
        (tmp_path / "lib/shared.py").write_text("x = 1\n")
        assert "no subclass" in str((await follower.next()).response.message)
        write_mod("failed", ECHO)
        assert (await follower.next()).response.success
        assert network.get_loaded_mods()["failed"]["state"] == "ready"


async def test_who_is_watched_and_who_is_not(make_network: MakeNetwork, write_mod: WriteMod, tmp_path: Path) -> None:
    """One by one: in the file, at its load; never, where its entry says so; no longer, when it is unloaded or swapped."""
    for name in ("one", "two", "three", "four"):
        write_mod(name, COUNTER % "1")
    network = make_network(mods=["./one", {"path": "./two", "watch": True}])
    await network.initialize()
    assert (await network.load_mod("./three", watch=True)).success
    assert network.watched_mods == ["two", "three"]
    async with watching(network, "two", "three") as follower:
        assert network.get_network_stats()["mods"]["one"]["watched_files"] is None
        write_mod("one", COUNTER % "2")
        write_mod("two", COUNTER % "2")
        assert (await follower.next()).mod_id == "two"
        assert network.get_loaded_mods()["one"]["version"] == "1"
        await network.unload_mod("two")
        await network.swap_mod("three", "./four", watch=True)
        await until(lambda: watched_files(network, "four") == ["mod.py"])
        write_mod("two", COUNTER % "3")
        write_mod("three", COUNTER % "3")
        write_mod("four", COUNTER % "3")
        assert (await follower.next()).mod_id == "four"
        assert follower.nothing_more()
    await network.shutdown()

    other = make_network({"watch": True, "storage": "other"}, mods=["./one", {"path": "./two", "watch": False}])
    await other.initialize()
    assert other.watched_mods == ["one"]


async def test_a_version_that_is_taken_back_is_not_tried_again_before_the_next_save(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    fails = (COUNTER % "2").replace("self.count += 1", "raise RuntimeError('no luck')")
    await watched.load_mod(write_mod("counter", COUNTER % "1"), probation=60)
    async with watching(watched, "counter") as follower:
        await asyncio.gather(*(ask(watched) for _ in range(50)))
        write_mod("counter", fails)
        assert (await follower.next()).response.success
        await asyncio.gather(*(ask(watched) for _ in range(50)))
        await until(lambda: watched.get_loaded_mods()["counter"]["version"] == "1")
        await watched.load_mod(write_mod("other", ECHO))  # has all folders watched anew, and all files looked at
        await until(lambda: watched_files(watched, "other") == ["mod.py"])
        (tmp_path / "mods/counter/mod.py").touch()
        write_mod("other", ECHO.replace("1.0", "2.0"))
        assert (await follower.next()).mod_id == "other"
        assert watched.get_loaded_mods()["counter"]["version"] == "1"
        write_mod("counter", COUNTER % "3")
        assert (await follower.next()).response.success
        assert (await ask(watched))[0] == "3"


async def test_a_mod_with_several_workers_is_reloaded_as_one(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await watched.load_mod(write_mod("counter", COUNTER % "1"), workers=2, partition_by="source")

    async def versions() -> set[str]:
        sources = [f"agent:a{number}" for number in range(8)]
        answers = await asyncio.gather(*(watched.process_event(Event("count.up", source)) for source in sources))
        return {answer.data[0] for answer in answers}

    async with watching(watched, "counter") as follower:
        assert await versions() == {"1"}
        write_mod("counter", COUNTER % "2")
        saved = await follower.next()
        assert (saved.mod_id, saved.response.data["workers"]) == ("counter", 2)
        assert await versions() == {"2"}
        write_mod("counter", "this is no python\n")
        assert not (await follower.next()).response.success
        assert await versions() == {"2"}
        write_mod("counter", COUNTER % "3")
        assert (await follower.next()).response.success
        assert await versions() == {"3"}
        assert follower.nothing_more()


async def test_a_save_of_one_version_reloads_that_version(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    for version in ("1.0", "2.0"):
        write_mod(f"counter/versions/{version}", COUNTER % version)
        (tmp_path / f"mods/counter/versions/{version}/mod.yaml").write_text(f"version: '{version}'\n")
        loaded = await watched.load_mod("./counter", mod_id=f"counter@{version[0]}", version=version)
        assert loaded.success, loaded
    async with watching(watched, "counter@1", "counter@2") as follower:
        file = tmp_path / "mods/counter/versions/2.0/mod.py"
        file.write_text(file.read_text() + "\n# edited\n")
        saved = await follower.next()
        assert (saved.mod_id, saved.files) == ("counter@2", (str(file),))
        assert saved.response.success, saved.response
        assert follower.nothing_more()


@pytest.mark.parametrize("seed", range(4))
async def test_however_files_are_saved_the_last_version_is_what_runs_at_last(
    watched: AgentNetwork, write_mod: WriteMod, tmp_path: Path, seed: int
) -> None:
    """In whatever way, at whatever pace, broken in between."""
    chance = random.Random(f"saves {seed}")
    folder = tmp_path / "mods/counter"
    source = "from .helper import VERSION\n" + (COUNTER % "0").replace("\n    ", "\n").replace('"0"', "VERSION")
    await watched.load_mod(write_mod("counter", source, helper="VERSION = 'first'\n"))

    def overwrite(path: Path, text: str) -> None:
        path.write_text(text)

    def in_two_halves(path: Path, text: str) -> None:
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            file.write(text[len(text) // 2 :])

    def remove_and_write(path: Path, text: str) -> None:
        path.unlink()
        path.write_text(text)

    def aside_and_back(path: Path, text: str) -> None:
        path.rename(path.with_name(path.name + "~"))
        path.write_text(text)

    def whole_folder(path: Path, text: str) -> None:
        fresh = folder.with_name("counter.new")
        shutil.copytree(folder, fresh)
        (fresh / path.name).write_text(text)
        shutil.rmtree(folder)
        fresh.rename(folder)

    ways = [overwrite, rename_into, in_two_halves, remove_and_write, aside_and_back, whole_folder]
    async with watching(watched, "counter"):
        for number in range(10):
            save, text = chance.choice(ways), chance.choice([f"VERSION = {number}\n", "VERSION = (\n"])
            save(folder / "helper.py", text)
            if chance.random() < 0.3:
                chance.choice(ways)(folder / "mod.py", chance.choice([source, source + "# edited\n", "1 / 0\n"]))
            await asyncio.sleep(chance.choice([0, 0, 0.003, 0.02, 0.1]))  # of no consequence for what is to come out
        chance.choice(ways)(folder / "mod.py", source)
        chance.choice(ways)(folder / "helper.py", "VERSION = 'last'\n")
        async with asyncio.timeout(40):
            while (await ask(watched))[0] != "last":
                await asyncio.sleep(0.01)
