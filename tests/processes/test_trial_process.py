"""Events that may have killed a mod are tried again in a real process of their own, while the mod serves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.pids import heard, namespace
from tests.processes.test_events import load
from tests.processes.test_redelivery import FAST, traffic

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

# An event names a file that it waits for, from its second attempt on, and how it ends.
WORK = """
    @mod_event_handler("work.do")
    async def do(self, event):
        gate, how = event.payload.get("gate"), event.payload.get("how")
        while gate and event.attempt > 1 and not os.path.exists(gate):
            await asyncio.sleep(0.01)
        if how == "exit" or (how == "exit once" and event.attempt == 1):
            os._exit(3)
        if how == "spin":
            while True:
                pass
        if how == "wait":
            await asyncio.sleep(0.3)
        return EventResponse(True, data=[f"{os.getpid()} {os.stat('/proc/self/ns/pid').st_ino}", event.attempt])
"""


def send(network: AgentNetwork, **payload: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(network.process_event(Event("work.do", "agent:alice", payload=payload, timeout=20)))


def stats(network: AgentNetwork) -> dict[str, Any]:
    return network.get_network_stats()["mods"]["work"]


async def trial_pid(network: AgentNetwork, but: int | None = None) -> int:
    """Wait for a trial process, which is another one than ``but``, that has its event in hand."""
    await until(lambda: stats(network)["trial_pid"] not in (None, but) and traffic(network)["in_flight"] > 0)
    return stats(network)["trial_pid"]


async def test_a_mod_serves_while_its_culprit_is_tried(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST)
    culprit = send(network, how="exit", gate=str(tmp_path / "gate"))
    tried = await trial_pid(network)
    answers = [await send(network) for _ in range(20)]
    assert {heard(answer.data[0]) for answer in answers} == {stats(network)["pid"]}
    assert stats(network)["trial_pid"] == tried, "the trial goes on"
    (tmp_path / "gate").touch()
    assert (await culprit).error == "dead_lettered"
    assert stats(network)["pid"] == heard(answers[0].data[0]), "the mod serves on"
    assert (stats(network)["restarts"], stats(network)["crashes"]) == (1, 2)
    assert [(crash["pid"] == tried, crash["trial"]) for crash in network.get_crashes("work")] == [
        (False, False),
        (True, True),
    ]
    await until(lambda: stats(network)["trial_pid"] is None)


async def test_a_suspect_that_does_not_kill_is_answered_by_its_own_process(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST)
    answering = send(network, how="exit once", gate=str(tmp_path / "gate"))
    tried = await trial_pid(network)
    (tmp_path / "gate").touch()
    said, attempt = (await answering).data
    assert (namespace(stats(network)["pid"]) == int(said.split()[1]), attempt) == (False, 2)
    await until(lambda: not psutil.pid_exists(tried))
    assert (stats(network)["restarts"], len(network.get_crashes("work"))) == (1, 1)


async def test_a_trial_process_that_spins_is_killed_and_the_mod_serves_on(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST, limits={"hang_timeout": 0.2})
    culprit = send(network, how="spin")
    await trial_pid(network)
    serves = (await send(network)).data[0]
    assert (await culprit).error == "dead_lettered"
    assert [(crash["cause"], crash["trial"]) for crash in network.get_crashes("work")] == [
        ("hang", False),
        ("hang", True),
    ]
    assert (await send(network)).data[0] == serves


async def test_unnamed_suspects_are_tried_beside(network: AgentNetwork, write_mod: WriteMod, tmp_path: Path) -> None:
    """A process that is killed from outside names nobody."""
    await load(network, write_mod, "work", WORK, restart=FAST)
    suspects = [send(network, how="wait", gate=str(tmp_path / "gate")) for _ in range(6)]
    await until(lambda: traffic(network)["in_flight"] == 6)
    os.kill(stats(network)["pid"], signal.SIGKILL)
    tried = await trial_pid(network)
    assert heard((await send(network)).data[0]) == stats(network)["pid"]
    trial = namespace(tried)
    (tmp_path / "gate").touch()
    assert [(int((await each).data[0].split()[1]), (await each).data[1]) for each in suspects] == [(trial, 2)] * 6


@pytest.mark.parametrize("command", ["reload", "unload", pytest.param("shutdown", marks=pytest.mark.slow)])
async def test_a_command_ends_the_trial(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path, command: str
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST, probation=None, limits={"drain_timeout": 0.2})
    culprit = send(network, how="exit", gate=str(tmp_path / "gate"))
    tried = await trial_pid(network)
    if command == "reload":
        assert (await network.reload_mod("work")).success
        await trial_pid(network, but=tried)
        (tmp_path / "gate").touch()
        assert (await culprit).error == "dead_lettered"
    elif command == "unload":
        assert (await network.unload_mod("work")).success
        assert (await culprit).error == "mod_unloaded"
    else:
        await network.shutdown()
        assert (await culprit).error == "not_running"
    assert not psutil.pid_exists(tried)


async def test_a_durable_culprit_ends_as_a_dead_letter(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST, durable=True, max_attempts=3)
    culprits = [send(network, how="exit", n=n) for n in range(2)]
    innocent = [send(network, how="wait", n=n) for n in range(3)]
    assert [(await each).success for each in innocent] == [True] * 3
    assert {(await each).error for each in culprits} == {"dead_lettered"}
    assert stats(network)["restarts"] <= 2
    assert traffic(network)["durable_under_way"] == 0
