"""A disk that is full, or turns read-only, while the network runs: a success is on disk, or is no success.

What a kill would leave is read from a copy of the journal's files.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.journal import Journal, LastRun
from tests.agents.registries import password
from tests.disks import fill, in_memory, mounted

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")]

WriteMod = Callable[..., str]
Mend = Callable[[], None] | None


@contextmanager
def full(folder: Path) -> Iterator[Callable[[], Mend]]:
    """A file system of its own, filled to the last byte."""
    with in_memory(folder, "4m"):
        yield lambda: fill(folder).unlink


@contextmanager
def read_only(folder: Path) -> Iterator[Callable[[], Mend]]:
    """An ext4 that gives up, as after an error of the disk: all writes fail with EROFS."""
    image = folder.with_name("image")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    made = (
        subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False)
        if shutil.which("mkfs.ext4")
        else None
    )
    if made is None or made.returncode != 0:
        pytest.skip("no ext4 can be made here")

    def abort() -> Mend:
        subprocess.run(["mount", "-o", "remount,abort", folder], capture_output=True, check=False)
        with pytest.raises(OSError, match="Read-only"):
            (folder / "probe").touch()
        return None

    with mounted(folder, "-o", "loop,errors=remount-ro", str(image)):
        yield abort


def left_by_a_kill(state: Path, folder: Path) -> LastRun:
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(state / f"network.db{suffix}", folder / f"network.db{suffix}")
    journal = Journal(folder / "network.db")
    try:
        return journal.open()
    finally:
        journal.close()


class Asked:
    """Sends commands. Each is done, or refused with ``storage_full``."""

    def __init__(self, network: AgentNetwork) -> None:
        self._network = network
        self.refused: list[str] = []

    def was_done(self, what: str, response: EventResponse) -> bool:
        if not response.success:
            assert response.error == "storage_full", (what, response)
            assert any(why in str(response.message) for why in ("full", "disk I/O error", "readonly")), response
            self.refused.append(what)
        return response.success

    async def system(self, name: str, **payload: Any) -> bool:
        event = Event(f"system.{name}", "system:system", payload=payload)
        return self.was_done(name, await self._network.process_event(event))


@pytest.mark.parametrize("disk", [full, read_only])
async def test_what_is_answered_with_success_outlives_a_kill(
    make_network: Callable[..., AgentNetwork],
    write_mod: WriteMod,
    tmp_path: Path,
    disk: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with disk(tmp_path / "disk") as break_disk:
        for name in ("echo", "other", "third"):
            write_mod(name)
        # A strict audit would refuse all of them before the journal is asked, see tests/audit.
        groups = {"guests": {"password_hash": password("x")}}
        network = make_network({"storage": "disk/state"}, agent_groups=groups, audit="best_effort")
        await network.initialize()
        try:
            await use(network, break_disk, tmp_path)
        finally:
            await network.shutdown()


async def use(network: AgentNetwork, break_disk: Callable[[], Mend], tmp_path: Path) -> None:
    for number in range(5):
        assert (await network.register_agent(f"old{number}")).success
    asked = Asked(network)
    assert await asked.system("add_channel_member", channel="general", agent_id="old0")
    assert await asked.system("add_channel_member", channel="general", agent_id="old1")
    assert (await network.load_mod("./echo")).success
    assert (await network.load_mod("./other")).success
    secret = (await network.register_agent("kept")).data["secret"]
    mend = break_disk()

    for number in range(40):
        filler = {"text": "x" * 3000}
        asked.was_done("register", await network.register_agent(f"new{number}", filler))
    asked.was_done("retake", await network.register_agent("kept", {"text": "x" * 3000}))
    for number in range(5):
        await asked.system("add_channel_member", channel="x" * 100 + str(number), agent_id="old2")
    await asked.system("remove_channel_member", channel="general", agent_id="old0")
    await asked.system("remove_channel", channel="general")
    asked.was_done("unregister", await network.unregister_agent("old1"))
    asked.was_done("audience", await network.set_audience("echo", agents=["agent:old0"]))
    asked.was_done("load", await network.load_mod("./third", {"text": "x" * 3000}))
    asked.was_done("unload", await network.unload_mod("other"))
    asked.was_done("reload", await network.reload_mod("echo", config={"text": "x" * 3000}))
    asked.was_done("swap", await network.swap_mod("echo", "./third", {"text": "x" * 3000}, mod_id="swapped"))
    assert {"register", "load", "add_channel_member"} <= set(asked.refused)

    stats, directory = network.get_loaded_mods(), set(network.agent_directory())
    parts = network._parts
    assert parts is not None
    channels = {name: set(parts.agents.channel_members(name) or ()) for name in parts.agents.channels()}
    await parts.journal.committed()
    left = left_by_a_kill(network.state_dir.root, tmp_path / "after")
    assert {agent.agent_id for agent in left.agents} == directory
    assert {name: set(members) for name, members in left.channels.items()} == channels
    assert {mod.mod_id for mod in left.mods} == set(stats)
    if "retake" in asked.refused:
        assert network.authenticate("kept", secret)
    if "audience" in asked.refused:
        assert network.get_audience("echo").data["versions"][0]["audience"] is None
    if mend is not None:
        mend()
        async with asyncio.timeout(5):
            assert (await network.register_agent("later")).success
            assert (await network.load_mod("./third", mod_id="later")).success
