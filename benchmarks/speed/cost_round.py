"""Measure one round of `cost`, with the modvisor that this interpreter imports.

    python -m benchmarks.speed.cost_round batches|polled|unpolled|memory|start ... [quick]

Prints one JSON object; `batches` prints one for each line that it reads, so that two checkouts can
take turns batch by batch, in the same moments. It uses documented public names only, as `ours` does,
so it measures any checkout. Linux.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modvisor.supervisor import AgentNetwork

from .calibration import Meter, Scale
from .networks import Asked
from .ours import memory, polled, unpolled
from .plan import Plan
from .processes import own_memory, resident
from .serving import Part, Scene, run, serving
from .timing import Figures, in_flight, latencies, now
from .work import PATH, Fields, ping

QUICK = Plan(seconds=0.05, warm_up=20, workers=1, busy=100, batch=100)
BUNDLED = [f"modvisor.mods.workspace.{name}" for name in ("wiki", "project", "messaging", "analytics")]
MODS = (
    "./echo",
    {"path": "./echo", "id": "wide", "limits": {"concurrency": 256}},
    {"path": "./echo", "id": "durable", "durable": True},
    "./passing",
    "./answering",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """Events of one kind, `width` in flight.

    Attributes:
        supervisor: the key of the supervisor's processor time; `workers`: of each mod's.
        wall: how the keys of events per second and of the p99 begin; None: they are not told.
    """

    supervisor: str
    workers: dict[str, str]
    width: int
    make: Callable[[], Fields]
    wall: str | None = None


KINDS = (
    Kind("supervisor_us", {"echo": "worker_us"}, 64, ping),
    Kind("supervisor_256_us", {"wide": "worker_256_us"}, 256, lambda: ping("mod:wide")),
    Kind("supervisor_path_us", {"passing": "passing_us", "answering": "answering_us"}, 64, lambda: ping(None, PATH)),
    Kind("supervisor_durable_us", {"durable": "worker_durable_us"}, 64, lambda: ping("mod:durable"), "durable"),
)


async def batches(scene: Scene) -> Figures:
    """Measure one batch of each kind for each line on standard input."""
    async with serving(scene, *MODS) as asked:
        for kind in KINDS:
            await in_flight(asked.ask, (kind.make() for _ in range(2 * scene.plan.busy)), kind.width)
        while await asyncio.to_thread(sys.stdin.readline):
            found: Figures = {}
            for kind in KINDS:
                found |= await _batch(asked, kind)
            print(json.dumps(found), flush=True)
    return {}


async def _batch(asked: Asked, kind: Kind) -> Figures:
    loaded, count = asked.network.get_loaded_mods(), asked.plan.batch
    times, wall = [], {}
    with Meter([loaded[mod_id]["pid"] for mod_id in kind.workers]) as meter:
        if kind.wall is None:
            await in_flight(asked.ask, (kind.make() for _ in range(count)), kind.width)
        else:
            times = await asked.times((kind.make() for _ in range(count)), kind.width)
    if kind.wall is not None:
        wall = {f"{kind.wall}_per_s": count / meter.seconds, f"{kind.wall}_p99_us": latencies(times)["p99_us"]}
    used = {kind.supervisor: meter.own} | dict(zip(kind.workers.values(), meter.others, strict=True))
    return {key: seconds / count * 1e6 for key, seconds in used.items()} | wall


async def start(scene: Scene) -> Figures:
    """Measure the start of a network with the four bundled mods, the first in its process."""
    config = {"network": {"name": "speed", "storage": str(scene.folder / "state")}, "mods": BUNDLED}
    with Scale() as scale:
        network = AgentNetwork.from_config(config, base_dir=scene.folder)
        cpu, begin = time.process_time(), now()
        await network.initialize()
        try:
            cpu, took = time.process_time() - cpu, now() - begin
            states = {mod["state"] for mod in network.get_loaded_mods().values()}
            assert states == {"ready"}, states
            memory = {"supervisor_rss_MB": resident(os.getpid()), "supervisor_uss_MB": own_memory(os.getpid())}
        finally:
            await network.shutdown()
    job = {"job_step_us": scale.step_us}
    return {"start_4_mods_ms": took * 1e3, "start_4_mods_cpu_ms": cpu * 1e3 * scale.factor} | memory | job


PARTS: dict[str, Part] = {part.__name__: part for part in (batches, polled, unpolled, memory, start)}


def main() -> None:
    words = sys.argv[1:]
    plan, found = QUICK if "quick" in words else Plan(), {}
    for part in (word for word in words if word != "quick"):
        with tempfile.TemporaryDirectory() as folder:
            found |= run(PARTS[part](Scene(plan, Path(folder))))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
