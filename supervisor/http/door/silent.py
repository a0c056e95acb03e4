"""Connections that have not sent a byte.

Anybody can open thousands of them at next to no cost, so they cost next to nothing here either: a
socket and a few words. HTTP begins with the first byte. Until then they wait in a set of the kernel
that the loop sees as one descriptor. In each turn of the loop some that have spoken are taken out.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

from .clients import IPAddress
from .connection import Phase
from .places import Rank

AT_ONCE = 64
"""Connections that are taken out of the set in one turn of the loop, at about 5 µs each."""


class Silent:
    """A connection that has not sent a byte, or whose first byte has not been read.

    Attributes:
        rank: who holds it.
        holder: the address that it is counted for.
        since: when it came.
        heard: when its first byte came; None: it has not come.
    """

    __slots__ = ("_hall", "heard", "holder", "peer", "rank", "since", "sock")
    has_spoken = False

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock, self.since = sock, now
        self.peer: IPAddress | None = None
        self.rank, self.holder = Rank.STRANGER, ""
        self.heard: float | None = None
        self._hall: Hall | None = None

    def look(self, now: float) -> Phase:
        """Return what it waits for: the client, or its turn."""
        return Phase.HEAD if self.heard is None else Phase.ANSWER

    def waits(self, now: float) -> bool:
        return True

    def is_slow(self, now: float, least: float) -> bool:
        return False

    @property
    def is_closed(self) -> bool:
        return self.sock.fileno() < 0

    def dismiss(self, status: int | None, code: str = "", message: str = "") -> None:
        """Close it. Who has not asked for anything gets no answer."""
        if self._hall is not None:
            self._hall.leave(self)
        self.sock.close()

    def is_in(self, hall: Hall | None) -> None:
        self._hall = hall


class Hall:
    """Silent connections, until they speak.

    Args:
        heard: called when the first byte of a connection has come.
        gone: called when a client has closed its connection without a byte.
    """

    def __init__(self, heard: Callable[[Silent], None], gone: Callable[[Silent], None]) -> None:
        self._heard, self._gone = heard, gone
        self._loop = asyncio.get_running_loop()
        self._set = select.epoll() if hasattr(select, "epoll") else None
        self._silent: dict[int, Silent] = {}
        if self._set is not None:
            self._loop.add_reader(self._set.fileno(), self._look)

    def enter(self, silent: Silent) -> None:
        if self._set is None:  # no Linux
            self._speaks(silent)
            return
        descriptor = silent.sock.fileno()
        self._silent[descriptor] = silent
        silent.is_in(self)
        self._set.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP)

    def leave(self, silent: Silent) -> None:
        descriptor = silent.sock.fileno()
        if self._set is not None and self._silent.pop(descriptor, None) is not None:
            self._set.unregister(descriptor)
        silent.is_in(None)

    def close(self) -> None:
        """Close all connections that are here."""
        for silent in list(self._silent.values()):
            silent.dismiss(None)
        if self._set is not None:
            self._loop.remove_reader(self._set.fileno())
            self._set.close()

    def _look(self) -> None:
        assert self._set is not None
        for descriptor, events in self._set.poll(0, AT_ONCE):
            silent = self._silent.get(descriptor)
            if silent is None:  # it was dismissed
                continue
            self.leave(silent)
            if events & ~select.EPOLLIN and _has_nothing(silent.sock):
                silent.sock.close()
                self._gone(silent)
            else:
                self._speaks(silent)

    def _speaks(self, silent: Silent) -> None:
        silent.heard = self._loop.time()
        self._heard(silent)


def _has_nothing(sock: socket.socket) -> bool:
    """Return whether nothing came before the client closed the connection."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return True
