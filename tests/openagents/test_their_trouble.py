"""What users of OpenAgents had trouble with, on one of its own mods: the trouble that they reported is none here.

The first test is about openagents#37, the others are the success criteria of openagents#102, in their order.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cli.app import app
from modvisor.supervisor.fleet.mods.workers import WorkerGroup
from modvisor.supervisor.lifecycle import Keeper
from tests.conftest import child_pids, open_files, worker_pids

from .ours import Agent, Ours, our_network

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ARTIFACT = "openagents.mods.workspace.shared_artifact"
CACHE = "openagents.mods.core.shared_cache"

ASSISTANT = """\
import logging

logger = logging.getLogger(__name__)


class AssistantNetworkMod(BaseMod):
    def start(self):
        logger.info("started")


default_mod_class = AssistantNetworkMod
"""


@pytest.fixture
async def network(tmp_path: Path) -> Any:
    # Without a mod of theirs in its file, a network preloads nothing of them by itself.
    async with our_network(tmp_path, {}, port=0, preload=["openagents.sdk.base_mod"]) as ours:
        yield ours


@pytest.fixture
async def alice(network: Ours) -> Agent:
    return await network.agent("alice")


async def test_a_mod_whose_import_fails_is_told_with_file_line_and_cause(
    tmp_path: Path, write_mod: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_mod("assistant", ASSISTANT)
    (tmp_path / "network.yaml").write_text(f"network: {{name: groove, port: 0}}\nmods:\n- {path}\n- path: {CACHE}\n")
    monkeypatch.chdir(tmp_path)
    checked = CliRunner().invoke(app, ["validate", "network.yaml", "--json"], prog_name="modvisor")
    (problem,) = json.loads(checked.stdout)["problems"]
    async with AgentNetwork.load(tmp_path / "network.yaml") as network:
        mods = {mod["mod_id"]: mod for mod in network.describe_mods()}
        failure = str(network.get_network_stats()["mods"]["assistant"])
    for told in (problem["message"], failure):
        assert "mods/assistant/mod.py" in told
        assert "NameError: name 'BaseMod' is not defined" in told
    assert "mod.py:6" in problem["message"]
    assert "line 6" in failure or "mod.py:6" in failure
    assert {mod_id: mod["state"] for mod_id, mod in mods.items()} == {"assistant": "failed", "shared_cache": "ready"}


async def test_a_mod_is_loaded_and_unloaded_while_the_network_runs(network: Ours, alice: Agent) -> None:
    before = await alice.ask("shared_cache.create", {"value": "v"})
    assert before["data"]["error"] == "unknown_event"
    assert (await network.network.load_mod(CACHE)).success
    assert (await alice.ask("shared_cache.create", {"value": "v"}))["success"]
    assert (await network.network.unload_mod(CACHE)).success
    after = await alice.ask("shared_cache.create", {"value": "v"})
    assert after["data"]["error"] == "unknown_event"


async def test_many_cycles_work_and_nothing_of_them_is_left(network: Ours, alice: Agent) -> None:
    async def cycle() -> None:
        assert (await network.network.load_mod(CACHE)).success
        assert (await alice.ask("shared_cache.create", {"value": "v"}))["success"]
        assert (await network.network.unload_mod("shared_cache")).success

    def left() -> tuple[Any, ...]:
        gc.collect()
        mods = sum(isinstance(thing, Keeper | WorkerGroup) for thing in gc.get_objects())
        return open_files(), child_pids(), worker_pids(), len(asyncio.all_tasks()), mods

    await cycle()
    before = left()
    for _ in range(10):
        await cycle()
    assert left() == before


async def test_what_a_mod_had_in_memory_is_gone_when_it_is_loaded_again(network: Ours, alice: Agent) -> None:
    basic = "openagents.mods.test_mods.basic_test"
    counts = []
    for _ in range(2):
        assert (await network.network.load_mod(basic)).success
        for _ in range(3):
            answer = await alice.ask("test.get_state")
        counts.append(answer["data"]["event_count"])
        assert (await network.network.unload_mod(basic)).success
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("openagents.mods.workspace.nothing", "no module named"),
        ("nothing.at.all", "nothing"),
        ("./nothing", "nothing"),
        ("../etc/passwd", "mod_path"),
        ("", "must not be empty"),
        ("openagents.models.event", "no"),
    ],
)
async def test_an_invalid_path_is_a_failure_that_names_it(network: Ours, path: str, why: str) -> None:
    answer = await network.network.load_mod(path)
    assert not answer.success
    assert why in str(answer.message)
    assert network.network.get_loaded_mods() == {}


async def test_the_network_answers_all_the_time_while_mods_come_and_go(network: Ours, alice: Agent) -> None:
    assert (await network.network.load_mod(ARTIFACT)).success
    answers: list[bool] = []
    done = asyncio.Event()

    async def asking() -> None:
        while not done.is_set() or len(answers) < 10:
            answers.append((await alice.ask("shared_artifact.list"))["success"])

    task = asyncio.create_task(asking())
    for _ in range(5):
        assert (await network.network.load_mod(CACHE)).success
        assert (await network.network.unload_mod(CACHE)).success
    done.set()
    await task
    assert all(answers)


async def test_the_id_of_a_mod_is_the_last_part_of_its_path(network: Ours) -> None:
    loaded = await network.network.load_mod(CACHE)
    assert loaded.data["mod_id"] == "shared_cache"
    assert loaded.data["mod_path"] == CACHE
    again = await network.network.load_mod(CACHE)
    assert not again.success
    assert "shared_cache" in str(again.message)


async def test_health_shows_a_mod_as_soon_as_it_is_loaded_and_until_it_is_unloaded(network: Ours) -> None:
    async def shown() -> set[str]:
        url = f"http://127.0.0.1:{network.network.port}/api/health"
        async with httpx.AsyncClient(trust_env=False) as client:
            return {mod["mod_id"] for mod in (await client.get(url)).json()["data"]["mods"]}

    assert await shown() == set()
    await network.network.load_mod(CACHE)
    assert await shown() == {"shared_cache"}
    await network.network.unload_mod(CACHE)
    assert await shown() == set()


async def test_the_command_loads_lists_and_unloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: groove, port: 0}\n")
    monkeypatch.chdir(tmp_path)
    made = AgentNetwork.load(tmp_path / "network.yaml")
    await made.initialize(admin=True)

    async def command(*args: str) -> str:
        ran = await asyncio.to_thread(CliRunner().invoke, app, list(args), prog_name="modvisor")
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    try:
        await command("load", CACHE)
        assert "shared_cache" in await command("ps")
        await command("unload", "shared_cache")
        assert "shared_cache" not in await command("ps")
    finally:
        await made.shutdown()
