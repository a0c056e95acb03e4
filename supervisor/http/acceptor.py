"""Accept an operator's connections also when the process has no descriptor left."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from ..process import reserve

logger = logging.getLogger("modvisor.http")

AT_ONCE = 16
"""Connections accepted in one turn of the loop."""

RETRY = 0.2
"""Seconds until the next try after the reserve was used up."""


class Acceptor:
    """Accepts connections on a listening socket, with descriptors of the reserve if there are no others.

    asyncio's own server pauses for a second when a descriptor is missing, and uvloop's refuses the
    connection.

    Args:
        protocol: makes the protocol of a connection.
    """

    def __init__(self, sock: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._protocol = protocol
        self._connecting: set[asyncio.Task[object]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Accept no more connections, and close the socket."""
        if self._retry is not None:
            self._retry.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _listen(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        try:
            for _ in range(AT_ONCE):
                connection, _ = reserve.with_spare(self._sock.accept)
                connection.setblocking(False)
                task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
                self._connecting.add(task)
                task.add_done_callback(self._connected)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            logger.error("no connection could be accepted on the admin socket: %s", error)
            self._loop.remove_reader(self._sock)
            self._retry = self._loop.call_later(RETRY, self._listen)

    def _connected(self, task: asyncio.Task[object]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a connection to the admin socket failed: %s", error)
