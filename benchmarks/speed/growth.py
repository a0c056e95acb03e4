"""Measure how the processor time of an event grows with what the network holds.

    python -m benchmarks.speed.growth mods|agents|served COUNT PLAN

This program holds that many, then prints one JSON object for each line that it reads: how many it
holds, and the scaled processor time of an event, of the supervisor and of the mod that answers. A
network that holds many and one that holds one take turns, batch by batch, in the same moments: wall
clock cannot tell. No network polls here: polling is processor time too.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from .asking import Measure, by_line
from .calibration import Meter
from .networks import ROOT, Asked, succeed
from .plan import Plan
from .serving import UNPOLLED, Scene, run, serving
from .timing import in_flight, now
from .work import ping

WIDTH = 64


def growth(pairs: list[tuple[float, float]]) -> float:
    """Return by how many percent the cost has grown from near to far: the median of the pairs."""
    return 100 * (statistics.median(far / near for near, far in pairs) - 1)


async def measured(kind: str, scene: Scene) -> list[float]:
    """Return the growth in each round. In each, the network that holds many meets a fresh one that holds one."""
    plan, most = scene.plan, getattr(scene.plan, kind)
    found = []
    with _network(kind, most, scene.beside("far")) as far:
        reached = round(far()["held"])
        if reached < most:
            scene.notes.append(f"{kind}: stopped after {reached:,} of {most:,}: time was over")
        for number in range(plan.rounds):
            with _network(kind, 1, scene.beside(f"near{number}")) as near:
                found.append(growth([_pair(near, far, number % 2 == 0) for number in range(plan.pairs)]))
    return found


@contextmanager
def _network(kind: str, count: int, scene: Scene) -> Iterator[Measure]:
    """Start a network that holds so many. Yield, when it is warm, a function that measures one batch."""
    command = [sys.executable, "-m", __name__, kind, str(count), json.dumps(asdict(scene.plan))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    with by_line(command, cwd=scene.folder, env=environment) as measure:
        measure()
        yield measure


def _pair(near: Measure, far: Measure, near_is_first: bool) -> tuple[float, float]:
    costs = {measure: measure()["cost_us"] for measure in ((near, far) if near_is_first else (far, near))}
    return costs[near], costs[far]


# -- the program


async def _serve(kind: str, count: int, plan: Plan) -> None:
    """Mods of many networks come from the file; agents come, and events are served, as it runs."""
    bystanders = [{"path": "./bystander", "id": f"by{number}"} for number in range(1, count if kind == "mods" else 1)]
    room = {"max_agents": 2 * plan.agents, "expire_after": None}
    scene = Scene(plan, Path.cwd())
    async with serving(scene, "./echo", *bystanders, network=UNPOLLED, agents=room) as asked:
        held = await HOLD[kind](asked, count)
        await asked.warm_up()
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps({"held": held, "cost_us": await _cost(asked)}), flush=True)


async def _cost(asked: Asked) -> float:
    """Return the processor time of an event. Making the events does not count."""
    made = [asked.made(ping()) for _ in range(asked.plan.batch)]

    async def send(event: tuple) -> None:
        asked.check(event, await asked.call(event))

    with Meter([asked.network.get_loaded_mods()["echo"]["pid"]]) as meter:
        await in_flight(send, made, WIDTH)
    return (meter.own + sum(meter.others)) / len(made) * 1e6


async def _mods(asked: Asked, count: int) -> int:
    return len(asked.network.get_loaded_mods())


async def _agents(asked: Asked, count: int) -> int:
    for number in range(count):
        await succeed(asked.network.register_agent(f"a{number}"))
    return count


async def _events(asked: Asked, count: int) -> int:
    end = now() + (asked.plan.serving or math.inf)
    return await in_flight(asked.ask, (ping() for _ in range(count) if now() < end), WIDTH)


HOLD: dict[str, Callable[[Asked, int], Awaitable[int]]] = {"mods": _mods, "agents": _agents, "served": _events}
PARTS: dict[str, Callable[[Scene], Awaitable[list[float]]]] = {
    f"growth_{kind}": partial(measured, kind) for kind in HOLD
}
"""Key of the row to what measures it, once for each round."""

if __name__ == "__main__":
    run(_serve(sys.argv[1], int(sys.argv[2]), Plan(**json.loads(sys.argv[3]))))
