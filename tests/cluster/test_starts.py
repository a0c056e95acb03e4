"""A mod whose start the servers held up is started when they are back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cluster.kept.mod_log import ModLog
from modvisor.supervisor.cluster.kept.snapshots import ClusterSnapshots
from modvisor.supervisor.cluster.mods.codes import Codes
from modvisor.supervisor.config import ModConfig
from tests.conftest import until

from .conftest import Linked
from .networks import config_of_node, ping
from .servers import Servers
from .test_kept import journal_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

WAITS = """
    import pathlib, time
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Waits(BaseMod):
        def initialize(self):
            folder = pathlib.Path(self.config["folder"])
            (folder / "begun").touch()
            while not (folder / "go").exists():
                time.sleep(0.005)

        @mod_event_handler("test.ping")
        async def ping(self, event):
            return EventResponse(True, data=self.context.fencing_token)
"""

PATIENT = {"lease": 12.0, "timeout": 0.5}
"""The session outlives what the test does to the server; requests fail soon."""


@pytest.mark.parametrize("copies", [1, 2])
async def test_a_mod_whose_checkpoint_could_not_be_read_is_started_again_when_the_servers_are_back(
    own_server: Servers, network_id: str, tmp_path: Path, write_mod: WriteMod, caplog: pytest.LogCaptureFixture,
    copies: int,
) -> None:  # fmt: skip
    entry: dict[str, Any] = {"placement": {"copies": copies}} if copies > 1 else {}
    mods = [{"path": write_mod("waits", WAITS), "config": {"folder": str(tmp_path)}, "sandbox": "off", **entry}]
    config = config_of_node(own_server, network_id, tmp_path, "a", mods, **PATIENT)
    network = AgentNetwork.from_config(config, base_dir=tmp_path)
    starting = asyncio.create_task(network.initialize())
    try:
        await until((tmp_path / "begun").exists)
        own_server[0].stop()
        (tmp_path / "go").touch()
        await until(lambda: caplog.text.count("its checkpoint cannot be read") >= copies)
        own_server[0].cont()
        await starting
        await until(lambda: network.get_loaded_mods()["waits"]["state"] == "ready")
        assert (await ping(network, "waits")).success
    finally:
        own_server[0].cont()
        await network.shutdown()


PIDS = """
    import os, pathlib
    from modvisor.mods import BaseMod

    class Pids(BaseMod):
        def initialize(self):
            (pathlib.Path(self.config["folder"]) / f"pid-{os.getpid()}").touch()
"""


@pytest.mark.parametrize("copies", [1, 2])
async def test_a_mod_whose_claim_is_lost_before_its_start_is_not_started_by_it(
    servers: Servers, network_id: str, tmp_path: Path, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    """The node loses its session while it compares files, and has another one before it goes on."""
    refusal, compares, go_on = Codes.refusal, asyncio.Event(), asyncio.Event()

    async def slow(codes: Codes, config: ModConfig, *, runs_snapshot: bool) -> str | None:
        compares.set()
        await go_on.wait()
        return await refusal(codes, config, runs_snapshot=runs_snapshot)

    monkeypatch.setattr(Codes, "refusal", slow)
    entry: dict[str, Any] = {"placement": {"copies": copies}} if copies > 1 else {}
    mods = [{"path": write_mod("pids", PIDS), "config": {"folder": str(tmp_path)}, "sandbox": "off", **entry}]
    config = config_of_node(servers, network_id, tmp_path, "a", mods, lease=2.0)
    network = AgentNetwork.from_config(config, base_dir=tmp_path)
    starting = asyncio.create_task(network.initialize())
    try:
        await compares.wait()
        cluster = network._running().cluster if network._parts else None
        assert cluster is not None
        first = cluster.session.id
        await (await cluster.link.bucket("nodes")).delete("a")
        await until(lambda: cluster.session.id not in (None, first))
        go_on.set()
        await starting
        await until(lambda: network.get_loaded_mods()["pids"]["state"] == "ready")
        alive = [file for file in tmp_path.glob("pid-*") if Path(f"/proc/{file.name.removeprefix('pid-')}").exists()]
        assert len(alive) == copies
    finally:
        go_on.set()
        await network.shutdown()


async def test_copies_that_go_on_need_not_wait_for_a_mod_that_starts_slowly(
    servers: Servers, network_id: str, tmp_path: Path, write_mod: WriteMod
) -> None:
    mods: list[dict[str, Any]] = [
        {"path": write_mod("slow", WAITS), "config": {"folder": str(tmp_path)}, "sandbox": "off"},
        {"path": write_mod("quick", DIES), "placement": {"copies": 2}},
    ]
    (tmp_path / "go").touch()
    config = config_of_node(servers, network_id, tmp_path, "a", mods, lease=2.0)
    async with AgentNetwork.from_config(config, base_dir=tmp_path) as network:
        cluster, states = network._running().cluster, network.get_loaded_mods
        await until(lambda: {mod["state"] for mod in states().values()} == {"ready"})
        (tmp_path / "go").unlink()
        (tmp_path / "begun").unlink()
        await (await cluster.link.bucket("nodes")).delete("a")
        await until((tmp_path / "begun").exists)
        await until(lambda: states()["quick"]["state"] == "ready")
        assert (await ping(network, "quick")).success
        assert states()["slow"]["state"] != "ready"
        (tmp_path / "go").touch()
        assert (await ping(network, "slow")).success


DIES = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Dies(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            if event.payload.get("die"):
                os._exit(1)
            return EventResponse(True)
"""


async def test_restarts_that_the_servers_hold_up_bring_no_quarantine(
    own_server: Servers, network_id: str, tmp_path: Path, write_mod: WriteMod, caplog: pytest.LogCaptureFixture
) -> None:
    restart = {"max_restarts": 1, "first_delay": 0.01, "max_delay": 0.01}
    mods = [{"path": write_mod("dies", DIES), "restart": restart, "max_attempts": 1}]
    config = config_of_node(own_server, network_id, tmp_path, "a", mods, **{**PATIENT, "timeout": 0.2})
    async with AgentNetwork.from_config(config, base_dir=tmp_path) as network:
        own_server[0].stop()
        try:
            dying = asyncio.create_task(ping(network, "dies", die=True))
            await until(lambda: caplog.text.count("restart failed") >= 3)
        finally:
            own_server[0].cont()
        await until(lambda: network.get_loaded_mods()["dies"]["state"] == "ready")
        assert not (await dying).success
        assert (await ping(network, "dies")).success


async def test_which_version_ran_last_is_not_guessed_while_the_servers_are_away(
    own_server: Servers, linked: Linked, tmp_path: Path
) -> None:
    link = await linked(own_server, "a", timeout=0.3)
    async with journal_of(link, tmp_path, 1) as journal:
        kept = ClusterSnapshots(tmp_path / "snapshots", link, journal.log, lambda: journal.checkpoints.files)
        assert not await kept.is_of("work", "./work"), "it never ran"
        own_server[0].kill()
        with pytest.raises(ModvisorError, match="its last good version cannot be read") as failed:
            await kept.is_of("work", "./work")
        assert failed.value.code == Code.CLUSTER_DOWN


async def test_what_is_kept_of_a_mod_is_read_while_that_of_another_one_is(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mods that come to a node together need not wait for one another: a read may take seconds while servers elect."""
    async with journal_of(await linked(servers), tmp_path, 1) as journal:
        begun, go_on, opened = asyncio.Event(), asyncio.Event(), ModLog.open

        async def slow(log: ModLog) -> None:
            if log.fenced.mod_id == "slow":
                begun.set()
                await go_on.wait()
            await opened(log)

        monkeypatch.setattr(ModLog, "open", slow)
        first = asyncio.create_task(journal.log.of("slow"))
        await begun.wait()
        async with asyncio.timeout(10):
            await journal.log.of("quick")
        go_on.set()
        assert await first is await journal.log.of("slow")
