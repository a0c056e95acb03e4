"""What works in an ordinary package works in a mod: resources, pools of processes, inspect, pickle, pkgutil."""

from __future__ import annotations

import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

MOD = """
    import dataclasses, importlib, importlib.resources, inspect, multiprocessing, pickle, pkgutil, runpy, sys, typing
    from concurrent.futures import ProcessPoolExecutor
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler
    from . import helper

    @dataclasses.dataclass
    class Item:
        name: str
        other: "typing.Optional[Item]" = None

    def work(number):
        return number + helper.ONE

    class Usual(BaseMod):
        @mod_event_handler("usual.*")
        def on(self, event):
            return EventResponse(True, data=getattr(self, event.event_name.partition(".")[2])())

        def resource(self):
            return (importlib.resources.files(__package__) / "data.txt").read_text()

        def resource_below(self):
            return importlib.resources.files(__package__).joinpath("sub", "more.txt").read_text()

        def resource_as_file(self):
            with importlib.resources.as_file(importlib.resources.files(__package__) / "data.txt") as path:
                return path.read_text()

        def data_of_the_module(self):
            return pkgutil.get_data(__name__, "data.txt").decode()

        def modules(self):
            return sorted(module.name for module in pkgutil.iter_modules(sys.modules[__package__].__path__))

        def source(self):
            return inspect.getsource(work)

        def source_of_a_module(self):
            return inspect.getsource(helper)

        def hints(self):
            return typing.get_type_hints(Item)["other"].__args__[0].__name__

        def pickled(self):
            return pickle.loads(pickle.dumps(Item("a", Item("b")))).other.name

        def reloaded(self):
            return importlib.reload(helper).ONE

        def run_as_a_script(self):
            return runpy.run_module(f"{__package__}.helper")["ONE"]

        def fork(self): return self.in_pool("fork")
        def spawn(self): return self.in_pool("spawn")
        def forkserver(self): return self.in_pool("forkserver")

        def in_pool(self, method):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                return pool.submit(work, 1).result(timeout=20)
"""

EXPECTED = {
    "resource": "data",
    "resource_below": "more",
    "resource_as_file": "data",
    "data_of_the_module": "data",
    "source": "def work(number):\n    return number + helper.ONE\n",
    "source_of_a_module": "ONE = 1\n",
    "hints": "Item",
    "pickled": "b",
    "reloaded": 1,
    "run_as_a_script": 1,
    "fork": 2,
}


def write_package(tmp_path: Path, write_mod: WriteMod, name: str, init: bool) -> str:
    path = write_mod(name, MOD, helper="ONE = 1\n", **({"__init__": ""} if init else {}))
    folder = tmp_path / "mods" / name
    (folder / "sub").mkdir()
    (folder / "data.txt").write_text("data")
    (folder / "sub" / "more.txt").write_text("more")
    return path


async def answer(network: AgentNetwork, what: str) -> object:
    response = await network.process_event(Event(f"usual.{what}", "agent:a", timeout=30))
    assert response.success, (what, response)
    return response.data


@pytest.mark.parametrize("init", [False, True], ids=["without __init__.py", "with __init__.py"])
async def test_a_mod_is_a_package_like_any_other(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path, init: bool
) -> None:
    assert (await network.load_mod(write_package(tmp_path, write_mod, "usual", init))).success
    assert {what: await answer(network, what) for what in EXPECTED} == EXPECTED
    assert await answer(network, "modules") == ["helper", "mod"]


async def test_a_folder_may_be_named_mod(network: AgentNetwork, write_mod: WriteMod, tmp_path: Path) -> None:
    loaded = await network.load_mod(write_package(tmp_path, write_mod, "mod", False))
    assert loaded.success, loaded
    assert await answer(network, "spawn") == 2, "a process that is started anew finds it too"
    assert (await network.reload_mod("mod")).success
    assert await answer(network, "resource") == "data"


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["fork", "exec"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_pools_of_processes_find_the_functions_of_a_mod(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path, launch: str, method: str
) -> None:
    path = write_package(tmp_path, write_mod, "usual", False)
    assert (await network.load_mod(path, launch=launch)).success
    assert await answer(network, method) == 2
    assert (await network.unload_mod("usual")).success


@pytest.mark.slow
async def test_a_pool_finds_them_under_an_interpreter_of_the_mods_own(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    """It has neither modvisor nor msgpack."""
    venv.create(tmp_path / "own", with_pip=False, symlinks=True)
    path = write_package(tmp_path, write_mod, "usual", False)
    loaded = await network.load_mod(path, python=str(tmp_path / "own"))
    assert loaded.success, loaded
    assert await answer(network, "spawn") == 2
