"""The connections of a port by who holds them, and which one has to go when there are too many. Pure.

Rules:

- The place goes to a newcomer of a connection that waits for its client: of an agent that holds more
  than one address may, then of a stranger, then of any agent, each time of the address or agent that
  holds the most, and of these the oldest. Members of a group with a password keep theirs.
- Finding it takes time for each holder, and not for each connection: strangers can open thousands.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from itertools import groupby, islice
from typing import Generic, Protocol, TypeVar

CHOSEN = 16  # connections that are chosen at once, to go one by one as newcomers come


class Rank(enum.IntEnum):
    """Who holds a connection. When there are too many, the lowest rank goes first."""

    STRANGER = 0
    AGENT = 1  # has a secret
    MEMBER = 2  # has joined a group with its password
    KNOWN = 3  # the operator, and what `trusted_proxies` and `trusted_addresses` name


class Held(Protocol):
    """What is asked of a connection."""

    @property
    def rank(self) -> Rank: ...
    @property
    def holder(self) -> str: ...

    def waits(self, now: float) -> bool:
        """Return whether nothing is lost but time if it is closed now."""
        ...


C = TypeVar("C", bound=Held)


class Places(Generic[C]):
    """All connections. Rank and holder of a connection change only while it is not in here."""

    def __init__(self) -> None:
        self._held: dict[tuple[Rank, str], dict[C, None]] = {}  # of each holder, the oldest first
        self._chosen: deque[C] = deque()
        self._count = 0
        self._of_rank = dict.fromkeys(Rank, 0)

    def __len__(self) -> int:
        return self._count

    def by_rank(self) -> dict[str, int]:
        """Return how many connections each rank holds."""
        return {rank.name.lower(): count for rank, count in self._of_rank.items()}

    def has(self, rank: Rank) -> bool:
        return self._of_rank[rank] > 0

    def __iter__(self) -> Iterator[C]:
        for held in self._held.values():
            yield from held

    def __contains__(self, connection: C) -> bool:
        return connection in self.of(connection.rank, connection.holder)

    def of(self, rank: Rank, holder: str) -> dict[C, None]:
        """Return what somebody holds, the oldest first."""
        return self._held.get((rank, holder), {})

    def by_strangers(self) -> list[dict[C, None]]:
        """Return what each address of strangers holds."""
        return [held for (rank, _), held in self._held.items() if rank is Rank.STRANGER]

    def enter(self, connection: C) -> None:
        held = self._held.setdefault((connection.rank, connection.holder), {})
        if connection not in held:
            self._count += 1
            self._of_rank[connection.rank] += 1
        held[connection] = None

    def leave(self, connection: C) -> None:
        key = connection.rank, connection.holder
        held = self._held.get(key, {})
        if connection in held:
            del held[connection]
            self._count -= 1
            self._of_rank[connection.rank] -= 1
            if not held:
                del self._held[key]

    def to_go(self, now: float, most: int) -> C | None:
        """Return the connection that has to go, None if all must stay.

        Args:
            most: how many an address may hold.
        """
        chosen = self._next(now)
        if chosen is None:
            self._choose(now, most)
            chosen = self._next(now)
        return chosen

    def _next(self, now: float) -> C | None:
        while self._chosen:
            chosen = self._chosen.popleft()
            if chosen in self and chosen.rank < Rank.MEMBER and chosen.waits(now):
                return chosen
        return None

    def _choose(self, now: float, most: int) -> None:
        """Choose some of whoever comes first, or of all that come first together."""

        def weight(key: tuple[Rank, str]) -> tuple[int, int]:
            rank, held = key[0], len(self._held[key])
            # An agent that holds more than an address may goes before strangers, who may have just come.
            return (0 if rank is Rank.AGENT and held > most else 1 + rank, -held)

        keys = sorted((key for key in self._held if key[0] < Rank.MEMBER), key=weight)
        for _, first in groupby(keys, weight):
            waiting = (each for key in first for each in self._held[key] if each.waits(now))
            self._chosen.extend(islice(waiting, CHOSEN))
            if self._chosen:
                return
