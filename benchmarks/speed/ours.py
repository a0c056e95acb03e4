"""Measure modvisor: whole networks, mods in worker processes, stats and supervision on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import psutil

from modvisor.supervisor import Event, EventResponse

from ..saving import save_to_answer
from .asking import Peer, answer
from .asking import ask as ask_process
from .networks import Asked, free_port, succeed
from .processes import cpu_seconds, own_memory, parent, resident
from .rows import OURS
from .serving import UNPOLLED, Part, Scene, run, serving
from .timing import Figures, awaited_trips, lasting, median_ms, megabytes_per_second, now
from .work import BLOBS, PATH, blob, ping

WIKI = "modvisor.mods.workspace.wiki"
LOOK = 0.005  # seconds
REST = 0.15  # seconds until a new spare worker is at rest


# -- events


async def polled(scene: Scene) -> Figures:
    async with serving(scene, "./echo") as asked:
        return await asked.round_trips()


async def unpolled(scene: Scene) -> Figures:
    async with serving(scene, "./echo", network=UNPOLLED) as asked:
        return await asked.round_trips("off")


async def many(scene: Scene) -> Figures:
    async with serving(scene, "./echo") as asked:
        return await asked.throughput("in_flight_64", 64)


async def wide(scene: Scene) -> Figures:
    async with serving(scene, {"path": "./echo", "limits": {"concurrency": 256}}) as asked:
        return await asked.throughput("in_flight_256", 256)


async def path(scene: Scene) -> Figures:
    """Send events without a destination: the first mod passes them on, the second one answers."""
    async with serving(scene, "./passing", "./answering") as asked:
        found = await asked.throughput("path_64", 64, lambda: ping(None, PATH))
        traffic = {mod_id: mod["traffic"] for mod_id, mod in asked.network.get_network_stats()["mods"].items()}
        assert traffic["passing"]["passed"] == traffic["answering"]["answered"] > 0, traffic
        return found


async def http(scene: Scene) -> Figures:
    port = free_port()
    async with serving(scene, "./echo", network={"port": port}) as asked:
        return await asked.http(port)


async def durable(scene: Scene) -> Figures:
    async with serving(scene, {"path": "./echo", "durable": True}) as asked:
        return await asked.timed_throughput("durable_64", 64)


async def fan_out(scene: Scene) -> Figures:
    plan = scene.plan
    async with serving(scene, "./echo", agents={"inbox_size": plan.news, "expire_after": None}) as asked:
        network, told = asked.network, {"delivered": plan.receivers}
        return await asked.fan_out(network.register_agent, network.poll_events, told)


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
    async with serving(scene) as asked:
        return await _life(asked, "")


async def spare(scene: Scene) -> Figures:
    """Load into a worker that was started before and has come to rest: it touches its pages ahead."""
    async with serving(scene, network={"spares": 1}) as asked:

        async def waiting() -> None:
            while not asked.network.get_network_stats()["spares"]["waiting"]:  # noqa: ASYNC110
                await asyncio.sleep(LOOK)
            await asyncio.sleep(REST)

        return await _life(asked, "_spare", waiting)


async def _life(asked: Asked, kind: str, ready: Callable[[], Awaitable[object]] | None = None) -> Figures:
    """Load and unload. The first load does not count: some work is done once for all mods."""
    search = {"source_id": "agent:alice", "destination_id": "mod:wiki", "payload": {"query": "speed"}}

    async def first() -> None:
        await succeed(asked.network.process_event(Event("wiki.page.search", **search)))

    def gone(loaded: EventResponse) -> None:
        assert not psutil.pid_exists(loaded.data["pid"]), f"the worker of {loaded} is there after its unload"

    found = await asked.mod_lives("wiki" + kind, WIKI, first, gone, ready, config={"public": True})
    return found | await asked.mod_lives("echo" + kind, "./echo", lambda: asked.ask(ping()), gone, ready)


async def recovery(scene: Scene) -> Figures:
    """Kill a worker; measure until the next one has answered, without a backoff."""
    times, cycles = [], scene.plan.cycles
    restart = {"first_delay": 0, "max_delay": 0, "max_restarts": 10 * cycles}
    async with serving(scene, {"path": "./echo", "restart": restart}) as asked:
        for _ in range(cycles):
            await asked.ask(ping())
            made = asked.made(ping())
            begin = now()
            os.kill(asked.pids()[0], signal.SIGKILL)
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
        pids = asked.pids()
        found = {"uss_idle_MB": _mean_memory(pids), "uss_warden_MB": _mean_memory([parent(pid) for pid in pids])}
        for name in names:
            for _ in range(scene.plan.busy):
                await asked.ask(ping(f"mod:{name}"))
        found["uss_busy_MB"] = _mean_memory(pids)
        assert pids == asked.pids(), "a worker was replaced"
    return found


def _mean_memory(pids: list[int]) -> float:
    return statistics.mean(own_memory(pid) for pid in pids)


# -- many mods


async def swarm(scene: Scene) -> Figures:
    """Measure many mods in one network, in a new process: earlier parts would be in its memory."""
    program = f"{__name__} {_swarm.__name__}"
    return await anyio.to_thread.run_sync(ask_process, Peer(OURS, program), scene.plan, scene.folder)


async def _swarm(scene: Scene) -> Figures:
    plan = scene.plan
    begin = now()
    mods = [{"path": "./echo", "id": f"echo{number}"} for number in range(plan.many)]
    async with serving(scene, *mods) as asked:
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


PARTS: dict[str, Part] = {
    part.__name__: part
    for part in (
        life, spare, recovery, save, memory, polled, unpolled, many, wide, path, http, durable, fan_out, blobs, swarm,
    )
}  # fmt: skip

if __name__ == "__main__":
    logging.getLogger("modvisor").setLevel(logging.ERROR)
    answer(lambda plan: (PARTS | {"_swarm": _swarm})[sys.argv[1]](Scene(plan, Path.cwd())), run)
