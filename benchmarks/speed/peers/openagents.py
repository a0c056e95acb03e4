"""OpenAgents: the same events to the same handlers, in its process. No log: that is faster."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from openagents.models.event import Event
from openagents.models.network_config import NetworkConfig
from openagents.models.transport import TransportType
from openagents.sdk.network import AgentNetwork

from ..asking import answer
from ..networks import Asked, succeed
from ..over_http import over_http
from ..plan import Plan
from ..work import PATH, ping

MODS = "benchmarks.speed.peers.openagents_mods."
WIKI = "openagents.mods.workspace.wiki"


async def round_of_openagents(plan: Plan) -> dict[str, float]:
    logging.disable(logging.CRITICAL)
    config = NetworkConfig(
        name="speed", mode="centralized", transports=[{"type": "http", "config": {"host": "127.0.0.1", "port": 0}}]
    )
    network = AgentNetwork.create_from_config(config, workspace_path=None)
    assert await network.initialize()
    assert not network.mods, f"it has mods of its own: {list(network.mods)}"
    asked = Asked(network, Event, plan, f"mod:{MODS}echo")
    try:
        return await _events(asked) | await _lives(asked)
    finally:
        await network.shutdown()


async def _events(asked: Asked) -> dict[str, float]:
    network, mods = asked.network, [MODS + name for name in ("echo", "passing", "answering")]
    for path in mods:
        await succeed(network.load_mod(path))
    found = await asked.round_trips()
    found["in_flight_64"] = await asked.per_second(64)
    found["in_flight_256"] = await asked.per_second(256)
    found["path_64"] = await asked.per_second(64, lambda: ping(None, PATH))
    [transport] = network.topology.transports.values()
    _, port = transport.runner.addresses[0]
    found |= await over_http(port, MODS + "echo", asked.plan.seconds)
    for path in mods:
        await succeed(network.unload_mod(path))
    return found | await asked.fan_out(
        lambda name: network.register_agent(name, TransportType.HTTP, {}, ""), network.event_gateway.poll_events
    )


async def _lives(asked: Asked) -> dict[str, float]:
    """Load mods that were imported before: OpenAgents does not import a mod again."""

    def pages() -> Awaitable[object]:
        fields = {**ping(f"mod:{WIKI}"), "event_name": "wiki.pages.list", "payload": {}}
        return succeed(asked.network.process_event(Event(**fields)))

    found = await asked.mod_lives("wiki", WIKI, pages, lambda _: None)
    return found | await asked.mod_lives("echo", MODS + "echo", lambda: asked.ask(asked.ping()), lambda _: None)


if __name__ == "__main__":
    answer(round_of_openagents)
