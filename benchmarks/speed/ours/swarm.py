"""Two hundred mods in one network: until all are there, what they take while nothing happens."""

from __future__ import annotations

import asyncio
import os
import time

import psutil

from ..processes import cpu_seconds, resident
from ..timing import now
from ..work import ping
from .serving import Scene, ask, serving


async def swarm(scene: Scene) -> dict[str, float]:
    plan = scene.plan
    mods = [{"path": "./echo", "id": f"echo{number}"} for number in range(plan.many)]
    begin = now()
    async with serving(scene, *mods) as network:
        took = now() - begin
        assert len(network.get_loaded_mods()) == plan.many
        for number in range(plan.many):
            await ask(network, ping(f"mod:echo{number}"))
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
