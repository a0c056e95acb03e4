"""Commands that the servers, or the end of a node, hold up: whoever asked is told what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cluster.mods import rolling
from tests.conftest import until

from .networks import Nodes, config_of_node, nodes
from .servers import Servers

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

LINGERS = """
    import asyncio, pathlib
    from modvisor.mods import BaseMod

    class Lingers(BaseMod):
        async def initialize(self):
            folder, node = pathlib.Path(self.config["folder"]), self.context.storage_path.parts[-3]
            (folder / f"begun-{node}").touch()
            while WORD == "new" and (folder / f"hold-{node}").exists():
                await asyncio.sleep(0.005)
            return True

    WORD = "old"
"""


def lingering(write_mod: WriteMod, folder: Path, **entry: Any) -> list[dict[str, Any]]:
    return [{"path": write_mod("lingers", LINGERS), "config": {"folder": str(folder)}, "sandbox": "off", **entry}]


async def test_a_command_on_all_nodes_is_over_when_the_last_one_that_had_to_do_it_is_gone(
    nodes: Nodes, write_mod: WriteMod, tmp_path: Path
) -> None:
    mods = lingering(write_mod, tmp_path, placement={"copies": "all"})
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    write_mod("lingers", LINGERS.replace('"old"', '"new"'))
    (tmp_path / "hold-b").touch()
    reloading = asyncio.create_task(a.reload_mod("lingers"))
    records = a._running().cluster.desired.records
    await until(lambda: "lingers" in records and set(records["lingers"].done or ()) == {"a"})
    await b._running().cluster.session.leave()
    async with asyncio.timeout(10):
        done = await reloading
    assert done.success, done
    (tmp_path / "hold-b").unlink()


async def test_what_a_command_has_come_to_is_written_when_the_servers_are_back(
    own_server: Servers, network_id: str, write_mod: WriteMod, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mods = lingering(write_mod, tmp_path)
    config = config_of_node(own_server, network_id, tmp_path, "a", mods, lease=12.0, timeout=0.3)
    async with AgentNetwork.from_config(config, base_dir=tmp_path) as network:
        write_mod("lingers", LINGERS.replace('"old"', '"new"'))
        (tmp_path / "hold-a").touch()
        (tmp_path / "begun-a").unlink()
        reloading = asyncio.create_task(network.reload_mod("lingers"))
        await until((tmp_path / "begun-a").exists)
        own_server[0].kill()
        (tmp_path / "hold-a").unlink()
        await until(lambda: "what came of the reload" in caplog.text)
        await asyncio.to_thread(own_server[0].restart)
        async with asyncio.timeout(20):
            done = await reloading
        assert done.error == "cluster_down", done
        assert "the old one still serves" in str(done.message)


@pytest.mark.parametrize("copies", [1, 2])
async def test_a_command_that_fails_as_nobody_expected_says_so_and_ends_nothing(
    nodes: Nodes, write_mod: WriteMod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    a = nodes("a", lingering(write_mod, tmp_path, placement={"copies": copies}))
    await a.initialize()

    async def fail(*_: object, **__: object) -> None:
        raise LookupError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr(rolling, "replace_worker", fail)
        patched.setattr(a._running().loading.commands, "restart", fail)
        patched.setattr(a._running().cluster.placing.duties, "of_all", lambda: 1 / 0)
        failed = await a.restart_mod("lingers")
    assert failed.error == "internal_error", failed
    assert "LookupError('a fault of ours')" in str(failed.message)
    assert (await a.restart_mod("lingers")).success
