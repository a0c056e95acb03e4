"""How the cost of an event grows with what the network holds.

Where what it holds can be taken away again, the points are visited there and back, so that a machine that becomes slower
meanwhile makes the near points as dear as the far ones. The floor of the moment is measured at each. Where the cost of one
event is measured, nobody polls: awake and waiting is processor time as well, and no work.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable

from modvisor.supervisor import AgentNetwork, Event

from .. import floor
from ..curves import Curve
from ..timing import in_flight, latencies, now, per_second
from ..work import check, ping
from .events import UNPOLLED, large
from .serving import Scene, ask, serving, succeed, warm_up

WIDTH = 64
LOADS = 4  # at once
MAX_AGENTS = 20_000


async def cost(network: AgentNetwork, batch: int) -> dict[str, float]:
    """Of one event: processor time of this process with ``WIDTH`` in flight (events made before), wall time, p50 alone."""
    made = [(fields := ping(), Event(**fields)) for _ in range(batch)]

    async def send(event: tuple[dict, Event]) -> None:
        response = await network.process_event(event[1])
        check(event[0], response.success, response.data)

    gc.collect()
    cpu, begin = time.process_time(), now()
    await in_flight(send, made, WIDTH)
    cpu, wall = time.process_time() - cpu, now() - begin
    times = []
    for event in [(fields := ping(), Event(**fields)) for _ in range(batch // 10)]:
        begin = now()
        await send(event)
        times.append(now() - begin)
    alone = floor.round_trip(0.02)["p50_us"]
    return {
        "cpu_us": cpu / batch * 1e6, "wall_us": wall / batch * 1e6, "p50_us": latencies(times)["p50_us"], "floor_us": alone
    }  # fmt: skip


async def mods(scene: Scene) -> Curve:
    """Loaded mods, the one that answers among them; the others' patterns do not match."""
    curve = Curve("mods", "loaded mods whose patterns do not match, and one that answers", scene.plan.mods)
    async with serving(scene, "./echo", network=UNPOLLED) as network:
        there = 1

        async def hold(count: int) -> None:
            nonlocal there
            await _several(there, count, lambda n: network.load_mod("./bystander", mod_id=f"by{n}"))
            await _several(count, there, lambda n: network.unload_mod(f"by{n}"))
            there = count

        await _there_and_back(network, scene, curve, hold)
    return curve


async def agents(scene: Scene) -> Curve:
    """Registered agents."""
    curve = Curve("agents", "registered agents", scene.plan.agents)
    async with serving(
        scene, "./echo", network=UNPOLLED, agents={"max_agents": MAX_AGENTS, "expire_after": None}
    ) as network:
        there = 0

        async def hold(count: int) -> None:
            nonlocal there
            for number in range(there, count):
                await succeed(network.register_agent(f"a{number}"))
            for number in range(count, there):
                await succeed(network.unregister_agent(f"a{number}"))
            there = count

        await _there_and_back(network, scene, curve, hold)
    return curve


async def _several(first: int, last: int, command: Callable[[int], Awaitable]) -> None:
    await in_flight(lambda n: succeed(command(n)), range(first, last), LOADS)


async def _there_and_back(
    network: AgentNetwork, scene: Scene, curve: Curve, hold: Callable[[int], Awaitable[None]]
) -> None:
    await hold(curve.points[0])
    await warm_up(network, scene.plan)
    await cost(network, scene.plan.batch)
    there, back = [], []
    for point in curve.points:
        await hold(point)
        await warm_up(network, scene.plan)  # what was to be done for the change itself is over then
        there.append(await cost(network, scene.plan.batch))
    for point in reversed(curve.points):
        await hold(point)
        await warm_up(network, scene.plan)
        back.insert(0, await cost(network, scene.plan.batch))
    curve.add(there)
    curve.add(back)


async def served(scene: Scene) -> Curve:
    """Events served before; at each point beside a network that has just begun."""
    plan = scene.plan
    curve, done, found = Curve("served", "events served before", plan.served), 0, []
    end = None if plan.serving is None else now() + plan.serving
    reached: list[int] = []
    async with serving(scene, "./echo", network=UNPOLLED) as network:
        await warm_up(network, plan)
        for point in curve.points:
            missing = (ping() for _ in range(point - done) if end is None or now() < end)
            done += await in_flight(lambda fields: ask(network, fields), missing, WIDTH)
            found.append(await cost(network, plan.batch) | await _fresh(scene, len(reached)))
            reached.append(done)
            done += plan.batch + plan.batch // 10
            if done < point:
                curve.note = f"stopped after {reached[-1]:,} of {plan.served[-1]:,}: {plan.serving:g} s were over"
                break
    curve.points = tuple(reached)
    curve.add(found)
    return curve


async def _fresh(scene: Scene, number: int) -> dict[str, float]:
    folder = scene.folder / f"fresh{number}"
    folder.mkdir()
    async with serving(Scene(scene.plan, folder), "./echo", network=UNPOLLED) as network:
        await warm_up(network, scene.plan)
        return {f"fresh_{name}": value for name, value in (await cost(network, scene.plan.batch)).items()}


async def sizes(scene: Scene) -> Curve:
    """Bytes of payload: MB/s of round trips, ours and the floor's."""
    curve = Curve("sizes", "bytes of payload, to the mod and back", scene.plan.sizes)
    found = []
    async with serving(scene, "./echo") as network:
        await warm_up(network, scene.plan)
        for size in curve.points:
            rate = await large(network, size, scene.plan.seconds / 2)
            found.append({"MBps": rate, "floor_MBps": floor.throughput_of(size, scene.plan.seconds / 2)})
    curve.add(found)
    return curve


async def widths(scene: Scene) -> Curve:
    """Events in flight."""
    curve = Curve("widths", "events in flight", scene.plan.widths)
    found = []
    async with serving(scene, {"path": "./echo", "limits": {"concurrency": max(curve.points)}}) as network:
        await warm_up(network, scene.plan)
        for width in curve.points:
            rate = await per_second(lambda fields: ask(network, fields), ping, width, scene.plan.seconds)
            found.append({"per_second": rate})
    curve.add(found)
    return curve
