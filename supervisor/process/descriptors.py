"""Descriptors kept in reserve for what must go on when this process has none left.

Connections can take every descriptor. Then a mod that dies could not be started again, nobody would
look at what the mods use, and the operator could not connect. So some descriptors are held open from
the start. They are freed for an operation that fails without them, and taken back afterwards.

The reserve belongs to the process, as the limit does; all networks in it share one.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

RESERVED = 32
"""Descriptors in reserve. A start needs 15 at once with a new guardian, and keeps 4; an operator's connection takes one."""

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS})
"""Errors of a system call that say: this process, or the machine, has no more of something."""

Made = TypeVar("Made")


def is_shortage(error: BaseException) -> bool:
    """Return whether the supervisor, or the machine, lacked descriptors, processes, threads or memory."""
    if isinstance(error, OSError):
        return error.errno in SHORTAGES
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


class Reserve:
    """Descriptors that are held so that they can be given up.

    Args:
        size: how many to hold.
    """

    def __init__(self, size: int = RESERVED) -> None:
        self._size = size
        self._held: list[int] = []
        self._users = 0
        self._lent = 0
        self._lock = threading.RLock()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Hold the reserve inside the block. Blocks may overlap."""
        with self._lock:
            self._users += 1
            self.refill()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._free()

    def with_spare(self, work: Callable[[], Made]) -> Made:
        """Call ``work``; if it fails for want of descriptors, call it once more with those of the reserve.

        ``work`` must leave nothing behind when it fails. No other code of the same thread runs
        meanwhile, so nobody else takes what is freed.
        """
        try:
            return work()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        with self._lend():
            return work()

    def refill(self) -> None:
        """Take back what is missing, as far as there is any."""
        with self._lock, suppress(OSError):
            while self._users and not self._lent and len(self._held) < self._size:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    @contextmanager
    def _lend(self) -> Iterator[None]:
        with self._lock:
            self._lent += 1
            self._free()
        try:
            yield
        finally:
            with self._lock:
                self._lent -= 1
                self.refill()

    def _free(self) -> None:
        for fd in self._held:
            os.close(fd)
        self._held.clear()


reserve = Reserve()
