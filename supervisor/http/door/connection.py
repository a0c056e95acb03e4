"""One connection of the HTTP server, and for how long its client has kept it waiting.

uvicorn's protocol does the talking. `Connection` stands between it and the socket: it reads in small
pieces, so that no piece keeps the loop for long, and it remembers what `door` decides by.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import h11
from starlette.requests import Request

from ..wire.phase import Phase
from ..wire.protocol import READ_SIZE, HttpProtocol, last_words
from .clients import IPAddress
from .places import Rank
from .read_turns import Turnstile

WINDOW = 10.0
"""Seconds over which the floor of bytes per second (`http.min_rate`) is measured. Its documentation names them."""


class Keeper(Protocol):
    """Knows all connections; see `Door`."""

    def rank(self, connection: Connection, rank: Rank, holder: str) -> None: ...
    def leave(self, connection: Connection) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """A connection, with uvicorn's protocol inside.

    Attributes:
        rank: who holds it.
        holder: the address that it is counted for, or the agent that holds it.
        peer: the address of the other end; None for a unix socket.
        counted: the name under which this address is counted.
        phase: what it waited for at the last look.
        since: when that began.
        parked: a request waits for an event, which may take as long as it likes.
        abandon: ends the set-up of the connection, which TLS may make a long one; None: there is no need.
    """

    def __init__(self, http: Callable[[Connection], HttpProtocol], keeper: Keeper | None) -> None:
        self.rank = Rank.STRANGER
        self.holder = self.counted = ""
        self.peer: IPAddress | None = None
        self.phase = Phase.HEAD
        self.since = self._mark = asyncio.get_running_loop().time()
        self.parked = False
        self.abandon: Callable[[], object] | None = None
        self._keeper = keeper
        self._turnstile: Turnstile | None = None
        self._has_passed = keeper is not None  # the first piece passed before there was a connection
        self._unread = b""  # what waits at the turnstile
        self._is_queued = False
        self._is_dismissed = False
        self._request: tuple[Any, int] = (None, 0)
        self._received = self._marked = 0
        self._unsent = self._sent = 0
        self._buffer = _shared_buffer
        self.http = http(self)
        self.http.in_turn = self.in_turn

    # -- the protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.http.connection_made(transport)  # type: ignore[arg-type]
        if self._is_dismissed:
            self.http.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received += nbytes
        data = bytes(self._buffer[:nbytes])
        if self._turnstile is None:
            self.http.ordinary_received(data)
        elif self._unread:
            self._unread += data
            self.http.transport.pause_reading()
        elif self._has_passed or self._turnstile.has_place(nbytes):
            self._has_passed = False
            if self.is_timed:
                self._count(partial(self.http.ordinary_received, data))
            else:
                self.http.ordinary_received(data)
        else:
            self._unread = data
            if self.rank is Rank.STRANGER:  # an agent hardly ever sends more before it is answered
                self.http.transport.pause_reading()
            self._queue(self._turnstile, self._read)

    def _read(self) -> None:
        data, self._unread = self._unread, b""
        self.http.ordinary_received(data)
        if not self.http.flow.read_paused:
            self.http.transport.resume_reading()

    # -- what strangers and guests send is read in turns

    def take_rank(self, rank: Rank, turnstile: Turnstile | None) -> None:
        """Take a rank, and the turnstile that whoever has this rank passes."""
        self.rank, self._turnstile = rank, turnstile

    def in_turn(self, work: Callable[[], None]) -> None:
        """Do what is to be done for a request when this connection has its turn."""
        turnstile = self._turnstile
        if turnstile is None:
            work()
        elif turnstile.has_place():
            self._count(work)
        else:
            self._queue(turnstile, work)

    def kept(self, seconds: float) -> None:
        """Note for how long a request on this connection has kept the loop."""
        if self._turnstile is not None:
            self._turnstile.kept(seconds)

    @property
    def is_timed(self) -> bool:
        """Whether the time for which requests on this connection keep the loop is counted."""
        return self._turnstile is not None and self._turnstile.is_limited

    def _queue(self, turnstile: Turnstile, work: Callable[[], None]) -> None:
        self._is_queued = True
        turnstile.queue(self.counted, partial(self._go_on, work))

    def _go_on(self, work: Callable[[], None]) -> int:
        size, self._is_queued = len(self._unread), False
        if not self.http.transport.is_closing():
            self._count(work)
        return size

    def _count(self, work: Callable[[], None]) -> None:
        if not self.is_timed:
            work()
            return
        began = time.thread_time()
        work()
        self.kept(time.thread_time() - began)

    def eof_received(self) -> None:
        self.http.eof_received()

    def pause_writing(self) -> None:
        self.http.pause_writing()

    def resume_writing(self) -> None:
        self.http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._keeper is not None:
            self._keeper.leave(self)
        self.http.connection_lost(exc)

    # -- how long the client lets it wait

    def look(self, now: float) -> Phase:
        """Note what the connection waits for, and since when."""
        http = self.http
        # What waits at the turnstile waits for us, not for the client.
        phase = Phase.ANSWER if self._is_queued else _phase(http)
        request = http.cycle, http.answered
        if phase is not self.phase or request != self._request:
            self.phase, self._request = phase, request
            self.since = now
            self._restart_window(now)
        return phase

    def is_slow(self, now: float, least: float) -> bool:
        """Return whether the client sends, or takes, less than `least` bytes per second."""
        transport = self.http.transport
        if transport is None:  # not set up yet
            return False
        unsent = transport.get_write_buffer_size()
        self._sent += max(0, self._unsent - unsent)
        is_owing = self.phase is Phase.BODY and not self.http.flow.read_paused
        if not is_owing and not (unsent and self._unsent):
            self._restart_window(now)
        self._unsent = unsent
        if now - self._mark < WINDOW:
            return False
        moved = self._received - self._marked if is_owing else self._sent
        if moved < least * (now - self._mark):
            return True
        self._restart_window(now)
        return False

    def _restart_window(self, now: float) -> None:
        self._mark, self._marked, self._sent = now, self._received, 0

    def waits(self, now: float) -> bool:
        """Return whether closing the connection now loses nothing but time."""
        return self.look(now) is not Phase.ANSWER or self.parked or self._is_queued

    @property
    def has_spoken(self) -> bool:
        return self._received > 0

    # -- the end

    def dismiss(self, status: int | None, code: str = "", message: str = "") -> None:
        """Close the connection, with an answer if one can still be given."""
        http, self._is_dismissed = self.http, True
        if http.transport is None and self.abandon is not None:
            self.abandon()
        if http.transport is None or http.transport.is_closing():
            return
        if http.socket is not None:
            http.socket.dismiss(status, code, message)
            return
        is_unanswered = http.cycle is None or http.cycle.response_complete or not http.cycle.response_started
        if status is not None and is_unanswered and not http.transport.get_write_buffer_size():
            http.transport.write(last_words(status, code, message))
        if http.transport.get_write_buffer_size():
            http.transport.abort()  # close() would wait until the client has read everything
        else:
            http.transport.close()

    def belongs_to(self, agent_id: str, *, is_member: bool) -> None:
        """Note that an agent has proved who it is on this connection."""
        rank, holder = Rank.MEMBER if is_member else Rank.AGENT, f"agent {agent_id}"
        if self._keeper is not None and self.rank <= rank and (self.rank, self.holder) != (rank, holder):
            self._keeper.rank(self, rank, holder)


def connection_of(request: Request) -> Connection | None:
    """Return the connection that a request came on; None if no server of ours took it."""
    return request.scope.get("state", {}).get("connection")


@contextmanager
def parked(connection: Connection | None) -> Iterator[None]:
    """Note inside the block that the request waits for an event: its connection may be taken back."""
    if connection is None:
        yield
        return
    connection.parked = True
    try:
        yield
    finally:
        connection.parked = False


def _phase(http: HttpProtocol) -> Phase:
    cycle = http.cycle
    if http.socket is not None:
        return http.socket.phase
    if http.answering is not None:
        return Phase.ANSWER
    if http.is_reading:
        return Phase.BODY
    if http.conn.their_state is h11.SEND_BODY:
        return Phase.BODY
    if cycle is not None and not cycle.response_complete:
        return Phase.ANSWER
    is_new = cycle is None and not http.answered
    return Phase.HEAD if is_new or http.conn.trailing_data[0] else Phase.IDLE


# One for all: what is read is copied out before the next read.
_shared_buffer = memoryview(bytearray(READ_SIZE))
