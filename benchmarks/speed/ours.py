"""Measure modvisor: whole networks, mods in worker processes, stats and supervision on."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
import psutil

from modvisor.ipc.messages import pack
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.runtime import ease_collector

from ..running import run
from ..saving import save_to_answer
from .asking import Peer, answer
from .asking import ask as ask_process
from .calibration import step_us
from .cost_round import FOLDER, at_once, per_event
from .networks import Asked, succeed
from .over_http import AGENTS, over_http
from .plan import Plan
from .processes import cpu_seconds, own_memory, parent, resident
from .rows import OURS
from .timing import awaited_trips, lasting, median_ms, megabytes_per_second, now
from .work import BLOBS, EVENT_SIZE, PATH, blob, ping

Figures = dict[str, float]

WIKI = "modvisor.mods.workspace.wiki"
UNPOLLED = {"polling": "off"}


@dataclass(frozen=True, slots=True)
class Scene:
    """Where one part is measured.

    Attributes:
        folder: an empty folder for this part alone.
        notes: what a reader of the figures must know.
    """

    plan: Plan
    folder: Path
    notes: list[str] = field(default_factory=list)


@asynccontextmanager
async def serving(
    scene: Scene, *mods: Any, network: dict[str, Any] | None = None, base_dir: Path = FOLDER, **keys: Any
) -> AsyncIterator[Asked]:
    """Run a network with these mods and other keys, in a process set up as by `modvisor run`."""
    own = {"name": "speed", "storage": str(scene.folder / "state"), **(network or {})}
    config = {"network": own, "mods": list(mods), **keys}
    async with AgentNetwork.from_config(config, base_dir=base_dir) as running:
        failed = [mod_id for mod_id, mod in running.get_loaded_mods().items() if mod["state"] != "ready"]
        assert not failed, f"not ready: {failed}"
        thresholds = gc.get_threshold()
        ease_collector()
        try:
            yield Asked(running, Event, scene.plan)
        finally:
            gc.set_threshold(*thresholds)
            gc.unfreeze()


# -- events


async def polled(scene: Scene) -> Figures:
    size = len(pack(Event(**ping()).to_dict()))
    assert size == EVENT_SIZE, f"the event has {size} bytes; see work.py"
    async with serving(scene, "./echo") as asked:
        return await asked.round_trips()


async def unpolled(scene: Scene) -> Figures:
    async with serving(scene, "./echo", network=UNPOLLED) as asked:
        return await asked.round_trips("off")


async def many(scene: Scene) -> Figures:
    async with serving(scene, "./echo") as asked:
        return {"in_flight_64": await asked.per_second(64)}


async def cost(scene: Scene) -> Figures:
    """Measure the processor time of one event, scaled by a fixed job in the same moments."""
    async with serving(scene, "./echo") as asked:
        await asked.warm_up()
        supervisor, worker = await per_event(asked.network, at_once, scene.plan.batches, scene.plan.batch)
    return {"supervisor_us": supervisor, "worker_us": worker, "job_step_us": step_us()}


async def wide(scene: Scene) -> Figures:
    async with serving(scene, {"path": "./echo", "limits": {"concurrency": 256}}) as asked:
        return {"in_flight_256": await asked.per_second(256)}


async def path(scene: Scene) -> Figures:
    """Send events without a destination: the first mod passes them on, the second one answers."""
    async with serving(scene, "./passing", "./answering") as asked:
        rate = await asked.per_second(64, lambda: ping(None, PATH))
        traffic = {mod_id: mod["traffic"] for mod_id, mod in asked.network.get_network_stats()["mods"].items()}
        assert traffic["passing"]["passed"] == traffic["answering"]["answered"] > 0, traffic
        return {"path_64": rate}


async def fan_out(scene: Scene) -> Figures:
    plan = scene.plan
    async with serving(scene, "./echo", agents={"inbox_size": plan.news, "expire_after": None}) as asked:
        network, told = asked.network, {"delivered": plan.receivers}
        return await asked.fan_out(network.register_agent, network.poll_events, told)


async def http(scene: Scene) -> Figures:
    """Send events over HTTP, from a process of its own, as 64 agents with a connection each."""
    async with serving(scene, "./echo", network={"port": 0}, agents={"guests_per_address": AGENTS}) as asked:
        pids, port = _pids(asked), asked.network.port
        assert port is not None
        return await over_http(port, "mod:echo", scene.plan.seconds, lambda: cpu_seconds(pids))


async def blobs(scene: Scene) -> Figures:
    found = {}
    async with serving(scene, "./echo") as asked:
        await asked.warm_up()
        for key, size in BLOBS.items():
            data = os.urandom(size)
            response = await asked.call(asked.made(blob(data)))
            assert response.data["blob"] == data
            events = lasting(scene.plan.seconds, lambda data=data: asked.made(blob(data)), fewest=3)
            found[key] = megabytes_per_second(size, await awaited_trips(asked.call, asked.check, events))
    return found


# -- a worker's life


async def life(scene: Scene) -> Figures:
    """Load and unload. The first load does not count: some work is done once for all mods."""

    search = {"source_id": "agent:alice", "destination_id": "mod:wiki", "payload": {"query": "speed"}}

    def gone(loaded: EventResponse) -> None:
        assert not psutil.pid_exists(loaded.data["pid"]), f"the worker of {loaded} is there after its unload"

    async with serving(scene) as asked:

        async def first() -> None:
            await succeed(asked.network.process_event(Event("wiki.page.search", **search)))

        found = await asked.mod_lives("wiki", WIKI, first, gone, config={"public": True})
        return found | await asked.mod_lives("echo", "./echo", lambda: asked.ask(ping()), gone)


async def recovery(scene: Scene) -> Figures:
    """Kill a worker; measure until the next one has answered, without a backoff."""
    times, cycles = [], scene.plan.cycles
    restart = {"first_delay": 0, "max_delay": 0, "max_restarts": 10 * cycles}
    async with serving(scene, {"path": "./echo", "restart": restart}) as asked:
        for _ in range(cycles):
            await asked.ask(ping())
            made = asked.made(ping())
            begin = now()
            os.kill(_pids(asked)[0], signal.SIGKILL)
            response = await asked.call(made)
            times.append(now() - begin)
            asked.check(made, response)
        crashes = asked.network.get_crashes("echo")
        assert len(crashes) == cycles, crashes
    return {"recovery_ms": median_ms(times)}


async def save(scene: Scene) -> Figures:
    """Save a mod's file; measure until the new code answers. The debounce is included."""
    async with serving(scene, base_dir=scene.folder) as asked:
        return {"save_ms": median_ms(await save_to_answer(asked.network, scene.folder, scene.plan.saves))}


async def memory(scene: Scene) -> Figures:
    """Measure workers that are alive at once, before and after their events; and their wardens."""
    names = [f"echo{number}" for number in range(scene.plan.workers)]
    async with serving(scene, *({"path": "./echo", "id": name} for name in names)) as asked:
        pids = _pids(asked)
        found = {"uss_idle_MB": _mean_memory(pids), "uss_warden_MB": _mean_memory([parent(pid) for pid in pids])}
        for name in names:
            for _ in range(scene.plan.busy):
                await asked.ask(ping(f"mod:{name}"))
        found["uss_busy_MB"] = _mean_memory(pids)
        assert pids == _pids(asked), "a worker was replaced"
    return found


def _pids(asked: Asked) -> list[int]:
    return [mod["pid"] for mod in asked.network.get_loaded_mods().values()]


def _mean_memory(pids: list[int]) -> float:
    return statistics.mean(own_memory(pid) for pid in pids)


# -- many mods


async def swarm(scene: Scene) -> Figures:
    """Measure many mods in one network, in a new process: earlier parts would be in its memory."""
    return await anyio.to_thread.run_sync(ask_process, Peer(OURS, __name__), scene.plan, scene.folder)


async def _swarm(plan: Plan) -> Figures:
    logging.getLogger("modvisor").setLevel(logging.ERROR)
    begin = now()
    mods = [{"path": "./echo", "id": f"echo{number}"} for number in range(plan.many)]
    async with serving(Scene(plan, Path.cwd()), *mods) as asked:
        took = now() - begin
        assert len(asked.network.get_loaded_mods()) == plan.many
        for number in range(plan.many):
            await asked.ask(ping(f"mod:echo{number}"))
        await asyncio.sleep(plan.settling)
        others = [process.pid for process in psutil.Process().children(recursive=True)]
        before, own, begin = cpu_seconds(others), time.process_time(), now()
        await asyncio.sleep(plan.idle)
        own, seconds = time.process_time() - own, now() - begin
        return {
            "swarm_load_s": took,
            "swarm_cpu_percent": 100 * own / seconds,
            "swarm_others_cpu_percent": 100 * (cpu_seconds(others) - before) / seconds,
            "swarm_rss_MB": resident(os.getpid()),
        }


PARTS: dict[str, Callable[[Scene], Awaitable[Figures]]] = {
    part.__name__: part
    for part in (life, recovery, save, memory, polled, unpolled, many, cost, wide, path, fan_out, http, blobs, swarm)
}

if __name__ == "__main__":
    answer(_swarm, run)
