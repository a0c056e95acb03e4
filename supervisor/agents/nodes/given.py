"""Which agents got which events of late, so that an event that comes again reaches nobody twice. Pure.

In a network of several nodes an event can come to an inbox on two ways: its delivery is tried again
after a broken connection, or its sender sends it again at another node.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

Key = tuple[str, str]  # who owns the event, see `Agent.owner`, and its id

MOST = 200_000
"""Pairs of an event and an agent that are remembered, about 20 MB. No key of the network file: retries
come within seconds, and this is minutes of a busy node."""

LATELY = 2000
"""Events among which those of an agent are looked for that moves. They are worth seconds."""


class Given:
    """The newest events with the agents that got them. The oldest are forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._to: OrderedDict[Key, set[str]] = OrderedDict()
        self._count = 0

    def has(self, key: Key, agent_id: str) -> bool:
        return agent_id in self._to.get(key, ())

    def note(self, key: Key, agent_id: str) -> None:
        to = self._to.get(key)
        if to is None:
            to = self._to[key] = set()
        self._count -= len(to)
        to.add(agent_id)
        self._count += len(to)
        while self._count > self._most:
            _, oldest = self._to.popitem(last=False)
            self._count -= len(oldest)

    def lately(self, agent_id: str) -> list[Key]:
        """Return the keys of the newest events that an agent got."""
        newest = islice(reversed(self._to.items()), LATELY)
        return [key for key, to in newest if agent_id in to]
