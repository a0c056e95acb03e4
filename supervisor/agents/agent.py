"""One agent as the network knows it: who it is, what it subscribes to, which events wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ...ipc.event import Event
from ...ipc.topic import matches


@dataclass(slots=True)
class Subscription:
    """Event patterns that an agent wants, in these channels only (no channels: anywhere)."""

    subscription_id: str
    patterns: tuple[str, ...]
    channels: frozenset[str]

    def wants(self, event_name: str, channel: str | None) -> bool:
        if self.channels and channel not in self.channels:
            return False
        return any(matches(pattern, event_name) for pattern in self.patterns)


class Inbox:
    """Delivered events that the agent has not polled yet, oldest first, each with its size.

    `delivery` caps it, in events and bytes, when it puts an event in.

    Attributes:
        size: the sum of all sizes, in bytes, as `delivery.packed_size` estimates them.
    """

    __slots__ = ("events", "size")

    def __init__(self) -> None:
        self.events: deque[tuple[Event, int]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self.events)

    def append(self, event: Event, size: int) -> None:
        self.events.append((event, size))
        self.size += size

    def popleft(self) -> Event:
        event, size = self.events.popleft()
        self.size -= size
        return event


@dataclass(slots=True)
class Agent:
    """A registered agent.

    Attributes:
        secret_hash: SHA-256 of its secret. The secret is random (256 bits) and stored nowhere.
        last_seen: monotonic time of its last request.
        last_seen_at: wall-clock time of its last request, for people.
        dropped: number of events lost because the inbox was full.
        arrival: set when an event arrives; None until the first poll waits.
        polling: number of polls that wait right now. An agent with a waiting poll does not expire.
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
    arrival: asyncio.Event | None = None
    polling: int = 0

    def wants(self, event_name: str, channel: str | None) -> bool:
        """Return whether the agent wants this event. An agent without subscriptions wants all."""
        if not self.subscriptions:
            return True
        return any(subscription.wants(event_name, channel) for subscription in self.subscriptions.values())
