"""A worker's life: from load to first answer, its end, its recovery, its memory, a save of its file."""

from __future__ import annotations

import os
import signal
import statistics
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

from modvisor.supervisor import AgentNetwork, Event

from ...saving import save_to_answer
from ..processes import own_memory, parent
from ..timing import now
from ..work import check, ping
from .serving import Scene, ask, serving

WIKI = "modvisor.mods.workspace.wiki"


async def life(scene: Scene) -> dict[str, float]:
    """Each loaded once before: what a network does once for all its mods is not in it."""
    async with serving(scene) as network:
        starts, stops = await _cycles(network, scene.plan.cycles, WIKI, {"config": {"public": True}}, _search)
        echo_starts, echo_stops = await _cycles(network, scene.plan.cycles, "./echo", {}, _ping)
    return {
        "load_wiki_ms": _median_ms(starts),
        "unload_wiki_ms": _median_ms(stops),
        "load_echo_ms": _median_ms(echo_starts),
        "unload_ms": _median_ms(echo_stops),
    }


async def _cycles(
    network: AgentNetwork,
    cycles: int,
    mod_path: str,
    entry: dict[str, Any],
    first: Callable[[AgentNetwork], Awaitable[None]],
) -> tuple[list[float], list[float]]:
    starts, stops = [], []
    for _ in range(cycles + 1):
        begin = now()
        loaded = await network.load_mod(mod_path, **entry)
        await first(network)
        starts.append(now() - begin)
        assert loaded.success, loaded
        begin = now()
        unloaded = await network.unload_mod(mod_path)
        stops.append(now() - begin)
        assert unloaded.success, unloaded
        pid = loaded.data["pid"]
        assert not psutil.pid_exists(pid), f"worker {pid} is there after its unload"
    return starts[1:], stops[1:]


async def _search(network: AgentNetwork) -> None:
    response = await network.process_event(Event("wiki.page.search", "agent:alice", "mod:wiki", {"query": "speed"}))
    assert response.success, response


async def _ping(network: AgentNetwork) -> None:
    await ask(network, ping())


def _median_ms(times: list[float]) -> float:
    return statistics.median(times) * 1e3


async def recovery(scene: Scene) -> dict[str, float]:
    """Kill -9 until the next process has answered, without the pause that a restart policy makes before it."""
    times, cycles = [], scene.plan.cycles
    restart = {"first_delay": 0, "max_delay": 0, "max_restarts": 10 * cycles}
    async with serving(scene, {"path": "./echo", "restart": restart}) as network:
        for _ in range(cycles):
            await ask(network, ping())
            fields = ping()
            begin = now()
            os.kill(network.get_loaded_mods()["echo"]["pid"], signal.SIGKILL)
            response = await network.process_event(Event(**fields))
            times.append(now() - begin)
            check(fields, response.success, response.data)
        crashes = network.get_crashes("echo")
        assert len(crashes) == cycles, crashes
    return {"recovery_ms": _median_ms(times)}


async def save(scene: Scene) -> dict[str, float]:
    """A save of a mod's file until the first answer of the new code, debounced."""
    async with serving(scene, base_dir=scene.folder) as network:
        return {"save_ms": _median_ms(await save_to_answer(network, scene.folder, scene.plan.saves))}


async def memory(scene: Scene) -> dict[str, float]:
    """Several alive at once: asked nothing, then asked much; and their wardens."""
    names = [f"echo{number}" for number in range(scene.plan.workers)]
    async with serving(scene, *({"path": "./echo", "id": name} for name in names)) as network:
        pids = [mod["pid"] for mod in network.get_loaded_mods().values()]
        found = {"uss_idle_MB": _mean_memory(pids), "uss_warden_MB": _mean_memory([parent(pid) for pid in pids])}
        for name in names:
            for _ in range(scene.plan.busy):
                await ask(network, ping(f"mod:{name}"))
        found["uss_busy_MB"] = _mean_memory(pids)
        assert pids == [mod["pid"] for mod in network.get_loaded_mods().values()], "a worker was replaced"
    return found


def _mean_memory(pids: list[int]) -> float:
    return statistics.mean(own_memory(pid) for pid in pids)
