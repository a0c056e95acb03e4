"""Strangers take turns: in one turn of the loop only some of what they sent is read.

The loop reads from every connection that has sent something before it begins again. A hundred
connections of one stranger would take all of that time, and everybody else would wait for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Pass = Callable[[], None]

PER_TURN = 4  # pieces of at most `connection.READ_SIZE` bytes
REST = 3.0  # strangers rest so many times as long as they have kept the loop: they get a quarter of it


class Turnstile:
    """Lets some through in each turn of the loop. The others queue, first come, first served."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Pass] = deque()
        self._left = PER_TURN
        self._is_turning = False
        self._rests_until = 0.0

    def has_place(self) -> bool:
        """Return whether the caller may go on at once, and count it."""
        if not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)
        if not self._left or self._queue or self._loop.time() < self._rests_until:
            return False
        self._left -= 1
        return True

    def queue(self, go_on: Pass) -> None:
        """Call `go_on` in one of the next turns. It must not raise."""
        self._queue.append(go_on)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time of the block as time that strangers have kept the loop."""
        began = self._loop.time()
        try:
            yield
        finally:
            ended = self._loop.time()
            self._rests_until = max(ended, self._rests_until) + REST * (ended - began)

    def _turn(self) -> None:
        self._left = PER_TURN
        while self._queue and self._left and self._loop.time() >= self._rests_until:
            self._left -= 1
            self._queue.popleft()()
        self._is_turning = bool(self._queue)
        if self._is_turning:
            self._loop.call_at(self._rests_until, self._turn)
        else:
            self._left = PER_TURN
