"""Events: one at a time, many in flight, all the way, to a thousand inboxes, large ones."""

from __future__ import annotations

import os
from typing import Any

from modvisor.ipc.messages import pack
from modvisor.supervisor import AgentNetwork, Event, EventResponse

from ..calibration import step_us
from ..cost_round import at_once, per_event
from ..floor import BLOBS
from ..timing import now, one_at_a_time_awaited, per_second, throughput_awaited
from ..work import EVENT_SIZE, NEWS, PATH, Fields, blob, check, ping
from .serving import Scene, ask, call, serving, succeed, warm_up

WIDTH, WIDE = 64, 256
UNPOLLED = {"polling": "off"}
ONE_ECHO = "./echo"


async def polled(scene: Scene) -> dict[str, float]:
    async with serving(scene, ONE_ECHO) as network:
        return {f"rtt_{name}": value for name, value in (await _round_trips(network, scene)).items()}


async def unpolled(scene: Scene) -> dict[str, float]:
    async with serving(scene, ONE_ECHO, network=UNPOLLED) as network:
        return {f"off_{name}": value for name, value in (await _round_trips(network, scene)).items()}


async def _round_trips(network: AgentNetwork, scene: Scene) -> dict[str, float]:
    size = len(pack(Event(**ping()).to_dict()))
    assert size == EVENT_SIZE, f"the event has {size} bytes; see work.py"
    await warm_up(network, scene.plan)
    return await one_at_a_time_awaited(lambda event: network.process_event(event[1]), _check, _made, scene.plan.seconds)


def _made() -> tuple[Fields, Event]:
    fields = ping()
    return fields, Event(**fields)


def _check(event: tuple[Fields, Event], response: EventResponse) -> None:
    check(event[0], response.success, response.data)


async def many(scene: Scene) -> dict[str, float]:
    async with serving(scene, ONE_ECHO) as network:
        await warm_up(network, scene.plan)
        return {"in_flight_64": await _per_second(network, scene, WIDTH)}


async def cost(scene: Scene) -> dict[str, float]:
    """Processor time of one event, scaled by a fixed job that is done in the same moments."""
    async with serving(scene, ONE_ECHO) as network:
        await warm_up(network, scene.plan)
        supervisor, worker = await per_event(network, at_once, scene.plan.batches, scene.plan.batch)
    return {"supervisor_us": supervisor, "worker_us": worker, "job_step_us": step_us()}


async def wide(scene: Scene) -> dict[str, float]:
    async with serving(scene, {"path": ONE_ECHO, "limits": {"concurrency": WIDE}}) as network:
        await warm_up(network, scene.plan)
        return {"in_flight_256": await _per_second(network, scene, WIDE)}


async def path(scene: Scene) -> dict[str, float]:
    """To nobody in particular: the first mod passes it on, the second one answers."""
    async with serving(scene, "./passing", "./answering") as network:

        def make() -> Fields:
            return ping(None, PATH)

        for _ in range(scene.plan.warm_up // 4 + 1):
            await ask(network, make())
        rate = await per_second(lambda fields: ask(network, fields), make, WIDTH, scene.plan.seconds)
        traffic = {mod_id: mod["traffic"] for mod_id, mod in network.get_network_stats()["mods"].items()}
        assert traffic["passing"]["passed"] == traffic["answering"]["answered"] > 0, traffic
        return {"path_64": rate}


async def _per_second(network: AgentNetwork, scene: Scene, width: int) -> float:
    return await per_second(lambda fields: ask(network, fields), ping, width, scene.plan.seconds)


async def fan_out(scene: Scene) -> dict[str, float]:
    """To everybody; that the inboxes are emptied, and looked at, is not in it."""
    plan = scene.plan
    names = [f"reader{number}" for number in range(plan.receivers)]
    spent, deliveries = 0.0, 0
    async with serving(scene, ONE_ECHO, agents={"inbox_size": plan.news, "expire_after": None}) as network:
        for name in names:
            await succeed(network.register_agent(name))
        for _ in range(plan.issues):
            issue = [ping("agent:broadcast", NEWS) for _ in range(plan.news)]
            begin = now()
            for fields in issue:
                response = await call(network, fields)
                assert response.data == {"delivered": plan.receivers}, response
            spent += now() - begin
            deliveries += plan.news * plan.receivers
            sent = [fields["event_id"] for fields in issue]
            for name in names:
                assert [event.event_id for event in await network.poll_events(name)] == sent, f"the inbox of {name}"
    return {"fan_out": deliveries / spent}


async def blobs(scene: Scene) -> dict[str, float]:
    found = {}
    async with serving(scene, ONE_ECHO) as network:
        await warm_up(network, scene.plan)
        for key, size in BLOBS.items():
            found[key] = await large(network, size, scene.plan.seconds)
    return found


async def large(network: AgentNetwork, size: int, seconds: float) -> float:
    """Megabytes of payload per second of round trips."""
    data = os.urandom(size)

    async def send(data: bytes) -> Any:
        response = await call(network, blob(data))
        assert response.success, response.message
        return response.data["blob"]

    async def count(data: bytes) -> int:
        return len(await send(data))

    assert await send(data) == data
    return await throughput_awaited(count, data, seconds)
