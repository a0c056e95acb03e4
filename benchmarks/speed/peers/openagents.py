"""OpenAgents: the same events to the same handlers, in its own process. Its log is switched off, which makes it faster."""

from __future__ import annotations

import asyncio
import logging
import statistics

from openagents.models.event import Event
from openagents.models.network_config import NetworkConfig
from openagents.models.transport import TransportType
from openagents.sdk.network import AgentNetwork

from ..plan import Plan
from ..timing import now, one_at_a_time_awaited, per_second
from ..work import NEWS, PATH, Fields, check, ping
from .answering import answer

MODS = "benchmarks.speed.peers.openagents_mods."
WIKI = "openagents.mods.workspace.wiki"


async def round_of_openagents(plan: Plan) -> dict[str, float]:
    config = NetworkConfig(
        name="speed", mode="centralized", transports=[{"type": "http", "config": {"host": "127.0.0.1", "port": 0}}]
    )
    network = AgentNetwork.create_from_config(config, workspace_path=None)
    assert await network.initialize()
    assert not network.mods, f"it has mods of its own: {list(network.mods)}"
    try:
        found = await _events(network, plan) | await _fan_out(network, plan)
        return found | await _loads(network, plan, WIKI, "wiki") | await _loads(network, plan, MODS + "echo", "echo")
    finally:
        await network.shutdown()


async def _events(network: AgentNetwork, plan: Plan) -> dict[str, float]:
    for name in ("echo", "passing", "answering"):
        await _load(network, MODS + name)

    async def ask(fields: Fields) -> None:
        response = await network.process_event(Event(**fields))
        check(fields, response.success, response.data)

    def to_echo() -> Fields:
        return ping(f"mod:{MODS}echo")

    def to_all() -> Fields:
        return ping(None, PATH)

    def made() -> tuple[Fields, Event]:
        return (fields := to_echo()), Event(**fields)

    for _ in range(plan.warm_up):
        await ask(to_echo())
        await ask(to_all())
    times = await one_at_a_time_awaited(
        lambda event: network.process_event(event[1]),
        lambda event, response: check(event[0], response.success, response.data),
        made,
        plan.seconds,
    )
    found = {f"rtt_{name}": value for name, value in times.items()}
    found["in_flight_64"] = await per_second(ask, to_echo, 64, plan.seconds)
    found["in_flight_256"] = await per_second(ask, to_echo, 256, plan.seconds)
    found["path_64"] = await per_second(ask, to_all, 64, plan.seconds)
    for name in ("echo", "passing", "answering"):
        assert (await network.unload_mod(MODS + name)).success
    return found


async def _fan_out(network: AgentNetwork, plan: Plan) -> dict[str, float]:
    names = [f"reader{number}" for number in range(plan.receivers)]
    for name in names:
        assert (await network.register_agent(name, TransportType.HTTP, {}, "")).success
    spent = 0.0
    for _ in range(plan.issues):
        issue = [ping("agent:broadcast", NEWS) for _ in range(plan.news)]
        begin = now()
        for fields in issue:
            assert (await network.process_event(Event(**fields))).success
        spent += now() - begin
        for name in names:
            assert len(await network.event_gateway.poll_events(name)) == plan.news
    return {"fan_out": plan.issues * plan.news * plan.receivers / spent}


async def _loads(network: AgentNetwork, plan: Plan, path: str, short: str) -> dict[str, float]:
    """Each imported once before: it does not import again, so this is no fresh code."""
    starts, stops = [], []
    for _ in range(plan.cycles + 1):
        fields = ping(f"mod:{path}")
        if path == WIKI:
            fields |= {"event_name": "wiki.pages.list", "payload": {}}
        begin = now()
        await _load(network, path)
        response = await network.process_event(Event(**fields))
        starts.append(now() - begin)
        assert response.success, response
        begin = now()
        assert (await network.unload_mod(path)).success
        stops.append(now() - begin)
    unload = "unload_ms" if short == "echo" else f"unload_{short}_ms"
    return {f"load_{short}_ms": statistics.median(starts[1:]) * 1e3, unload: statistics.median(stops[1:]) * 1e3}


async def _load(network: AgentNetwork, path: str) -> None:
    response = await network.load_mod(path)
    assert response.success, response


def main(plan: Plan) -> dict[str, float]:
    logging.disable(logging.CRITICAL)
    return asyncio.run(round_of_openagents(plan))


if __name__ == "__main__":
    answer(main)
