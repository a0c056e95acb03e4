"""What reaches the agents of other nodes: an event for several of them, and what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from ....ipc.event import Event
from ..agent import Agent
from .given import Key


@dataclass(slots=True)
class Parcel:
    """An event for agents that are at home at other nodes.

    Attributes:
        key: what tells the event from every other one.
        source: whose share of the inboxes it takes.
        is_told: it reaches the agents whatever they subscribe to.
        to: the ids of the agents, by their homes.
    """

    key: Key
    event: Event
    size: int
    source: str
    is_told: bool = False
    to: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Receipt:
    """What came of a parcel, or of a part of it.

    Attributes:
        reached: how many inboxes took it.
        full: how many inboxes were full.
        gone: agents that are no more.
        away: agents that are at home at another node than was thought.
        lost: agents whose homes did not answer in time. They may have got it.
    """

    reached: int = 0
    full: int = 0
    gone: list[str] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, other: Receipt) -> None:
        """Add what came of another part. Who was away is looked for elsewhere."""
        self.reached += other.reached
        self.full += other.full
        self.gone += other.gone
        self.lost += other.lost


class Elsewhere(Protocol):
    """What reaches the other nodes; see `cluster.homes`."""

    def carry(self, parcel: Parcel) -> asyncio.Future[Receipt]:
        """Bring a parcel to the homes of its agents."""
        ...

    async def bring(self, agent: Agent) -> None:
        """Make this node the home of an agent, and bring its inbox here."""
        ...

    def seen(self, agent: Agent) -> None:
        """Tell the home of an agent that it is alive."""
        ...

    def kicked(self, agent_id: str) -> None:
        """Tell all nodes to keep this id away for a while."""
        ...

    def left(self, agent: Agent) -> None:
        """Note that an agent is gone from the network: nothing of it needs to be kept."""
        ...

    def is_there(self, node: str) -> bool:
        """Return whether a node is in the network now."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this node sees to the agents whose homes are gone."""
        ...
