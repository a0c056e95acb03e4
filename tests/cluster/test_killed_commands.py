"""A command whose asker, or whose doer, is killed in the middle: it is done once, or said to be not done."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.conftest import until
from tests.processes.conftest import Marked, marked

from .networks import LEASE, Nodes, Process, homes, name_for, nodes, process

__all__ = ["marked", "nodes", "process"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90), pytest.mark.slow]

WriteMod = Callable[..., str]

STARTS = """
    import asyncio
    from pathlib import Path
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Starts(BaseMod):
        async def initialize(self):
            folder = Path(self.config["folder"])
            with open(folder / "starts", "a") as file:
                file.write(f"{self.context.mod_id} {WORD}\\n")
            while WORD in ("new", "next") and not (folder / "go").exists():
                await asyncio.sleep(0.01)
            self.count = 0
            return True

        @mod_event_handler("work.do")
        async def do(self, event):
            self.count += 1
            return EventResponse(True, data=[WORD, self.count])

        def get_state(self):
            return {"count": self.count}

        def set_state(self, state, from_version):
            self.count = state["count"]

    WORD = "old"
"""


def writing(folder: Path) -> dict[str, Any]:
    """Return the keys of a mod that tells of its starts there."""
    (folder / "told").mkdir(exist_ok=True)
    return {"config": {"folder": str(folder / "told")}, "sandbox": {"write": [str(folder / "told")]}}


def starts(folder: Path) -> list[str]:
    file = folder / "told/starts"
    return file.read_text().splitlines() if file.exists() else []


async def do(network: AgentNetwork, n: int) -> EventResponse:
    return await network.process_event(Event("work.do", "agent:alice", event_id=f"work-{n}", payload={}))


def serves(network: AgentNetwork, mod_id: str, node: str) -> Callable[[], bool]:
    return lambda: homes(network).get(mod_id) == node and network.get_loaded_mods()[mod_id]["state"] == "ready"


def edit(folder: Path, mod_id: str) -> None:
    file = folder / "mods" / mod_id / "mod.py"
    file.write_text(file.read_text().replace('WORD = "old"', 'WORD = "new"'))


async def test_a_reload_is_done_though_the_node_that_asked_for_it_is_killed(
    nodes: Nodes, process: Process, write_mod: WriteMod, tmp_path: Path, marked: Marked
) -> None:
    mods = [{"path": write_mod("slow", STARTS), **writing(tmp_path), "placement": {"on": ["a"]}}]
    a, b = nodes("a", mods), process("b", mods)
    await a.initialize()
    await until(lambda: b.is_ready, LEASE * 10)
    edit(tmp_path, "slow")
    command = [sys.executable, "-m", "modvisor", "reload", "slow", "--node", "b", "--file", str(tmp_path / "b.yaml")]
    with subprocess.Popen(command, env=os.environ | marked.variable, stderr=subprocess.PIPE, text=True) as asking:
        await until(lambda: starts(tmp_path) == ["slow old", "slow new"], LEASE * 10)
        b.kill()
        asking.communicate()
    assert asking.returncode != 0, "whoever asked is told that the node is gone"
    (tmp_path / "told/go").touch()
    tries = itertools.count()
    while (await do(a, next(tries))).data[0] != "new":
        await asyncio.sleep(0.01)
    assert starts(tmp_path) == ["slow old", "slow new"]


async def test_a_reload_whose_node_is_killed_is_done_by_the_next_one(
    nodes: Nodes, process: Process, write_mod: WriteMod, tmp_path: Path
) -> None:
    mod_id = name_for("b", "a")
    mods = [{"path": write_mod(mod_id, STARTS), **writing(tmp_path)}]
    a, b = nodes("a", mods), process("b", mods)
    await a.initialize()
    await until(serves(a, mod_id, "b"), LEASE * 10)
    edit(tmp_path, mod_id)
    reload = asyncio.create_task(a.reload_mod(mod_id))
    await until(lambda: starts(tmp_path)[-1] == f"{mod_id} new", LEASE * 10)
    began = len(starts(tmp_path))
    b.kill()
    (tmp_path / "told/go").touch()
    done = await reload
    assert done.success, done
    assert starts(tmp_path)[began:] == [f"{mod_id} old", f"{mod_id} new"], (
        "its last good version, then the reload, once"
    )
    assert (await do(a, 1)).data == ["new", 1]


async def test_a_swap_whose_node_is_killed_is_done_by_the_next_one_with_what_is_kept(
    nodes: Nodes, process: Process, write_mod: WriteMod, tmp_path: Path
) -> None:
    mod_id = name_for("b", "a")
    how = {**writing(tmp_path), "durable": True, "checkpoint_every": 3600}
    mods = [{"path": write_mod(mod_id, STARTS), **how}]
    a, b = nodes("a", mods), process("b", mods)
    await a.initialize()
    await until(serves(a, mod_id, "b"), LEASE * 10)
    assert (await do(a, 1)).data == ["old", 1]
    next_one = write_mod("next", STARTS.replace('WORD = "old"', 'WORD = "next"'))
    swap = asyncio.create_task(a.swap_mod(mod_id, next_one, **how))
    await until(lambda: starts(tmp_path)[-1] == "next next", LEASE * 10)
    b.kill()
    (tmp_path / "told/go").touch()
    done = await swap
    assert done.success, done
    assert homes(a) == {"next": "a"}
    assert starts(tmp_path)[-2:] == [f"{mod_id} old", "next next"]
    assert (await do(a, 2)).data[0] == "next"
    assert (await do(a, 1)).data == ["old", 1], "the answer of before"
