"""Measure how the processor time of an event grows with what the network holds.

What can be taken away again (mods, agents) is measured there and back, so a machine that becomes
slower makes near points as dear as far ones. No network polls here: polling is processor time too.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from .networks import Asked, succeed
from .ours import UNPOLLED, Figures, Scene, serving
from .timing import in_flight, now
from .work import ping

WIDTH = 64
LOADS = 4  # at once


def growth(passes: Iterable[Sequence[float]]) -> float:
    """Return by how many percent the cost has grown where it has grown most.

    Args:
        passes: of each pass, the ratio at each point to what it is compared with.
    """
    return 100 * (max(statistics.median(ratios) for ratios in zip(*passes, strict=True)) - 1)


async def cost(asked: Asked) -> float:
    """Return the processor time of one event in this process. Making events does not count."""
    await asked.warm_up()
    made = [asked.made(ping()) for _ in range(asked.plan.batch)]

    async def send(event: tuple) -> None:
        asked.check(event, await asked.call(event))

    gc.collect()
    begin = time.process_time()
    await in_flight(send, made, WIDTH)
    return (time.process_time() - begin) / len(made)


async def mods(scene: Scene) -> Figures:
    """Grow by mods whose patterns do not match."""
    async with serving(scene, "./echo", network=UNPOLLED) as asked:
        network = asked.network

        async def hold(had: int, count: int) -> None:
            await in_flight(
                lambda n: succeed(network.load_mod("./bystander", mod_id=f"by{n}")), range(had, count), LOADS
            )
            await in_flight(lambda n: succeed(network.unload_mod(f"by{n}")), range(count, had), LOADS)

        return {"growth_mods": await _there_and_back(asked, scene.plan.mods, 1, hold)}


async def agents(scene: Scene) -> Figures:
    """Grow by registered agents."""
    room = {"max_agents": 2 * scene.plan.agents[-1], "expire_after": None}
    async with serving(scene, "./echo", network=UNPOLLED, agents=room) as asked:

        async def hold(had: int, count: int) -> None:
            for number in range(had, count):
                await succeed(asked.network.register_agent(f"a{number}"))
            for number in range(count, had):
                await succeed(asked.network.unregister_agent(f"a{number}"))

        return {"growth_agents": await _there_and_back(asked, scene.plan.agents, 0, hold)}


async def _there_and_back(
    asked: Asked, points: tuple[int, ...], had: int, hold: Callable[[int, int], Awaitable[None]]
) -> float:
    await cost(asked)
    passes = []
    for way in (points, points[::-1]):
        costs = {}
        for point in way:
            await hold(had, point)
            had = point
            costs[point] = await cost(asked)
        passes.append([costs[point] / costs[points[0]] for point in points])
    return growth(passes)


async def served(scene: Scene) -> Figures:
    """Grow by events served before; at each point a fresh network is measured beside it."""
    plan, done, ratios = scene.plan, 0, []
    end = None if plan.serving is None else now() + plan.serving
    async with serving(scene, "./echo", network=UNPOLLED) as asked:
        for point in plan.served:
            missing = (ping() for _ in range(point - done) if end is None or now() < end)
            done += await in_flight(asked.ask, missing, WIDTH)
            if done < point:
                scene.notes.append(
                    f"events served before: stopped after {done:,} of {plan.served[-1]:,}: time was over"
                )
            old = await cost(asked)
            ratios.append(old / await _fresh(scene, len(ratios)))
            if done < point:
                break
            done += plan.warm_up + plan.batch
    return {"growth_served": growth([ratios])}


async def _fresh(scene: Scene, number: int) -> float:
    folder = scene.folder / f"fresh{number}"
    folder.mkdir()
    async with serving(Scene(scene.plan, folder), "./echo", network=UNPOLLED) as asked:
        return await cost(asked)


PARTS: dict[str, Callable[[Scene], Awaitable[Figures]]] = {"mods": mods, "agents": agents, "served": served}
