"""What a mod may ask of its network without waiting: agents, groups and channels, kept true by the core.

The core sends all of it once, in pages, and from then on each change, on the pipe that events come
over: so a change is known here before any event that follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ....ipc.errors import RemoteProtocolError, shown
from .channels import Call, Channels


class Agent(NamedTuple):
    """A registered agent."""

    agent_id: str
    metadata: dict[str, Any]
    group: str | None


class Mirror:
    """Agents, groups and channels of the network.

    Attributes:
        agents: the registered agents by id, in the order of registration.
        groups: the group of each agent that has one.
        on_agent, on_gone: called when an agent registers that was not registered, and when one has
            left; the mirror has changed already.

    Args:
        send: see `Channels`.
    """

    def __init__(self, send: Callable[[Call], None]) -> None:
        self.agents: dict[str, Agent] = {}
        self.groups: dict[str, str] = {}
        self.channels = Channels(send, self.agents.__contains__)
        self.on_agent: Callable[[Agent], object] = lambda _agent: None
        self.on_gone: Callable[[str], object] = lambda _agent_id: None

    def take_page(self, page: Any) -> None:
        """Add one page of what there was when the mirror began. Raises `RemoteProtocolError`."""
        match page:
            case {"agents": list(agents), "channels": dict(channels)}:
                for agent in agents:
                    self._take_agent(agent["agent_id"], agent.get("metadata") or {}, agent.get("group"))
                for name, members in channels.items():
                    self.channels.told(name, members)
            case _:
                raise RemoteProtocolError(f"mirror: expected {{agents, channels, groups, last}}, got {shown(page)}")

    def take_changes(self, params: Any) -> None:
        """Apply changes in their order. Raises `RemoteProtocolError`."""
        for change in (params or {}).get("changes", ()):
            self._take_change(change)

    def _take_change(self, change: Any) -> None:
        match change:
            case ["agent", str(agent_id), metadata, group]:
                self._take_agent(agent_id, metadata or {}, group)
            case ["gone", str(agent_id)]:
                self._take_gone(agent_id)
            case ["join", str(channel), str(agent_id)]:
                self.channels.told(channel, [agent_id])
            case ["leave", str(channel), str(agent_id)]:
                self.channels.told_leave(channel, agent_id)
            case ["close", str(channel)]:
                self.channels.told_close(channel)
            case _:
                raise RemoteProtocolError(f"changes: unknown change {shown(change)}")

    def _take_agent(self, agent_id: str, metadata: dict[str, Any], group: str | None) -> None:
        is_new = agent_id not in self.agents
        agent = self.agents[agent_id] = Agent(agent_id, metadata, group)
        if group:
            self.groups[agent_id] = group
        else:
            self.groups.pop(agent_id, None)
        if is_new:
            self.channels.registered(agent_id)
            self.on_agent(agent)

    def _take_gone(self, agent_id: str) -> None:
        if self.agents.pop(agent_id, None) is None:
            return
        self.groups.pop(agent_id, None)
        self.channels.gone(agent_id)
        self.on_gone(agent_id)
