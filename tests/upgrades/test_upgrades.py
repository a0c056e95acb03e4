"""What a former version left behind, started by this one: nothing of it is lost.

A fixture is a network file, a mod and a state folder, made by `make.py` under that version.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests import warm

pytestmark = pytest.mark.anyio

FIXTURES = sorted(path for path in Path(__file__).parent.glob("v*") if path.is_dir())


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
async def test_a_network_goes_on_where_a_former_version_was_killed(fixture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(fixture, folder)
    await goes_on(folder)


@pytest.mark.parametrize(
    "fixture",
    [pytest.param(path, marks=[] if path == FIXTURES[0] else pytest.mark.slow, id=path.name) for path in FIXTURES],
)
async def test_a_copy_of_a_former_versions_journal_is_put_back(fixture: Path, tmp_path: Path) -> None:
    """On another machine, say: with the mods' own files, and without anything else of the journal."""
    folder = tmp_path / "copy"
    shutil.copytree(fixture, folder)
    modvisor(folder, "backup", "monday.db")
    for each in (folder / "state").glob("network.db*"):
        each.unlink()
    modvisor(folder, "restore", "monday.db")
    assert (folder / "monday.db").exists()
    await goes_on(folder)


def modvisor(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "modvisor.supervisor.cli", *words]
    with warm.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said


async def goes_on(folder: Path) -> None:
    secret = (folder / "alice.secret").read_text()
    async with AgentNetwork.load(folder / "network.yaml") as network:
        assert list(network.get_loaded_mods()) == ["counter", "wiki", "fragile"]
        states = {mod_id: mod["state"] for mod_id, mod in network.get_loaded_mods().items()}
        assert states == {"counter": "ready", "wiki": "ready", "fragile": "quarantined"}

        asked = await network.process_external_event(Event("count.up", "agent:alice", "mod:counter", secret=secret))
        assert asked.data == {"count": 4}, "the checkpoint of three events, and one more"
        page = await network.process_event(Event("wiki.page.get", "agent:alice", payload={"path": "home"}))
        assert page.data["content"] == "written by the version before"

        (late,) = await network.poll_events("alice", wait=10.0)
        assert late.payload["data"]["count"] == 3, "the durable event is handled, from the checkpoint on"
        assert [letter["event"]["event_name"] for letter in await network.dead_letters.list()] == ["count.die"]
        members = Event("system.get_channel_members", "agent:alice", payload={"channel": "dev"}, secret=secret)
        assert (await network.process_external_event(members)).data["members"] == ["alice"]
