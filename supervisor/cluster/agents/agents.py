"""The agents of a node in a cluster: the registry, the store below it, homes, inboxes, deliveries."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...agents import SharedAgents
from ...config import AgentsConfig, GroupConfig, ModConfig
from ..link.link import Link
from .forgetting import BUCKET
from .home_commands import Commands, HomeCommands
from .homes import Homes, Nodes
from .inbox_stream import InboxStream
from .inboxes import Keeping
from .store import BucketStore


class ClusterAgents:
    """Makes what a node needs for agents that may be anywhere.

    Args:
        nodes: which nodes are in the network.
        keeps_inboxes: whether what waits in inboxes outlives this node (`cluster.inboxes`).
    """

    def __init__(self, link: Link, nodes: Nodes, *, keeps_inboxes: bool = True) -> None:
        self._link, self._nodes, self._keeps_inboxes = link, nodes, keeps_inboxes
        self._store = BucketStore()
        self._stream = InboxStream(link)
        self._homes: Homes | None = None
        self._agents: SharedAgents | None = None
        self._commands: HomeCommands | None = None

    def registry(
        self, config: AgentsConfig, groups: dict[str, GroupConfig], now: Callable[[], float] = time.monotonic
    ) -> SharedAgents:
        """Make the registry of this node. It knows the agents after `open`."""
        keeping = None
        if self._keeps_inboxes:
            keeping = Keeping(self._stream, self._link.names, self._link.node, lambda agent_id: agents.get(agent_id))
        make_inbox = None if keeping is None else keeping.inbox
        agents = SharedAgents(self._link.node, config, groups, self._store, now, make_inbox)
        agents.elsewhere = self._homes = Homes(self._link, self._nodes, agents, self._store, keeping)
        self._store.mirror = agents.mirror
        self._agents = agents
        return agents

    def commands(self, commands: Commands, find_mod: Callable[[str], ModConfig | None]) -> Commands:
        """Return what answers ``system.*`` events, here or at the home of their agent."""
        assert self._agents is not None
        self._commands = HomeCommands(self._link, self._agents, commands, find_mod)
        return self._commands

    async def open(self) -> None:
        """Read all agents, and begin to receive what comes for those of this node. Call it after `registry` and `commands`."""
        assert self._homes is not None
        await self._store.open(await self._link.bucket(BUCKET))
        if self._keeps_inboxes:
            await self._stream.open()
        await self._homes.open()
        if self._commands is not None:
            await self._commands.open()

    async def close(self) -> None:
        """Write what waits, and stop following the other nodes. The link is still open."""
        if self._commands is not None:
            self._commands.close()
        if self._homes is not None:
            await self._homes.close()
        await self._store.close()

    async def abandon(self) -> None:
        """End at once: nothing more is written, as if the node were killed."""
        if self._commands is not None:
            self._commands.close()
        if self._homes is not None:
            await self._homes.abandon()
        await self._store.abandon()
