"""One agent as the network knows it: who it is, what it subscribes to, which events wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..config import AgentsConfig
from .inboxes.inbox import Inbox, Losses
from .inboxes.subscriptions import Subscription
from .rights.pace import Pace
from .rights.rights import Rights

_UNKNOWN = Rights(AgentsConfig())  # until the agent is enrolled


class Pushing(Protocol):
    """Pushes an agent's events to a connection; see `streams.Stream`."""

    kind: str

    def give_way(self, *, is_moved: bool = False) -> None:
        """End, since a newer one takes over; with ``is_moved``, since the agent is to connect again."""
        ...


class Arrival(asyncio.Event):
    """Set when an event arrives. It wakes the polls that wait, and the connection that events are pushed on."""

    wake: Callable[[], None] | None = None

    def set(self) -> None:
        super().set()
        if self.wake is not None:
            self.wake()


@dataclass(slots=True)
class Agent:
    """A registered agent.

    Attributes:
        secret_hash: SHA-256 of its secret. The secret is random (256 bits) and stored nowhere.
        registered_at: wall-clock time since when the id has had its present owner. An agent that
            takes its own id over keeps it.
        last_seen: monotonic time of its last request.
        last_seen_at: wall-clock time of its last request, for people.
        dropped: number of events lost because the inbox was full.
        losses: those of them that the agent has not been told of.
        arrival: set when an event arrives; None until the first poll waits, or the first stream begins.
        polling: number of polls and streams that wait right now. An agent that waits does not expire.
        stream: what pushes its events to a connection.
        is_guest: whether nobody vouches for it, see `guests`.
        address: the name under which a guest's address is counted; None: it is not counted.
        has_returned: whether it has sent a request since its registration.
        rights: what it may do, which its group says.
        pace: what it has sent of late, if that is limited.
        redeemed: of the invite that registered it: the code's hash, ``last_seen`` then, the address.
        home: the node that holds its inbox; None: the network has one node.
        owner: what tells this owner of the id from former and later ones, also after a restart.
    """

    agent_id: str
    metadata: dict[str, Any]
    group: str | None
    secret_hash: bytes
    registered_at: float
    last_seen: float
    last_seen_at: float
    inbox: Inbox = field(default_factory=Inbox)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    dropped: int = 0
    losses: Losses = field(default_factory=Losses)
    arrival: Arrival | None = None
    polling: int = 0
    stream: Pushing | None = None
    is_guest: bool = False
    address: str | None = None
    has_returned: bool = True
    rights: Rights = _UNKNOWN
    pace: Pace | None = None
    redeemed: tuple[bytes, float, str | None] | None = None
    home: str | None = None
    owner: str = field(init=False)

    def __post_init__(self) -> None:
        self._name_owner()

    def _name_owner(self) -> None:
        self.owner = f"agent:{self.agent_id} {self.registered_at!r}"

    def take_over(self, present: Agent) -> None:
        """Go on as ``present``, the same agent: keep what waits for it."""
        self.registered_at = present.registered_at
        self._name_owner()
        self.inbox, self.subscriptions = present.inbox, present.subscriptions
        self.dropped, self.losses, self.pace = present.dropped, present.losses, present.pace
        if self.inbox.has_pushed:  # deliveries that look at the line alone would overfill it
            self.arrival = Arrival()
        self.is_guest = self.is_guest and present.is_guest
        self.address, self.has_returned = present.address if self.is_guest else None, True
