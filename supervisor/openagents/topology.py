"""`network.topology` and `network.secret_manager`: the registered agents, by the names of OpenAgents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..agents import Agent
from .core import Core
from .unknown import Named

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AgentConnection:
    """An agent as ``topology.agent_registry`` shows it. ``last_seen``: Unix seconds."""

    agent_id: str
    metadata: dict[str, Any]
    capabilities: list[Any]
    last_seen: float
    transport_type: str = "http"
    address: str | None = None

    @classmethod
    def of(cls, agent: Agent) -> AgentConnection:
        found = agent.metadata.get("capabilities")
        return cls(agent.agent_id, dict(agent.metadata), found if isinstance(found, list) else [], agent.last_seen_at)


class _Agents(Mapping[str, T]):
    """Something about each registered agent, read when it is looked up."""

    def __init__(self, core: Core, read: Callable[[Agent], T | None]) -> None:
        self._core = core
        self._read = read

    def __getitem__(self, agent_id: str) -> T:
        agents = self._core.agents
        agent = agents.get(agent_id) if agents is not None else None
        found = None if agent is None else self._read(agent)
        if found is None:
            raise KeyError(agent_id)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([agent.agent_id for agent in self._core.agents or () if self._read(agent) is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class Topology(Named):
    """The agents of the network.

    Attributes:
        agent_registry: by agent id, an `AgentConnection`.
        agent_group_membership: by agent id, the name of its group.
    """

    def __init__(self, core: Core) -> None:
        self.agent_registry: Mapping[str, AgentConnection] = _Agents(core, AgentConnection.of)
        self.agent_group_membership: Mapping[str, str] = _Agents(core, lambda agent: agent.group)

    def get_agent_registry(self) -> dict[str, AgentConnection]:
        """Return all agents by id."""
        return dict(self.agent_registry)

    def get_agent_connection(self, agent_id: str) -> AgentConnection | None:
        """Return an agent, or None."""
        return self.agent_registry.get(agent_id)

    async def is_agent_registered(self, agent_id: str) -> bool:
        """Tell whether an agent is registered."""
        return agent_id in self.agent_registry


class SecretManager(Named):
    """The secrets of the agents. The network itself makes them, and keeps their hashes only."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def validate_secret(self, agent_id: str, secret: str) -> bool:
        """Tell whether ``secret`` is the secret of this agent."""
        return self._core.authenticate(agent_id, secret)

    def has_secret(self, agent_id: str) -> bool:
        """Tell whether this agent has a secret: every registered agent has one."""
        agents = self._core.agents
        return agents is not None and agents.get(agent_id) is not None

    def get_agent_count(self) -> int:
        """Return how many agents have a secret."""
        return 0 if self._core.agents is None else len(self._core.agents)
