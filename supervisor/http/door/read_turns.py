"""Senders take turns: in one turn of the loop, only part of what they sent is read.

The loop reads from every connection that has sent something before it begins again. A hundred
connections of one client would take all of that time, and everybody else would wait for them.

What waits stands in lanes, one for each address, and the lanes take turns: whoever sends much from
one address waits for itself.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")
Pass = Callable[[], int]

WEIGHT, MORE = 1024, 3
"""Each `WEIGHT` bytes of a piece count as `MORE` small pieces: what is to be done for it grows with it."""

LONGEST_REST = 0.25  # seconds; one costly request must not keep all others waiting for long


class Turnstile:
    """Lets some through in each turn of the loop. The others queue, in the order in which they came.

    Args:
        per_turn: pieces that are read in one turn; large ones count several times, see `WEIGHT`.
        share: returns the part of the loop's time that may be taken: after what has passed has kept the
            loop, nobody passes for a while. 1: there is no rest.
    """

    def __init__(self, per_turn: int, share: Callable[[], float] = lambda: 1.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._per_turn, self._share = per_turn, share
        self._lanes: OrderedDict[str, deque[Pass]] = OrderedDict()
        self._left = per_turn
        self._is_turning = False
        self._rests_until = 0.0

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._lanes.values()))

    @property
    def is_limited(self) -> bool:
        """Whether less than all of the loop's time may be taken, so that it counts what has passed."""
        return self._share() < 1

    def has_place(self, size: int = 0) -> bool:
        """Return whether the caller may go on at once with this many bytes, and count them."""
        if not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)
        if self._left <= 0 or self._lanes or (self._rests_until and self._loop.time() < self._rests_until):
            return False
        self._left -= _places(size)
        return True

    def queue(self, lane: str, go_on: Pass) -> None:
        """Call `go_on` in one of the next turns. It returns how many bytes it went on with, and must not raise.

        Args:
            lane: the address that it is done for.
        """
        if (queue := self._lanes.get(lane)) is None:
            queue = self._lanes[lane] = deque()
        queue.append(go_on)

    def kept(self, seconds: float) -> None:
        """Note for how long the work that passed has kept the loop."""
        rest = seconds / self._share() - seconds
        if rest > 0:
            now = self._loop.time()
            self._rests_until = min(max(now, self._rests_until) + rest, now + LONGEST_REST)

    def _turn(self) -> None:
        self._left = self._per_turn
        while self._lanes and self._left > 0 and self._loop.time() >= self._rests_until:
            lane, queue = self._lanes.popitem(last=False)
            go_on = queue.popleft()
            if queue:
                self._lanes[lane] = queue
            self._left -= _places(go_on())
        self._is_turning = bool(self._lanes)
        if not self._is_turning:
            self._left = self._per_turn
        elif self._loop.time() < self._rests_until:
            self._loop.call_at(self._rests_until, self._turn)
        else:
            self._loop.call_soon(self._turn)


def _places(size: int) -> int:
    """Return how many places a piece of so many bytes takes."""
    return 1 + size // WEIGHT * MORE


@types.coroutine
def in_steps(work: Coroutine[Any, Any, T], kept: Callable[[float], None]) -> Generator[Any, Any, T]:
    """Run a coroutine, and tell `kept` for how long each of its steps has kept the loop."""
    step: Callable[[Any], Any] = work.send
    sent: Any = None
    while True:
        began = time.thread_time()
        try:
            waits_for = step(sent)
        except StopIteration as end:
            return end.value
        finally:
            kept(time.thread_time() - began)
        try:
            step, sent = work.send, (yield waits_for)
        except BaseException as error:  # noqa: BLE001 - it is cancelled, which `work` must see
            step, sent = work.throw, error
