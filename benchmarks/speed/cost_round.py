"""Measure one round of `cost`, with the modvisor that this interpreter imports.

    python -m benchmarks.speed.cost_round batches|events|start [quick]

Prints one JSON object; `batches` prints one for each line that it reads, so that two checkouts can
take turns batch by batch, in the same moments. It uses documented public names only, so it
measures any checkout. Linux.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from modvisor.supervisor import AgentNetwork, Event

from ..running import run
from .calibration import Scale, step_us
from .processes import cpu_seconds, own_memory, resident
from .timing import in_flight, latencies, now
from .work import Fields, check, ping

Figures = dict[str, float]

FOLDER = Path(__file__).parent  # the one with mods/
WIDTH = 64
BATCH, ALONE, ALONE_BATCHES = 1000, 300, 8
QUICK = 100
USED = 2000  # events that a used worker has had
YOUNG = 10_000  # as `modvisor run` sets the garbage collector
BUNDLED = [f"modvisor.mods.workspace.{name}" for name in ("wiki", "project", "messaging", "analytics")]


async def ask(network: AgentNetwork, fields: Fields) -> None:
    """Send one event. Raise if the answer is wrong."""
    response = await network.process_event(Event(**fields))
    check(fields, response.success, response.data)


async def at_once(network: AgentNetwork, count: int) -> None:
    """Send `count` events, `WIDTH` in flight."""
    await in_flight(lambda fields: ask(network, fields), (ping() for _ in range(count)), WIDTH)


async def one_by_one(network: AgentNetwork, count: int) -> list[float]:
    """Send `count` events, each when the one before is answered. Return their times in seconds."""
    times = []
    for _ in range(count):
        fields = ping()
        begin = now()
        await ask(network, fields)
        times.append(now() - begin)
    return times


async def per_event(
    network: AgentNetwork, send: Callable[[AgentNetwork, int], Awaitable[object]], batches: int, count: int
) -> tuple[float, float]:
    """Return the scaled processor time of an event in microseconds: the supervisor's, the worker's.

    Each is the median of the batches. The supervisor is this process; its threads count.
    """
    pids = [mod["pid"] for mod in network.get_loaded_mods().values()]
    found = []
    for _ in range(batches):
        gc.collect()
        with Scale() as scale:
            own, workers = time.process_time(), cpu_seconds(pids)
            await send(network, count)
            own, workers = time.process_time() - own, cpu_seconds(pids) - workers
        found.append((own / count * 1e6 * scale.factor, workers / count * 1e6 * scale.factor))
    return statistics.median(each[0] for each in found), statistics.median(each[1] for each in found)


def configured(folder: str, mods: Sequence[Any], **network: Any) -> AgentNetwork:
    config = {"network": {"name": "cost", "storage": folder, **network}, "mods": list(mods)}
    return AgentNetwork.from_config(config, base_dir=FOLDER)


async def of_batches(quick: bool) -> Figures:
    """Measure one batch of events, many in flight, for each line on standard input."""
    count = QUICK if quick else BATCH
    with tempfile.TemporaryDirectory() as folder:
        async with configured(folder, ["./echo"]) as network:
            _ease_collector()
            await at_once(network, QUICK if quick else 2 * USED)
            while await asyncio.to_thread(sys.stdin.readline):
                supervisor, worker = await per_event(network, at_once, 1, count)
                print(json.dumps({"supervisor_us": supervisor, "worker_us": worker}), flush=True)
    return {}


async def of_events(quick: bool) -> Figures:
    """Measure memory and round trips of a network with one mod; then its costs without polling."""
    batches, alone = (1, QUICK) if quick else (ALONE_BATCHES, ALONE)
    found: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        async with configured(folder, ["./echo"]) as network:
            pid = network.get_loaded_mods()["echo"]["pid"]
            found["worker_idle_uss_MB"] = own_memory(pid)
            _ease_collector()
            await at_once(network, QUICK if quick else USED)
            found["worker_used_uss_MB"] = own_memory(pid)
            await at_once(network, QUICK if quick else 5 * USED)
            found["round_trip_p50_us"] = latencies(await one_by_one(network, alone))["p50_us"]
            found["supervisor_rss_MB"], found["supervisor_uss_MB"] = resident(os.getpid()), own_memory(os.getpid())
    with tempfile.TemporaryDirectory() as folder:
        async with configured(folder, ["./echo"], polling="off") as network:
            await one_by_one(network, alone)
            mine, workers = await per_event(network, one_by_one, batches, alone)
            found |= {"supervisor_alone_us": mine, "worker_alone_us": workers}
            found["round_trip_off_p50_us"] = latencies(await one_by_one(network, alone))["p50_us"]
    return found | {"job_step_us": step_us()}


async def of_start(quick: bool) -> Figures:
    """Measure the start of a network with the four bundled mods, the first in its process."""
    with tempfile.TemporaryDirectory() as folder, Scale() as scale:
        network = configured(folder, BUNDLED)
        cpu, begin = time.process_time(), now()
        await network.initialize()
        try:
            cpu, took = time.process_time() - cpu, now() - begin
            states = {mod["state"] for mod in network.get_loaded_mods().values()}
            assert states == {"ready"}, states
        finally:
            await network.shutdown()
    return {"start_4_mods_ms": took * 1e3, "start_4_mods_cpu_ms": cpu * 1e3 * scale.factor}


def _ease_collector() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])


def main() -> None:
    measure = {"batches": of_batches, "events": of_events, "start": of_start}[sys.argv[1]]
    print(json.dumps(run(measure(quick="quick" in sys.argv))))


if __name__ == "__main__":
    main()
