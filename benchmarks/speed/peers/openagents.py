"""OpenAgents: the same events to the same handlers, in its process. No log: that is faster."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from openagents.models.event import Event
from openagents.models.network_config import NetworkConfig
from openagents.models.transport import TransportType
from openagents.sdk.network import AgentNetwork

from ..asking import answer
from ..networks import Asked, free_port, succeed
from ..plan import Plan
from ..timing import Figures
from ..work import PATH, ping

MODS = "benchmarks.speed.peers.openagents_mods."
WIKI = "openagents.mods.workspace.wiki"


async def round_of_openagents(plan: Plan) -> Figures:
    logging.disable(logging.CRITICAL)
    port = free_port()
    config = NetworkConfig(
        name="speed", mode="centralized", transports=[{"type": "http", "config": {"host": "127.0.0.1", "port": port}}]
    )
    network = AgentNetwork.create_from_config(config, workspace_path=None)
    assert await network.initialize()
    assert not network.mods, f"it has mods of its own: {list(network.mods)}"
    asked = Asked(network, Event, plan, f"mod:{MODS}echo")
    try:
        return await _events(asked, port) | await _lives(asked)
    finally:
        await network.shutdown()


async def _events(asked: Asked, port: int) -> Figures:
    network, mods = asked.network, [MODS + name for name in ("echo", "passing", "answering")]
    for path in mods:
        await succeed(network.load_mod(path))
    found = await asked.round_trips()
    for width in (64, 256):
        found |= await asked.throughput(f"in_flight_{width}", width)
    found |= await asked.throughput("path_64", 64, lambda: ping(None, PATH))
    found |= await asked.http(port)
    for path in mods:
        await succeed(network.unload_mod(path))
    return found | await asked.fan_out(
        lambda name: network.register_agent(name, TransportType.HTTP, {}, ""), network.event_gateway.poll_events
    )


async def _lives(asked: Asked) -> Figures:
    """Load mods that were imported before: OpenAgents does not import a mod again."""

    def pages() -> Awaitable[object]:
        fields = {**ping(f"mod:{WIKI}"), "event_name": "wiki.pages.list", "payload": {}}
        return succeed(asked.network.process_event(Event(**fields)))

    found = await asked.mod_lives("wiki", WIKI, pages, lambda _: None)
    return found | await asked.mod_lives("echo", MODS + "echo", lambda: asked.ask(asked.ping()), lambda _: None)


if __name__ == "__main__":
    answer(round_of_openagents)
