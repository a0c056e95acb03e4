"""Spinning (busy waiting): a loop that expects something soon does not go to sleep.

Waking a process that sleeps on another core takes longer than all the work for a small event. So a
sender that expects the response soon, or a worker that expects the next event soon, polls its
sockets for a moment instead of sleeping. That takes up a core, so it has to pay: what was expected
must have come in time most of the times, and no other process may want the core. If it does not
pay, spinning is tried only now and then.
"""

from __future__ import annotations

import asyncio
import os
import resource
from time import perf_counter

_MOST_SCORE = 8  # more hits in a row do not raise the score
_MISS = 3  # a miss lowers the score by as much as so many hits raise it
_MOST_SKIPPED = 256  # chances skipped between two attempts when spinning hardly ever pays
_CHECK_EVERY = 32  # attempts between two looks at whether another process wants the core
_CROWDED = 8  # preemptions between two looks from which on another process wants the core

_WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class Spinner:
    """Keeps the running loop awake while something is expected within ``patience``.

    Args:
        patience: seconds to stay awake.
    """

    def __init__(self, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._is_possible = can_spin()
        self._until = 0.0
        self._awake = False
        self._came = False  # since the loop is kept awake
        self._score = 0
        self._to_skip = 0  # chances that are still to be skipped
        self._skipped = 1  # how many chances were skipped the last time
        self._attempts = 0  # since the last look at preemptions
        self._preempted = 0  # at the last look

    @property
    def is_awake(self) -> bool:
        """Whether it keeps the loop awake at this moment."""
        return self._awake

    def expect(self, times: int = 1) -> None:
        """Expect something soon.

        Args:
            times: how many times the patience to wait, for what takes longer.
        """
        if self._awake:
            self._until = max(self._until, perf_counter() + times * self._patience)
        elif self._to_skip:
            self._to_skip -= 1
        elif self._is_possible:
            self._until = perf_counter() + times * self._patience
            self._awake, self._came = True, False
            self._loop.call_soon(self._turn)

    def came(self) -> None:
        """Note that something came. Call `expect` again if more is expected."""
        self._came = True
        self._until = 0.0

    def _turn(self) -> None:
        # As long as a callback is ready, the loop polls its sockets without waiting.
        if perf_counter() < self._until:
            self._loop.call_soon(self._turn)
            return
        self._awake = False
        self._learn()

    def _learn(self) -> None:
        self._score = min(self._score + 1, _MOST_SCORE) if self._came else self._score - _MISS
        self._attempts += 1
        if self._attempts == _CHECK_EVERY:
            self._attempts, before = 0, self._preempted
            self._preempted = resource.getrusage(_WHO).ru_nivcsw
            if self._preempted - before > _CROWDED:
                self._score = -1
        if self._score < 0:
            self._score, self._skipped = 0, min(2 * self._skipped, _MOST_SKIPPED)
            self._to_skip = self._skipped
        elif self._came:
            self._skipped = max(1, self._skipped // 2)


def can_spin() -> bool:
    """Return whether there is a second core. On a single one, spinning holds up the other side."""
    return len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) > 1
