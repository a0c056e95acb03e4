"""The real OpenAgents network, in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from openagents.models.event import Event
from openagents.models.network_config import AgentGroupConfig, ModConfig, NetworkConfig, TransportConfigItem
from openagents.models.transport import TransportType
from openagents.sdk.network import AgentNetwork

from .script import GROUPS, MODS


class Theirs:
    """Sends the events of agents through the door that their transports use."""

    own = re.compile(
        r"Event \S+ delivered to destination|Event not processed by mod|Target mod \S+ not found"
        r"|(Unr|R)egistered agent \S+"
    )

    def __init__(self, network: AgentNetwork) -> None:
        self.network = network

    async def send(self, event: dict[str, Any]) -> dict[str, Any]:
        with redirect_stdout(sys.stderr):  # they print every event
            answer = await self.network.process_external_event(Event(**event))
        return {"success": answer.success, "message": answer.message, "data": answer.data}

    async def poll(self, agent: str) -> list[dict[str, Any]]:
        events = await self.network.event_gateway.poll_events(agent)
        return [event.model_dump(mode="json") for event in events]


@asynccontextmanager
async def their_network(
    folder: Path,
    mods: dict[str, dict[str, Any]] = MODS,
    port: int | None = None,
    configured: list[str] | None = None,
) -> AsyncIterator[Theirs]:
    """A running network of OpenAgents with these mods, loaded one after the other.

    Args:
        port: where it listens for HTTP; None: it has no transports.
        configured: mods that its configuration names, so that it loads them when it is made.
    """
    groups = {name: AgentGroupConfig(password_hash=password) for name, password in GROUPS.items()}
    http = TransportConfigItem(type=TransportType.HTTP, config={"host": "127.0.0.1", "port": port})
    config = NetworkConfig(
        name="peers", node_id="peers", agent_groups=groups, transports=[] if port is None else [http],
        recommended_transport="http", mods=[ModConfig(name=path) for path in configured or ()],
    )  # fmt: skip
    network = AgentNetwork.create_from_config(config, workspace_path=str(folder))
    for path, settings in mods.items():
        loaded = await network.load_mod(path, dict(settings))
        assert loaded.success, loaded.message
    if port is not None:
        assert await network.initialize()
    try:
        yield Theirs(network)
    finally:
        for mod in network.mods.values():  # their own shutdown ends none of them
            ended = mod.shutdown()
            if hasattr(ended, "__await__"):
                await ended
        await network.shutdown()
