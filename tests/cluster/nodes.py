"""Nodes of a network without mods: registries over real links, for the tests of agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from modvisor.supervisor import Event
from modvisor.supervisor.agents import Receipt, SharedAgents
from modvisor.supervisor.cluster.agents.agents import ClusterAgents
from modvisor.supervisor.cluster.link import Link
from modvisor.supervisor.config import AgentsConfig, GroupConfig
from tests.cluster.servers import Servers, config_of


class Present:
    """Which nodes are in the network, as the session of each node tells it."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.listeners: list[Callable[[], None]] = []

    def set(self, node: str, *, is_there: bool) -> None:
        if is_there:
            self.nodes[node] = node
        else:
            self.nodes.pop(node, None)
        for listener in list(self.listeners):
            listener()


class Node:
    """One node: its link, and its registry over the servers."""

    def __init__(self, servers: Servers, network: str, name: str, present: Present, **more: Any) -> None:
        self.name, self._present, self.is_open = name, present, False
        self.link = Link(config_of(servers, name, network, wait=True), network, name)
        keeps = more.pop("keeps_inboxes", True)
        groups: dict[str, GroupConfig] = more.pop("groups", {})
        self.cluster = ClusterAgents(self.link, present, keeps_inboxes=keeps)
        self.agents: SharedAgents = self.cluster.registry(AgentsConfig(**more), groups)

    async def open(self) -> Node:
        await self.link.open()
        self.is_open = True
        await self.cluster.open()
        self._present.set(self.name, is_there=True)
        return self

    async def close(self) -> None:
        self.is_open = False
        await self.cluster.close()
        await self.link.close()
        self._present.set(self.name, is_there=False)

    async def kill(self) -> None:
        """End without a word to anybody: what is on its way is lost."""
        self.is_open = False
        await self.cluster.abandon()
        await self.link.close()
        self._present.set(self.name, is_there=False)

    # -- what agents do

    async def register(self, agent_id: str, **how: Any) -> str:
        _, secret = await self.agents.kept(lambda: self.agents.register(agent_id, {}, **how))
        return secret

    async def join(self, channel: str, agent_id: str) -> None:
        await self.agents.kept(lambda: self.agents.join(channel, agent_id))

    async def connect(self, agent_id: str) -> None:
        agent = self.agents.get(agent_id)
        assert agent is not None
        await self.agents.bring_home(agent)

    async def send(self, to: str, text: Any = "", source: str = "agent:sender", **fields: Any) -> Receipt:
        """Deliver an event, and wait for all nodes; return how many inboxes took it."""
        event = Event("chat.message", source, to, payload={"text": text}, **fields)
        return await self.deliver(event)

    async def deliver(self, event: Event) -> Receipt:
        assert event.destination is not None
        here = self.agents.deliver(event, event.destination)
        receipt = Receipt(here.reached, here.full)
        if self.agents.outcome is not None:
            receipt.add(await self.agents.outcome)
        return receipt

    async def texts(self, agent_id: str) -> list[Any]:
        """Take what waits for an agent, which connects here."""
        agent = self.agents.get(agent_id)
        assert agent is not None
        return [event.payload["text"] for event in await self.agents.poll(agent)]

    def waits(self, agent_id: str) -> list[Any]:
        """Return what waits for an agent at this node, and leave it there."""
        agent = self.agents.get(agent_id)
        assert agent is not None
        items = [*agent.inbox.pushed.items, *(item for item in agent.inbox.events if item is not None)]
        return [event.payload["text"] for event, *_ in items]

    def knows(self) -> dict[str, Any]:
        """Return all that this node knows, to compare it with what other nodes know."""
        agents = self.agents
        return {
            "agents": {
                each.agent_id: (
                    each.metadata,
                    each.group,
                    each.secret_hash,
                    each.home,
                    each.is_guest,
                    each.has_returned,
                    each.registered_at,
                )
                for each in agents
            },
            "channels": {name: set(agents.channel_members(name) or ()) for name in agents.channels()},
            "private": dict(agents.private),
            "invites": {each.invite_id: each.uses for each in agents.invites},
        }


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something holds. The timeout of the test ends what never does."""
    while not is_so():
        await asyncio.sleep(0.002)


async def same(*nodes: Node) -> None:
    """Wait until all nodes know the same."""
    await until(lambda: all(node.knows() == nodes[0].knows() for node in nodes[1:]))


@asynccontextmanager
async def running(servers: Servers, network: str, *names: str, **more: Any) -> AsyncIterator[list[Node]]:
    """Run nodes with these names, and end them."""
    present = Present()
    nodes = [Node(servers, network, name, present, **dict(more)) for name in names]
    try:
        for node in nodes:
            await node.open()
        yield nodes
    finally:
        for node in nodes:
            if node.is_open:
                await node.close()
