"""One agent as the network knows it: who it is, what it wants, what waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ...ipc.event import Event
from ...ipc.topic import matches


@dataclass(slots=True)
class Subscription:
    """What an agent wants to get: events matching a pattern, in one of the channels (none named: anywhere)."""

    subscription_id: str
    patterns: tuple[str, ...]
    channels: frozenset[str]

    def wants(self, event_name: str, channel: str | None) -> bool:
        if self.channels and channel not in self.channels:
            return False
        return any(matches(pattern, event_name) for pattern in self.patterns)


class Inbox:
    """Events delivered and not polled with their sizes, oldest first. ``size``: of all, in about bytes, see `_packed_size`."""

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
        secret_hash: SHA-256 of its secret; the secret itself is random (256 bits) and kept nowhere.
        last_seen: monotonic time of its last request; wall time in ``last_seen_at``.
        dropped: events lost because the inbox was full.
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
    arrival: asyncio.Event | None = None  # made when somebody polls and waits
    polling: int = 0  # polls that wait right now: such an agent is alive

    def wants(self, event_name: str, channel: str | None) -> bool:
        """Without a subscription an agent gets everything addressed to it."""
        if not self.subscriptions:
            return True
        return any(subscription.wants(event_name, channel) for subscription in self.subscriptions.values())
