"""Which agents want an event: their subscriptions, and an index of the patterns in them. Pure.

The index answers for all agents at once, in as many steps as the event name has parts, however many
patterns there are. An agent without subscriptions is not in it: such an agent wants everything.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

EVERYTHING = "*"

Wanting = Container[str]
"""Ids of the agents that want an event."""


@dataclass(slots=True)
class Subscription:
    """Event patterns that an agent wants, in these channels only (no channels: anywhere)."""

    subscription_id: str
    patterns: tuple[str, ...]
    channels: frozenset[str]

    @property
    def size(self) -> int:
        """How many entries of the index it takes: each pattern once for each channel."""
        return len(self.patterns) * max(1, len(self.channels))


class SubscriptionIndex:
    """The agents that subscribed to a pattern, by pattern and channel (None: anywhere).

    Attributes:
        size: the sizes of all subscriptions together.
    """

    def __init__(self) -> None:
        # Counts, because several subscriptions of an agent may have the same pattern.
        self._agents: dict[tuple[str, str | None], dict[str, int]] = {}
        self.size = 0

    def add(self, agent_id: str, subscription: Subscription) -> None:
        self.size += subscription.size
        for place in _places(subscription):
            if (agents := self._agents.get(place)) is None:
                self._agents[place] = {agent_id: 1}
            else:
                agents[agent_id] = agents.get(agent_id, 0) + 1

    def remove(self, agent_id: str, subscription: Subscription) -> None:
        self.size -= subscription.size
        for place in _places(subscription):
            agents = self._agents[place]
            agents[agent_id] -= 1
            if not agents[agent_id]:
                del agents[agent_id]
            if not agents:
                del self._agents[place]

    def wanting(self, event_name: str, channel: str | None) -> Wanting:
        """Return the ids of the agents that subscribed to an event of this name in this channel."""
        known, found = self._agents, []
        if not known:
            return ()
        for pattern in _patterns_of(event_name):
            if (agents := known.get((pattern, None))) is not None:
                found.append(agents)
            if channel is not None and (agents := known.get((pattern, channel))) is not None:
                found.append(agents)
        return found[0] if len(found) == 1 else set[str]().union(*found)


def _places(subscription: Subscription) -> list[tuple[str, str | None]]:
    channels = subscription.channels or (None,)
    return [(pattern, channel) for pattern in subscription.patterns for channel in channels]


def _patterns_of(event_name: str) -> list[str]:
    """Return all patterns that match an event name."""
    patterns = [event_name, EVERYTHING]
    cut = event_name.rfind(".")
    while cut > 0:
        patterns.append(f"{event_name[:cut]}.*")
        cut = event_name.rfind(".", 0, cut)
    return patterns
