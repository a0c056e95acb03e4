"""The same mods in a network of modvisor, each in its own worker."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from modvisor.supervisor import AgentNetwork, Event

from .driver import RECEIVED
from .script import GROUPS, MODS


class Ours:
    """Sends the events of agents through the door that the HTTP server uses."""

    own = re.compile(
        r"delivered to \d+ agents?$|no mod answered, and|no mod '|mod \S+ took the event|mod \S+ has no handler"
        r"|agent \S+ (un)?registered|no agent '|no channel '|channel '"
    )

    def __init__(self, network: AgentNetwork) -> None:
        self.network = network

    async def send(self, event: dict[str, Any]) -> dict[str, Any]:
        answer = await self.network.process_external_event(Event(**event))
        return {"success": answer.success, "message": answer.message or None, "data": answer.data}

    async def agent(self, agent_id: str, group: str | None = None) -> Agent:
        registered = await self.network.register_agent(agent_id, group=group)
        return Agent(self, agent_id, registered.data["secret"])

    async def poll(self, agent: str) -> list[dict[str, Any]]:
        return [
            {field: getattr(event, field) for field in RECEIVED} | {"secret": event.secret}
            for event in await self.network.poll_events(agent)
        ]


class Agent:
    """A registered agent."""

    def __init__(self, network: Ours, agent_id: str, secret: str) -> None:
        self._network, self._id, self._secret = network, agent_id, secret

    async def ask(self, name: str, payload: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Send an event. Return success, message and data of the answer."""
        event = {"event_name": name, "source_id": self._id, "secret": self._secret, "payload": payload or {}}
        return await self._network.send(event | more)


@asynccontextmanager
async def our_network(
    folder: Path,
    mods: dict[str, dict[str, Any]] = MODS,
    limits: dict[str, dict[str, Any]] | None = None,
    permissions: dict[str, list[str]] | None = None,
    **network: Any,
) -> AsyncIterator[Ours]:
    """A running network with these mods of OpenAgents.

    Args:
        limits: the limits of each mod that has some, by path.
        permissions: what the agents of each group may do, by group.
        network: more keys of the file's section of that name.
    """
    entries = [{"path": path, "config": settings, "required": True} for path, settings in mods.items()]
    for entry in entries:
        entry["limits"] = (limits or {}).get(str(entry["path"]), {})
    groups = {
        name: {"password_hash": password, "permissions": (permissions or {}).get(name, [])}
        for name, password in GROUPS.items()
    }
    config = {
        "network": {"name": "peers", "id": "peers", "storage": "state", **network},
        "agent_groups": {"guest": {}, **groups},
        "agents": {"default_group": "guest"},
        "mods": entries,
    }
    made = AgentNetwork.from_config(config, base_dir=folder)
    await made.initialize()
    try:
        yield Ours(made)
    finally:
        await made.shutdown()
