"""Accepts connections.

asyncio's own server accepts as many at once as the kernel has queued, 2,048 or more, before any of
them can be looked at, and they would take every descriptor. This listener takes some at a time, and
asks the door. A connection that has not sent a byte stays in the hall (see `silent`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ....ipc.errors import Code
from ...process import reserve
from ..wire.protocol import last_words
from .connection import Connection
from .door import Door, last_descriptor
from .places import Rank
from .silent import Hall, Silent
from .tls import GOODBYE, HANDSHAKE, Certificate

logger = logging.getLogger("modvisor.http")

# No keys of the network file: `http.connections` bounds them all, and these say how long one turn of the loop is.
BURST = 64  # connections that are accepted in one turn of the loop, at about 20 µs each
RETRY = 0.1  # seconds until the next try when the process has no descriptor left

_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Takes connections from a listening socket, which it closes at the end.

    Args:
        connect: makes the protocol of a connection.
        door: decides who gets in. None: everybody does, with descriptors of the reserve if there are no others.
        certificate: None: connections are plain.
        patience: returns the seconds that a handshake of TLS may take.
    """

    def __init__(
        self,
        sock: socket.socket,
        connect: Callable[[], Connection],
        door: Door | None,
        certificate: Certificate | None = None,
        patience: Callable[[], float] = lambda: 10.0,
    ) -> None:
        self._sock = sock
        self._connect = connect
        self._door = door
        self._certificate = certificate
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._heard: set[Silent] = set()  # that wait for their turn
        self._setups: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._hall = None if door is None else Hall(self._speaks, door.leave)

    def start(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more. Connections that were accepted stay."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._retry is not None:
            self._retry.cancel()
        else:
            self._loop.remove_reader(self._sock)
        self._sock.close()
        if self._hall is not None:
            self._hall.close()
        for silent in self._heard:
            silent.dismiss(None)
        if self._certificate is not None:
            for setup in self._setups:
                setup.cancel()

    def refill(self) -> None:
        """Take the descriptors in reserve again, after they were needed."""
        if self._door is None:
            reserve.refill()

    def _accept(self) -> None:
        for _ in range(BURST):
            try:
                accepted, address = self._sock.accept() if self._door else reserve.with_spare(self._sock.accept)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                self._pause(error)
                return
            accepted.setblocking(False)
            self._take(accepted, address[0] if isinstance(address, tuple) else "")

    def _take(self, accepted: socket.socket, peer: str) -> None:
        door, hall = self._door, self._hall
        if door is None or hall is None:
            self._connect_to(accepted, self._connect())
        elif door.lets_in(accepted.fileno()):
            silent = Silent(_lowered(accepted), self._loop.time())
            door.enter(silent, peer)
            hall.enter(silent)
        else:
            door.turn_away(peer)
            _tell_and_close(accepted, 503, Code.BUSY, "the network has no place for another connection; try again")

    def _speaks(self, silent: Silent) -> None:
        """Let a connection that has spoken go on, when it is the turn of its address."""
        assert self._door is not None
        turnstile = self._door.turnstile
        if silent.rank is Rank.KNOWN or turnstile.has_place():
            self._begin(silent)
        else:
            self._heard.add(silent)
            turnstile.queue(silent.holder, partial(self._begin, silent))

    def _begin(self, silent: Silent) -> int:
        """Set a connection up that has spoken. What it said is read later."""
        self._heard.discard(silent)
        if silent.is_closed or self._door is None:  # it was dismissed
            return 0
        if self._certificate is not None and not _speaks_tls(silent.sock):
            self._door.leave(silent)
            _tell_and_close(
                silent.sock, 400, Code.BAD_INPUT, "this port speaks HTTPS only: use https:// in the address"
            )
            return 0
        began = time.thread_time()
        connection = self._connect()
        self._door.goes_on(silent, connection)
        self._connect_to(silent.sock, connection)
        handshake = 0.0 if self._certificate is None else self._certificate.cost
        connection.kept(time.thread_time() - began + handshake)
        return 0

    def _connect_to(self, accepted: socket.socket, connection: Connection) -> None:
        setup = self._loop.create_task(self._set_up(accepted, connection))
        if self._certificate is not None:
            connection.abandon = setup.cancel
        self._setups.add(setup)
        setup.add_done_callback(self._setups.discard)

    async def _set_up(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            if self._certificate is None:
                await self._loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=self._certificate.context,
                    ssl_handshake_timeout=self._patience(),
                    ssl_shutdown_timeout=GOODBYE,
                )
        except BaseException as error:
            accepted.close()
            if self._door is not None:
                self._door.leave(connection)
                if isinstance(error, ssl.SSLError):
                    self._door.failed_handshake(connection)
            if not isinstance(error, (OSError, asyncio.CancelledError)):  # the client is gone, or was dismissed
                raise

    def _pause(self, error: OSError) -> None:
        """Wait until a descriptor may be free; the connections wait in the kernel."""
        logger.error("cannot accept connections: %s; trying again", error.strerror)
        if self._door is not None:
            self._door.make_places()
        self._loop.remove_reader(self._sock)
        self._retry = self._loop.call_later(RETRY, self._go_on)

    def _go_on(self) -> None:
        self._retry = None
        self.refill()
        self.start()


def _speaks_tls(sock: socket.socket) -> bool:
    """Return whether the first byte of a client is one of TLS, or none has come."""
    try:
        return sock.recv(1, socket.MSG_PEEK) in (HANDSHAKE, b"")
    except OSError:
        return True


def _tell_and_close(sock: socket.socket, status: int, code: str, message: str) -> None:
    with suppress(OSError):
        sock.send(last_words(status, code, message))
    sock.close()


def _lowered(sock: socket.socket) -> socket.socket:
    """Move a connection to the lowest descriptor that is free, if it has one that is kept for others.

    It took the place of another, whose descriptor is free now. Would that one go to the next newcomer,
    who then takes nobody's place, the descriptors above would fill up.
    """
    if sock.fileno() < last_descriptor():
        return sock
    try:
        lower = sock.dup()
    except OSError:  # no descriptor is left
        return sock
    sock.close()
    return lower
