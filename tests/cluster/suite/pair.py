"""Two nodes of one network that many tests share: the agents are at node a; the mods are there, too, or at node b."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.cluster.networks import config_of_node
from tests.cluster.servers import Servers
from tests.conftest import until

from .mods import MODS, NEIGHBOUR

GROUPS = {"crew": {}, "guests": {}}

_networks, _names = count(), count()


@dataclass
class Pair:
    """The two nodes.

    Attributes:
        a: the node of the agents.
        home: the node of the mods.
    """

    a: AgentNetwork
    b: AgentNetwork
    home: AgentNetwork

    async def send(self, name: str, to: str | None = None, source: str = "agent:alice", **more: Any) -> EventResponse:
        """Send an event at the node of the agents; `event_id` and `timeout` are the event's own."""
        fields = {key: more.pop(key) for key in ("event_id", "timeout") if key in more}
        return await self.a.process_event(Event(name, source, to, payload=more, **fields))

    async def agents(self, count: int, **more: Any) -> list[str]:
        """Register agents with new names, at each node in turn, and wait until both nodes know them."""
        names = [f"agent{next(_names)}" for _ in range(count)]
        for number, name in enumerate(names):
            assert (await (self.a, self.b)[number % 2].register_agent(name, **more)).success
        await until(lambda: all(_knows(node, name) for node in (self.a, self.b) for name in names))
        return names

    async def taken(self, *names: str) -> list[list[Any]]:
        """Return the payloads that agents take out of their inboxes, each at the node of its home."""
        node_of = {name: self.b if self.b.is_home(name) else self.a for name in names}
        return [[event.payload for event in await node_of[name].poll_events(name)] for name in names]


def _knows(network: AgentNetwork, name: str) -> bool:
    return any(agent.agent_id == name for agent in network._running().agents)


@asynccontextmanager
async def pair_of(servers: Servers, folder: Path, home: str) -> AsyncIterator[Pair]:
    """Run the pair with all mods of `mods.py` at one node."""
    network_id = f"suite{next(_networks)}"
    entries = [_entry(folder, name, home if name != NEIGHBOUR else "b") for name in MODS]
    a, b = (_node(servers, network_id, folder, name, entries) for name in "ab")
    try:
        await asyncio.gather(a.initialize(), b.initialize())
        for node in (a, b):
            await until(lambda: all(each["state"] == "ready" for each in node.get_loaded_mods().values()), 30)  # noqa: B023
        assert {name: node for name, node in a.mod_nodes().items() if name != NEIGHBOUR} == dict.fromkeys(
            [name for name in MODS if name != NEIGHBOUR], home
        )
        yield Pair(a, b, {"a": a, "b": b}[home])
    finally:
        await asyncio.gather(a.shutdown(), b.shutdown())


def _entry(folder: Path, name: str, home: str) -> dict[str, Any]:
    source, more = MODS[name]
    file = folder / "mods" / name.replace("@", "_") / "mod.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source))
    return {"path": f"./{file.parent.name}", "id": name, "placement": {"on": [home]}, **more}


def _node(servers: Servers, network_id: str, folder: Path, name: str, mods: list[dict[str, Any]]) -> AgentNetwork:
    config = config_of_node(servers, network_id, folder, name, mods, lease=10.0)
    return AgentNetwork.from_config({**config, "agent_groups": GROUPS}, base_dir=folder)
