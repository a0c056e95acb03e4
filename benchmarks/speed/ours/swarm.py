"""Two hundred mods in one network: until all are there, what they take while nothing happens.

In a process of its own, as `modvisor run` is: what was measured before would be in its memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import anyio.to_thread
import psutil

from ..others import Peer
from ..others import ask as ask_process
from ..peers.answering import answer
from ..plan import Plan
from ..processes import cpu_seconds, resident
from ..rows import OURS
from ..timing import now
from ..work import ping
from .serving import Scene, ask, run, serving


async def swarm(scene: Scene) -> dict[str, float]:
    return await anyio.to_thread.run_sync(ask_process, Peer(OURS, __name__), scene.plan, scene.folder)


async def _measured(scene: Scene) -> dict[str, float]:
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


def main(plan: Plan) -> dict[str, float]:
    logging.getLogger("modvisor").setLevel(logging.ERROR)
    return run(_measured(Scene(plan, Path.cwd())))


if __name__ == "__main__":
    answer(main)
