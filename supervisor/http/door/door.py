"""How many connections a server holds, for how long, and who has to go when there are too many.

Rules:

- A newcomer gets in. When all places are taken, it takes the place of another (see `places`).
- A connection is a stranger's until its client has proved who it is. An address may hold only so
  many of them for longer than `stranger_timeout`: agents that come at once behind one address have
  the time to say who they are. An agent that nobody vouches for may hold only so many, too.
- A stranger has nothing that waits for events: a poll, a stream and a WebSocket's events begin when its
  client has proved who it is (`http.agents.api`, `http.websocket.session`).
- A client that keeps a request waiting, or sends or reads too slowly, is dismissed.
- What strangers and guests send is read in turns; what members of a group with a password send is
  read as it comes.

One look at all connections each `INTERVAL` decides how long they may stay, so a request costs nothing.
Closing a connection takes the loop ten times as long as looking at it, so many are closed in slices.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address

import anyio.lowlevel

from ....ipc.errors import Code
from ...config import HttpConfig
from .clients import counted_as, is_exempt, is_in, peer_named
from .connection import Connection, Phase
from .places import Places, Rank
from .read_turns import Turnstile
from .silent import Silent

logger = logging.getLogger("modvisor.http")

INTERVAL = 0.5  # seconds between two looks
AT_ONCE = 200  # connections that are looked at in one turn of the loop
CLOSED_AT_ONCE = 20  # connections that are closed in one turn of the loop
REPORT_EVERY = 60.0  # seconds between two lines of the log that say who was dismissed

STRANGERS_PER_TURN, GUESTS_PER_TURN = 4, 64
"""Small pieces that are read in one turn of the loop. Guests are agents that nobody vouches for. They
rest only while a member is connected (`http.guest_share`). Sixteen at once took 8 % more CPU for a
request: what is sent to a mod in one turn leaves together."""

# None of these is a key of the network file: they say how long one turn of the loop is (some
# milliseconds), which is nothing that one network needs otherwise than another.

Held = Connection | Silent


class Door:
    """The connections of the TCP port.

    Args:
        limits: returns the limits in force.

    Attributes:
        turnstile: what strangers send passes it.
        guests: what agents send passes it that have a secret, and that nobody vouches for.
        dismissed: how many connections were dismissed so far, by reason.
    """

    def __init__(self, limits: Callable[[], HttpConfig]) -> None:
        self._limits = limits
        self._connections: Places[Held] = Places()
        self.turnstile = Turnstile(STRANGERS_PER_TURN, lambda: limits().stranger_share)
        self.guests = Turnstile(GUESTS_PER_TURN, self._share_of_guests)
        self.dismissed: Counter[str] = Counter()
        self._unreported: Counter[tuple[str, str]] = Counter()
        self._reported = asyncio.get_running_loop().time()

    def by_rank(self) -> dict[str, int]:
        """Return how many connections there are, by who holds them."""
        return self._connections.by_rank()

    # -- who comes and goes

    def lets_in(self, descriptor: int) -> bool:
        """Return whether a new connection gets a place. If all are taken, make room.

        Args:
            descriptor: of its socket. The kernel gives the lowest that is free.
        """
        http = self._limits()
        if len(self._connections) < http.connections and descriptor < last_descriptor():
            return True
        return self._make_place(http)

    def make_places(self) -> None:
        """Dismiss some connections: the process had no descriptor for a newcomer, although some are kept for mods."""
        for _ in range(CLOSED_AT_ONCE):
            if not self._make_place(self._limits()):
                return

    def _make_place(self, http: HttpConfig) -> bool:
        to_go = self._connections.to_go(asyncio.get_running_loop().time(), http.connections_per_address)
        if to_go is not None:
            self._dismiss(to_go, "gave its place to another", None)
        return to_go is not None

    def enter(self, silent: Silent, peer: str) -> None:
        """Count a connection that has just come."""
        http, address = self._limits(), peer_named(peer) or IPv4Address(0)
        silent.peer, silent.holder = address, counted_as(address)
        if is_exempt(address, http) or is_in(address, http.trusted_proxies):
            silent.rank = Rank.KNOWN
        self._connections.enter(silent)

    def goes_on(self, silent: Silent, connection: Connection) -> None:
        """Count a connection as one that has spoken, and no longer as silent."""
        self._connections.leave(silent)
        connection.peer = silent.peer
        connection.counted = connection.holder = silent.holder
        if silent.heard is not None:
            connection.since -= silent.heard - silent.since
        connection.take_rank(silent.rank, self._turnstile_of(silent.rank))
        self._connections.enter(connection)

    def rank(self, connection: Connection, rank: Rank, holder: str) -> None:
        """Note that an agent has proved on a connection who it is."""
        if connection not in self._connections:  # it was dismissed
            return
        self._connections.leave(connection)
        connection.holder = holder
        connection.take_rank(rank, self._turnstile_of(rank))
        self._connections.enter(connection)
        if rank is Rank.AGENT:
            self._hold_agent_to_count(connection)

    def leave(self, connection: Held) -> None:
        self._connections.leave(connection)

    def turn_away(self, peer: str) -> None:
        self._count("found no place", peer)

    def failed_handshake(self, connection: Connection) -> None:
        """Count a client with which no TLS could be agreed on, for want of a certificate for example."""
        self._count("failed the handshake of TLS", connection.holder)

    def _turnstile_of(self, rank: Rank) -> Turnstile | None:
        return {Rank.STRANGER: self.turnstile, Rank.AGENT: self.guests}.get(rank)

    def _share_of_guests(self) -> float:
        """Return 1 while no member is connected: guests alone keep nobody from the loop."""
        return self._limits().guest_share if self._connections.has(Rank.MEMBER) else 1.0

    def _hold_agent_to_count(self, newest: Connection) -> None:
        """Dismiss the connection of an agent that waits and is its oldest, if it has too many."""
        held = self._connections.of(newest.rank, newest.holder)
        if len(held) > self._limits().connections_per_agent:
            now = asyncio.get_running_loop().time()
            oldest = next((each for each in held if each is not newest and each.waits(now)), None)
            if oldest is not None:
                self._dismiss(oldest, "was one too many of its agent", None)

    def make_room_for_bodies(self) -> None:
        """Dismiss the stranger whose body has been coming for the longest time."""
        now = asyncio.get_running_loop().time()
        reading = [each for held in self._connections.by_strangers() for each in held if each.look(now) is Phase.BODY]
        if reading:
            self._dismiss(min(reading, key=lambda each: each.since), "sent no whole body", None)

    # -- how long they may stay

    async def look(self, now: float) -> None:
        """Dismiss the connections that the limits do not allow to stay."""
        http, closed = self._limits(), 0
        for number, connection in enumerate(list(self._connections)):
            if number % AT_ONCE == AT_ONCE - 1 or closed == CLOSED_AT_ONCE:
                closed = 0
                await anyio.lowlevel.checkpoint()
            if connection in self._connections:
                closed += self._judge(connection, now, http)
        await self._hold_to_count(now, http)
        self._report(now)

    def _judge(self, connection: Held, now: float, http: HttpConfig) -> bool:
        """Dismiss a connection that keeps us waiting, and return whether it did."""
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
        else:
            return False
        return True

    async def _hold_to_count(self, now: float, http: HttpConfig) -> None:
        too_many: list[Held] = []
        most, patience = http.connections_per_address, http.stranger_timeout
        for held in self._connections.by_strangers():
            if (over := len(held) - most) > 0:
                patient = [each for each in held if each.look(now) is not Phase.ANSWER and now - each.since > patience]
                too_many += sorted(patient, key=lambda each: each.since)[:over]
        for number, connection in enumerate(too_many, 1):
            if connection in self._connections and connection.rank is Rank.STRANGER:
                self._dismiss(connection, "was one too many of its address", None)
            if number % CLOSED_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()

    def _dismiss(self, connection: Held, why: str, status: int | None, message: str = "") -> None:
        self._connections.leave(connection)
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


def last_descriptor() -> int:
    """Return the first descriptor that strangers may not have. The rest is for mods and the operator."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, -1):
        return 1 << 30
    return soft - min(1024, max(64, soft // 8))
