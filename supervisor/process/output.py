"""Read what a worker prints, within a budget: a mod that floods its log slows down only itself."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
from collections.abc import Callable

READ_SIZE = 4096
"""Bytes of output read in one turn of the loop.

This is a page, which a full pipe must give up before it takes more. A page of lines of one
character takes 0.1 ms to log.
"""

BYTE_RATE = 256 * 1024
LINE_RATE = 5000
"""Bytes and lines of a worker's output read per second when it prints without pause.

They take about 1 % of the supervisor's time. A mod that prints more waits for its pipe: it loses no
output, and the other mods do not wait for it.
"""

BURST = 4.0
"""Seconds of the two rates (1 MB, 20,000 lines) that a worker may print at once at full speed."""

LAST_OUTPUT = 1024 * 1024
"""Bytes read beyond the budget after the end: as many as a user can have in a pipe."""

_SHORTEST_PAUSE = 0.05  # seconds; several reads in a row cost less than a timer for each


class WorkerOutput:
    """Our end of the pipe that a worker prints into.

    Nobody reads while the budget is used up, so the pipe fills and the worker waits.
    """

    def __init__(self, fd: int, on_data: Callable[[bytes], None], byte_rate: int = BYTE_RATE) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self.closed = False
        self._on_data = on_data
        self._budget = Budget(self._loop.time(), byte_rate)
        self._pause: asyncio.TimerHandle | None = None
        self._next: asyncio.Future[None] | None = None
        os.set_blocking(self._fd, False)
        self._loop.add_reader(self._fd, self._readable)

    def hand_over(self, on_data: Callable[[bytes], None], byte_rate: int) -> None:
        """Give what is read from now on to another function, within a budget of its own."""
        self._on_data = on_data
        self._budget = Budget(self._loop.time(), byte_rate)

    async def next(self) -> None:
        """Wait until more output is read."""
        self._next = self._loop.create_future()
        await self._next

    def finish(self) -> None:
        """Read what an ended worker left in the pipe, then close.

        Only what is in the pipe now is read, because a process that outlived the worker may print
        for ever. It gets SIGPIPE.
        """
        left = 0 if self.closed else min(_bytes_in(self._fd), LAST_OUTPUT)
        while left > 0 and (data := self._read(min(left, READ_SIZE))):
            left -= len(data)
        self._close()

    def _readable(self) -> None:
        data = self._read(READ_SIZE)  # one read a turn: a mod that floods its log must not hold the loop
        if data is None:
            return
        if not data:
            self._close()
        elif pause := self._budget.spend(self._loop.time(), data):
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(pause, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._readable)

    def _read(self, size: int) -> bytes | None:
        """Read and pass on. Return b"" at the end, None if the pipe is empty at the moment."""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if data:
            self._on_data(data)
            if self._next is not None and not self._next.done():
                self._next.set_result(None)
        return data

    def _close(self) -> None:
        if self.closed:  # the number may belong to another file by now
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        else:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self.closed = True


class Budget:
    """Decides when to read a worker's output again: the time and the data go in, a pause comes out.

    It counts in seconds. A read uses up the time in which ``byte_rate`` and `LINE_RATE` both allow
    as much.
    """

    def __init__(self, now: float, byte_rate: int = BYTE_RATE) -> None:
        self._left = BURST
        self._at = now
        self._byte_rate = byte_rate

    def spend(self, now: float, data: bytes) -> float:
        """Count ``data``, read at ``now``. Return for how many seconds not to read."""
        self._left = min(BURST, self._left + now - self._at)
        self._at = now
        self._left -= max(len(data) / self._byte_rate, data.count(b"\n") / LINE_RATE)
        return 0.0 if self._left > 0 else max(_SHORTEST_PAUSE, -self._left)


def _bytes_in(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
