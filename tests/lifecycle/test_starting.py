"""The recipe of the next worker: what it is told, and how a failure names the mod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.cell import Cell
from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor.config import ModConfig
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.journal.state_dir import StateDir
from modvisor.supervisor.lifecycle.incarnation import StartFailed
from modvisor.supervisor.lifecycle.spares import Spares
from modvisor.supervisor.lifecycle.starting import Recipe, naming
from modvisor.supervisor.limits.enforcement import Enforcement
from modvisor.supervisor.process.launcher import make_launcher
from tests.supervisor.world import MemorySnapshots

pytestmark = pytest.mark.anyio

SOURCES = {"pkg.work": {"path": "/old/work.py", "source": b"", "is_package": False}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_recipe(folder: Path, **mod: Any) -> tuple[Recipe, ModConfig]:
    network = parse_config(
        {"network": {"name": "paper", "cgroups": False}, "mods": [{"path": "pkg.work", **mod}]}, base_dir=folder
    )
    enforcement = Enforcement(network.network_id, False, lambda _pids, _groups: {})
    spares = Spares(make_launcher(folder), enforcement, network.spares, Cell())
    return Recipe(network, StateDir(folder / "state"), MemorySnapshots(), enforcement, spares), network.mods[0]


async def test_a_worker_is_told_what_the_config_says(tmp_path: Path) -> None:
    recipe, config = make_recipe(tmp_path, config={"a": 1}, env={"KEY": "x"}, limits={"concurrency": 3})
    order = await recipe.order(await recipe.find(config, from_snapshot=False), 7)
    params = order.params
    assert (order.mod_id, order.number, order.python) == ("work", 7, None)
    assert (params["mod_path"], params["config"], params["env"]) == ("pkg.work", {"a": 1}, {"KEY": "x"})
    assert (params["network_name"], params["concurrency"]) == ("paper", 3)
    assert Path(params["storage_path"]) == tmp_path / "state" / "mods" / "work"
    assert params["sys_path"][0] == str(tmp_path)
    assert "snapshot" not in params
    assert params["limits"] == order.limits_in_force.worker_limits()


async def test_a_restart_runs_the_kept_sources_from_where_they_were(tmp_path: Path) -> None:
    recipe, config = make_recipe(tmp_path)
    assert (await recipe.find(config, from_snapshot=True)).modules is None, "nothing is kept: the working files"
    await recipe.snapshots.write("work", "pkg.work", SOURCES)
    found = await recipe.find(config, from_snapshot=True)
    assert found.modules == SOURCES
    assert (await recipe.order(found, 2)).params["snapshot"] == SOURCES
    assert (await recipe.find(config, from_snapshot=False)).modules is None


async def test_known_code_goes_to_the_next_worker_of_the_same_mod(tmp_path: Path) -> None:
    recipe, config = make_recipe(tmp_path)
    module = {"path": "/work.py", "source": b"1", "is_package": False, "code": b"2"}
    recipe.compiled.take(("pkg.work", None), {"pkg.work": module})
    order = await recipe.order(await recipe.find(config, from_snapshot=False), 1)
    assert list(order.params["compiled"]) == ["/work.py"]


async def test_a_load_reads_the_files_of_its_mod_once_and_the_next_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.supervisor.lifecycle.starting.JUST", 60)
    file = tmp_path / "mods" / "work" / "mod.yaml"
    file.parent.mkdir(parents=True)
    (file.parent / "mod.py").touch()
    file.write_text("version: '1.0'\n")
    recipe, config = make_recipe(tmp_path, path="./work")
    await recipe.read_home(config)
    file.write_text("version: '2.0'\n")
    assert (await recipe.find(config, from_snapshot=False)).config.declared == "1.0"
    assert (await recipe.find(config, from_snapshot=False)).config.declared == "2.0"


async def test_a_changed_network_file_counts_from_the_next_start_on(tmp_path: Path) -> None:
    recipe, config = make_recipe(tmp_path)
    recipe.network = parse_config({"network": {"name": "new"}, "mods": []}, base_dir=tmp_path / "elsewhere")
    order = await recipe.order(await recipe.find(config, from_snapshot=False), 1)
    assert order.params["network_name"] == "new"
    assert order.params["sys_path"][0] == str(tmp_path / "elsewhere")


async def test_a_missing_version_is_a_failed_start(tmp_path: Path) -> None:
    version = tmp_path / "mods" / "work" / "versions" / "1.0"
    version.mkdir(parents=True)
    (version / "mod.py").write_text("")
    recipe, config = make_recipe(tmp_path, path="./work", version="9")
    with pytest.raises(StartFailed, match="mod work: there is no version 9"):
        await recipe.find(config, from_snapshot=False)


async def test_a_missing_variable_is_a_failed_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOON_GONE", "x")
    recipe, config = make_recipe(tmp_path, env={"KEY": {"from": "env:SOON_GONE"}})
    monkeypatch.delenv("SOON_GONE")
    with pytest.raises(StartFailed, match=r"mod work: .*SOON_GONE"):
        await recipe.order(await recipe.find(config, from_snapshot=False), 1)


async def test_storage_that_cannot_be_made_is_a_failed_start(tmp_path: Path) -> None:
    recipe, config = make_recipe(tmp_path)
    (tmp_path / "state").write_text("a file is in the way")
    with pytest.raises(StartFailed, match="mod work: "):
        await recipe.order(await recipe.find(config, from_snapshot=False), 1)


async def test_a_named_failure_keeps_code_and_details() -> None:
    with pytest.raises(StartFailed, match="mod wiki: no") as caught, naming("wiki"):
        raise ModvisorError("no", code=Code.NEEDED, mods=["shop"])
    assert (caught.value.code, caught.value.details) == (Code.NEEDED, {"mods": ["shop"]})
