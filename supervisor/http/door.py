"""How many connections a server holds, for how long, and who has to go when there are too many.

Rules:

- A newcomer gets in. When all places are taken, it takes the place of a connection that waits for its
  client: of an agent that holds more than one address may, then of a stranger, then of any agent, each
  time of the address or agent that holds the most. Members of a group with a password keep theirs.
- A connection is a stranger's until its client has proved who it is. An address may hold only so
  many of them for longer than `PATIENCE`: agents that come at once behind one address have
  the time to say who they are.
- A client that keeps a request waiting, or sends or reads too slowly, is dismissed.

One look at all connections each `INTERVAL` decides this, so a request costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address

import anyio.lowlevel

from ...ipc.errors import Code
from ..config import HttpConfig
from .clients import counted_as, is_exempt, is_in, parsed
from .connection import Connection, Phase, Rank
from .turnstile import Turnstile

logger = logging.getLogger("modvisor.http")

INTERVAL = 0.5  # seconds between two looks
PATIENCE = 5.0  # seconds that a stranger has to say who it is before its address is counted
BATCH = 16  # the part of all connections, 1 in so many, that goes at once when there is no place
AT_ONCE = 200  # connections that are looked at in one turn of the loop
REPORT_EVERY = 60.0  # seconds between two lines of the log that say who was dismissed


class Door:
    """The connections of the TCP port.

    Args:
        limits: returns the limits in force.

    Attributes:
        turnstile: what strangers send passes it.
        dismissed: how many connections were dismissed so far, by reason.
    """

    def __init__(self, limits: Callable[[], HttpConfig]) -> None:
        self._limits = limits
        self._connections: set[Connection] = set()
        self.turnstile = Turnstile()
        self.dismissed: Counter[str] = Counter()
        self._unreported: Counter[tuple[str, str]] = Counter()
        self._reported = asyncio.get_running_loop().time()

    # -- who comes and goes

    def lets_in(self, descriptor: int) -> bool:
        """Return whether there is a place for a new connection, and make one if there is none.

        Args:
            descriptor: of its socket. The kernel gives the lowest that is free.
        """
        if len(self._connections) < self._limits().connections and descriptor < _last_descriptor():
            return True
        return self._make_room()

    def enter(self, connection: Connection, peer: str) -> None:
        self._connections.add(connection)
        http, address = self._limits(), parsed(peer) or IPv4Address(0)
        connection.peer = address
        connection.counted = connection.holder = counted_as(address)
        if is_exempt(address, http) or is_in(address, http.trusted_proxies):
            connection.rank = Rank.KNOWN

    def leave(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def turn_away(self, peer: str) -> None:
        self._count("found no place", peer)

    def _make_room(self) -> bool:
        """Dismiss some connections that wait for their clients, those that matter least."""
        now = asyncio.get_running_loop().time()
        held = Counter(connection.holder for connection in self._connections)
        for connection in self._connections:
            connection.look(now)
        waiting = [each for each in self._connections if each.is_waiting and each.rank < Rank.MEMBER]
        most = self._limits().connections_per_address
        # An agent that holds more than an address may goes before strangers, who may have just come.
        waiting.sort(
            key=lambda each: (
                0 if each.rank is Rank.AGENT and held[each.holder] > most else 1 + each.rank,
                -held[each.holder],
                each.since,
            )
        )
        for connection in waiting[: max(1, len(self._connections) // BATCH)]:
            self._dismiss(connection, "gave its place to another", None)
        return bool(waiting)

    def make_room_for_bodies(self) -> None:
        """Dismiss the stranger whose body has been coming for the longest time."""
        now = asyncio.get_running_loop().time()
        reading = [each for each in self._connections if each.rank is Rank.STRANGER and each.look(now) is Phase.BODY]
        if reading:
            self._dismiss(min(reading, key=lambda each: each.since), "sent no whole body", None)

    # -- how long they may stay

    async def look(self, now: float) -> None:
        """Dismiss whom the limits do not allow to stay."""
        http = self._limits()
        for number, connection in enumerate(list(self._connections)):
            if number % AT_ONCE == AT_ONCE - 1:
                await anyio.lowlevel.checkpoint()
            if connection not in self._connections:
                continue
            phase = connection.look(now)
            waited = now - connection.since
            if phase is Phase.HEAD and waited > http.header_timeout:
                text = f"no whole request came within {http.header_timeout:g} s"
                self._dismiss(connection, "sent no request", 408 if connection.has_spoken else None, text)
            elif phase is Phase.BODY and waited > http.body_timeout:
                text = f"the body did not come within {http.body_timeout:g} s"
                self._dismiss(connection, "sent no whole body", 408, text)
            elif connection.is_slow(now, http.min_rate):
                text = f"the client sends or reads less than {http.min_rate} bytes per second"
                self._dismiss(connection, "was too slow", 408, text)
        self._hold_to_count(now, http.connections_per_address)
        self._report(now)

    def _hold_to_count(self, now: float, most: int) -> None:
        strangers: dict[str, list[Connection]] = {}
        for connection in self._connections:
            if connection.rank is Rank.STRANGER:
                strangers.setdefault(connection.holder, []).append(connection)
        for held in strangers.values():
            if (over := len(held) - most) > 0:
                patient = [each for each in held if each.is_waiting and now - each.since > PATIENCE]
                for connection in sorted(patient, key=lambda each: each.since)[:over]:
                    self._dismiss(connection, "was one too many of its address", None)

    def _dismiss(self, connection: Connection, why: str, status: int | None, message: str = "") -> None:
        self._connections.discard(connection)
        self._count(why, connection.holder)
        connection.dismiss(status, Code.TIMEOUT, message)

    # -- what the log says of it

    def _count(self, why: str, holder: str) -> None:
        self.dismissed[why] += 1
        if len(self._unreported) < 10_000:  # a flood from many addresses
            self._unreported[why, holder] += 1

    def _report(self, now: float) -> None:
        """Log who was dismissed, in one line a minute: a line for each would be a flood of its own."""
        if now - self._reported < REPORT_EVERY or not self._unreported:
            return
        for why in dict.fromkeys(why for why, _ in self._unreported):
            by_holder = Counter({holder: n for (reason, holder), n in self._unreported.items() if reason == why})
            holder, most = by_holder.most_common(1)[0]
            logger.warning("%d connections were closed in the last minute: the client %s; the most, %d, of %s",
                           by_holder.total(), why, most, holder)  # fmt: skip
        self._unreported.clear()
        self._reported = now


def _last_descriptor() -> int:
    """Return the first descriptor that strangers may not have. The rest is for mods and the operator."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, -1):
        return 1 << 30
    return soft - min(1024, max(64, soft // 8))
