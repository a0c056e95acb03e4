"""Spare workers: a load takes one that waits, which is like any other worker and has no fate of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.ipc.cell import Cell
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.cell import spare_cell
from modvisor.supervisor.config import ModConfig, mod_config
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.config.yaml.source import ConfigError
from modvisor.supervisor.lifecycle.spares import Spares
from modvisor.supervisor.limits.enforcement import Enforcement
from modvisor.supervisor.process.children import ExecLauncher
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.process.launcher import Launcher, make_launcher
from modvisor.supervisor.process.process import WorkerProcess
from tests import warm
from tests.conftest import until
from tests.processes.conftest import Marked
from tests.processes.test_forked import LOOKS

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

WriteMod = Callable[..., str]
MakeNetwork = Callable[..., AgentNetwork]

LIMITS = {"memory": "300MB", "disk": "50MB", "open_files": 100, "cpu_seconds": 50}

# Tells what holds for the process, and ends it when it is asked to.
SELF = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Self(BaseMod):
        @mod_event_handler("self.tell")
        async def tell(self, event):
            print("told", event.payload, flush=True)
            read = lambda name: open(f"/proc/self/{name}").read()
            return EventResponse(True, data={
                "limits": read("limits"), "oom": read("oom_score_adj"), "cgroup": read("cgroup"), "env": dict(os.environ),
            })

        @mod_event_handler("self.kill")
        async def kill(self, event):
            os.kill(os.getpid(), 9)
"""


def spares(network: AgentNetwork) -> dict[str, int]:
    return network.get_network_stats()["spares"]


async def wait_for(network: AgentNetwork, number: int = 1) -> list[int]:
    """Wait until so many spares wait; return their pids, the first to be taken first."""
    await until(lambda: spares(network)["waiting"] == number)
    return [spare.process.pid for spare in network._running().mods.spares._waiting]  # type: ignore[attr-defined]


def state_of(pid: int) -> str:
    """The state of a process, as in proc_pid_stat(5); "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


async def ask(network: AgentNetwork, name: str, mod_id: str, **payload: Any) -> Any:
    response = await network.process_event(Event(name, "agent:alice", f"mod:{mod_id}", payload))
    assert response.success, response
    return response.data


@pytest.fixture
async def network(make_network: MakeNetwork) -> AgentNetwork:
    network = make_network({"spares": 1})
    await network.initialize()
    await wait_for(network)
    return network


async def test_a_load_takes_the_spare_and_the_next_one_is_started(network: AgentNetwork, write_mod: WriteMod) -> None:
    (waiting,) = await wait_for(network)
    loaded = await network.load_mod(write_mod("echo"))
    assert loaded.data["pid"] == waiting
    assert (await ask(network, "test.ping", "echo", i=1))["pong"] == 1
    assert await wait_for(network) != [waiting]
    assert spares(network) == {"wanted": 1, "waiting": 1, "taken": 1, "lost": 0}
    assert (await network.unload_mod("echo")).success
    assert not psutil.pid_exists(waiting)
    assert spares(network)["waiting"] == 1, "an unload is nothing to the spare"


async def test_to_its_mod_a_spare_is_like_any_other_worker(network: AgentNetwork, write_mod: WriteMod) -> None:
    path, seen = write_mod("looks", LOOKS), {}
    for launch in ("exec", "fork"):
        loaded = await network.load_mod(path, mod_id=launch, launch=launch)
        assert loaded.success, loaded
        seen[launch] = await ask(network, "looks.at", launch)
        assert Path(seen[launch].pop("cwd")) == network.state_dir.storage_of(launch)
        assert "modvisor.worker" in psutil.Process(loaded.data["pid"]).cmdline()
    assert spares(network)["taken"] == 1, "the forked one was a spare"
    assert seen["fork"] == seen["exec"]


async def test_limits_and_cgroup_hold_as_in_a_new_worker(network: AgentNetwork, write_mod: WriteMod) -> None:
    path, seen = write_mod("looks", SELF), {}
    for name in ("spare", "new"):
        loaded = await network.load_mod(path, mod_id=name, limits=LIMITS, env={"COLOUR": "red"})
        assert loaded.success, loaded
        assert spares(network)["taken"] == 1
        await network.reconfigure(replace(network.config, spares=0))
        seen[name] = await ask(network, "self.tell", name)
        enforced = network.get_network_stats()["mods"][name]["limits"]
        seen[name]["by"] = {key: limit["enforced_by"] for key, limit in enforced.items()}
    groups = {name: each.pop("cgroup").splitlines()[-1] for name, each in seen.items()}
    assert seen["spare"] == seen["new"]
    assert seen["spare"]["env"]["COLOUR"] == "red"
    if (subtree := network._running().enforcement.cgroups.path) is None:  # type: ignore[attr-defined]
        return
    assert groups["spare"].endswith(f"/{subtree.name}/spare.1")
    assert (subtree / "spare.1").exists()
    await network.unload_mod("spare")
    await until(lambda: not (subtree / "spare.1").exists())


async def test_a_mod_with_a_process_of_its_own_leaves_the_spare_alone(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    path, kept_by = write_mod("echo"), network._running().mods.spares  # type: ignore[attr-defined]
    for how in ({"launch": "exec"}, {"python": sys.executable}, {"command": ["sh"]}):
        assert kept_by.take(mod_config(path, base_dir=tmp_path, **how), spare_cell(network.config)) is None
    assert spares(network) == {"wanted": 1, "waiting": 1, "taken": 0, "lost": 0}


async def test_a_worker_that_was_a_spare_crashes_and_restarts_as_any_other(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    path = write_mod("frail", SELF)
    loaded = await network.load_mod(path, max_attempts=1, restart={"first_delay": 0})
    (waiting,) = await wait_for(network)
    await ask(network, "self.tell", "frail", said="in the spare")
    died = await network.process_event(Event("self.kill", "agent:alice", "mod:frail", event_id="e1"))
    assert not died.success
    await until(lambda: network.get_loaded_mods()["frail"]["state"] == "ready")
    (crash,) = network.get_crashes("frail")
    assert crash["pid"] == loaded.data["pid"]
    assert [event["event_id"] for event in crash["running"]] == ["e1"], "its marks were read"
    assert any("in the spare" in line for line in crash["log"])
    assert network.get_loaded_mods()["frail"]["pid"] == waiting, "the restart took the next spare"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_load_does_not_stumble_over_a_spare_that_cannot_run(
    network: AgentNetwork, write_mod: WriteMod, signum: int
) -> None:
    (waiting,) = await wait_for(network)
    os.kill(waiting, signum)
    await until(lambda: state_of(waiting) not in ("S", "R"))
    loaded = await network.load_mod(write_mod("echo"))
    assert loaded.success, loaded
    assert loaded.data["pid"] != waiting
    await until(lambda: not psutil.pid_exists(waiting))
    assert spares(network)["lost"] == 1


async def test_a_spare_that_ends_while_it_waits_is_replaced(
    network: AgentNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modvisor.supervisor.lifecycle.spares.FIRST_PAUSE", 0.01)
    (waiting,) = await wait_for(network)
    os.kill(waiting, signal.SIGKILL)
    await until(lambda: spares(network)["lost"] == 1)
    assert await wait_for(network) != [waiting]
    assert f"the spare worker (pid {waiting}) ended while it waited: signal SIGKILL" in caplog.text


async def test_a_spare_outlives_its_guardian(network: AgentNetwork, write_mod: WriteMod) -> None:
    (waiting,) = await wait_for(network)
    guardian = psutil.Process(waiting).parent().parent()
    guardian.kill()
    await until(lambda: not guardian.is_running())
    loaded = await network.load_mod(write_mod("echo"))
    assert loaded.data["pid"] == waiting
    assert await wait_for(network) != [waiting], "another guardian has started it"


async def test_a_spare_with_other_variables_is_not_used(
    network: AgentNetwork, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch
) -> None:
    (waiting,) = await wait_for(network)
    monkeypatch.setenv("PYTHONCOLOUR", "red")
    path = write_mod("looks", SELF)
    loaded = await network.load_mod(path)
    assert loaded.data["pid"] != waiting
    assert (await ask(network, "self.tell", "looks"))["env"]["PYTHONCOLOUR"] == "red"


async def test_the_number_of_spares_changes_with_the_file(network: AgentNetwork) -> None:
    config = network.config
    changes = await network.reconfigure(replace(config, spares=3))
    assert not changes.needs_restart
    pids = await wait_for(network, 3)
    await network.reconfigure(replace(config, spares=0))
    assert spares(network)["waiting"] == 0
    await until(lambda: not any(map(psutil.pid_exists, pids)))
    assert spares(network)["lost"] == 0


async def test_nothing_of_a_spare_is_left_after_a_shutdown(network: AgentNetwork, write_mod: WriteMod) -> None:
    subtree = network._running().enforcement.cgroups.path  # type: ignore[attr-defined]
    children = psutil.Process((await wait_for(network))[0]).parents()[:2]
    await network.load_mod(write_mod("echo"))  # a spare is about to be started
    await network.shutdown()
    assert not any(child.is_running() for child in children)
    assert subtree is None or not subtree.exists()


SUPERVISOR = """
import asyncio, sys
from modvisor.supervisor import AgentNetwork

async def main():
    config = {"network": {"name": "n", "storage": "state", "spares": 2}}
    async with AgentNetwork.from_config(config, base_dir=sys.argv[1]) as network:
        while network.get_network_stats()["spares"]["waiting"] < 2:
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_spares_end_with_a_supervisor_that_is_killed(tmp_path: Path, marked: Marked) -> None:
    environment = {**os.environ, **marked.variable}
    with warm.Popen([sys.executable, "-c", SUPERVISOR, str(tmp_path)], stdout=-1, env=environment) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "ready\n"
        assert len(marked.alive()) >= 5, "guardian, two wardens, two spares"
        supervisor.kill()
    await marked.gone_within(1.0)


async def test_there_is_no_spare_unless_the_config_wants_one(make_network: MakeNetwork, write_mod: WriteMod) -> None:
    network = make_network()
    await network.initialize()
    assert (await network.load_mod(write_mod("echo"))).success
    assert spares(network) == {"wanted": 0, "waiting": 0, "taken": 0, "lost": 0}


# -- what keeps them


@asynccontextmanager
async def kept(launcher: Launcher, wanted: int = 1) -> AsyncIterator[Spares]:
    """Spares that are kept until the end of the block, and then ended."""
    spares = Spares(launcher, Enforcement("n", False, lambda _pids, _groups: {}), wanted, Cell())
    running = asyncio.create_task(spares.run())
    try:
        yield spares
    finally:
        await spares.close()
        await launcher.close()
        await running


@pytest.fixture
def mod(tmp_path: Path, write_mod: WriteMod) -> ModConfig:
    return mod_config(write_mod("echo"), base_dir=tmp_path)


async def test_none_is_started_while_workers_are_asked_for(
    tmp_path: Path, mod: ModConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.supervisor.lifecycle.spares.REST", 0.1)
    loop = asyncio.get_running_loop()
    async with kept(make_launcher(tmp_path)) as spares:
        asked = loop.time()
        assert spares.take(mod, Cell()) is None
        await until(lambda: spares.counts.waiting == 1)
        assert loop.time() >= asked + 0.1


async def test_what_a_spare_has_printed_is_in_the_log_of_its_mod(tmp_path: Path, mod: ModConfig) -> None:
    launcher = make_launcher(tmp_path)
    async with kept(launcher) as spares:
        await until(lambda: spares.counts.waiting == 1)
        spare = spares.take(mod, Cell())
        assert spare is not None
        spare.said += b"before\n"
        said: list[bytes] = []
        process = await spare.become(Launch(said.append))
        await spares.close()
        assert not process.exited.done(), "one that was taken is out of their hands"
        assert said == [b"before\n"]
        process.kill()
        await process.exited
        process.sock.close()


async def test_after_each_failure_the_next_start_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modvisor.supervisor.lifecycle.spares.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("modvisor.supervisor.lifecycle.spares.LONGEST_PAUSE", 0.02)
    async with kept(ExecLauncher(tmp_path, str(tmp_path / "no-python"))):
        await until(lambda: caplog.text.count("no spare worker could be started") >= 3)
    pauses = re.findall(r"no-python.*; another one is started in (\S+) s", caplog.text)
    assert pauses[:3] == ["0.01", "0.02", "0.02"]


async def test_the_end_ends_one_that_is_being_started(tmp_path: Path) -> None:
    async with kept(make_launcher(tmp_path), 8) as spares:
        await until(lambda: spares.counts.waiting >= 1)
    assert spares.counts.waiting == 0


async def test_one_that_is_not_wanted_any_more_when_it_has_started_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, started, go = make_launcher(tmp_path), asyncio.Queue[WorkerProcess](), asyncio.Event()
    launch = launcher.launch

    async def slow(what: Launch) -> WorkerProcess:
        process = await launch(what)
        started.put_nowait(process)
        await go.wait()
        return process

    monkeypatch.setattr(launcher, "launch", slow)
    async with kept(launcher) as spares:
        process = await started.get()
        spares.want(0)
        go.set()
        await process.exited
        assert spares.counts.waiting == 0


def test_the_number_of_spares_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network\.spares: expected a whole number from 0 to 64, got -1"):
        parse_config({"network": {"name": "n", "spares": -1}}, base_dir=tmp_path)
