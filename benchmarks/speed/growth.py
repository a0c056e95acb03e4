"""Measure how the processor time of an event grows with what the network holds.

The time is that of the supervisor and of the mod that answers, and scaled: wall clock cannot tell.
In each round the near and the far point are measured within a second or so, in changing order. No
network polls here: polling is processor time too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable

from .calibration import Meter
from .networks import Asked, succeed
from .serving import UNPOLLED, Scene, serving
from .timing import in_flight, now
from .work import ping

WIDTH = 64
LOADS = 4  # at once


def growth(near: float, far: float) -> float:
    """Return by how many percent a cost has grown."""
    return 100 * (far / near - 1)


async def cost(asked: Asked) -> float:
    """Return the scaled processor time of an event. Making the events does not count."""
    await asked.warm_up()
    return statistics.median([await _batch(asked) for _ in range(asked.plan.batches)])


async def _batch(asked: Asked) -> float:
    made = [asked.made(ping()) for _ in range(asked.plan.batch)]

    async def send(event: tuple) -> None:
        asked.check(event, await asked.call(event))

    with Meter([asked.network.get_loaded_mods()["echo"]["pid"]]) as meter:
        await in_flight(send, made, WIDTH)
    return (meter.own + sum(meter.others)) / len(made)


async def mods(scene: Scene) -> list[float]:
    """Grow by mods whose patterns do not match."""
    async with serving(scene, "./echo", network=UNPOLLED) as asked:
        network = asked.network

        async def hold(had: int, count: int) -> None:
            await in_flight(
                lambda n: succeed(network.load_mod("./bystander", mod_id=f"by{n}")), range(had, count), LOADS
            )
            await in_flight(lambda n: succeed(network.unload_mod(f"by{n}")), range(count, had), LOADS)

        return await _there_and_back(asked, scene.plan.mods, hold)


async def agents(scene: Scene) -> list[float]:
    """Grow by registered agents."""
    room = {"max_agents": 2 * scene.plan.agents, "expire_after": None}
    async with serving(scene, "./echo", network=UNPOLLED, agents=room) as asked:

        async def hold(had: int, count: int) -> None:
            for number in range(had, count):
                await succeed(asked.network.register_agent(f"a{number}"))
            for number in range(count, had):
                await succeed(asked.network.unregister_agent(f"a{number}"))

        return await _there_and_back(asked, scene.plan.agents, hold)


async def _there_and_back(asked: Asked, most: int, hold: Callable[[int, int], Awaitable[None]]) -> list[float]:
    """Measure with one and with `most`; then, in the next round, the other way round."""
    had, found = 1, []
    await hold(0, had)
    await cost(asked)
    for _ in range(asked.plan.rounds):
        costs = {had: await cost(asked)}
        other = 1 if had == most else most
        await hold(had, other)
        costs[other] = await cost(asked)
        found.append(growth(costs[1], costs[most]))
        had = other
    return found


async def served(scene: Scene) -> list[float]:
    """Grow by events served before; in each round a fresh network is measured beside the old one."""
    found = []
    async with serving(scene, "./echo", network=UNPOLLED) as old:
        await _serve(old, scene)
        for number in range(scene.plan.rounds):
            async with serving(scene.beside(f"fresh{number}"), "./echo", network=UNPOLLED) as fresh:
                turns = (old, fresh) if number % 2 else (fresh, old)
                costs = {asked: await cost(asked) for asked in turns}
            found.append(growth(costs[fresh], costs[old]))
    return found


async def _serve(asked: Asked, scene: Scene) -> None:
    most, end = scene.plan.served, now() + (scene.plan.serving or math.inf)
    events = (ping() for _ in range(most) if now() < end)
    done = await in_flight(asked.ask, events, WIDTH)
    if done < most:
        scene.notes.append(f"events served before: stopped after {done:,} of {most:,}: time was over")


PARTS: dict[str, Callable[[Scene], Awaitable[list[float]]]] = {
    "growth_mods": mods,
    "growth_agents": agents,
    "growth_served": served,
}
"""Key of the row to what measures it, once for each round."""
