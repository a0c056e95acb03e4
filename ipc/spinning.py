"""Waiting awake: a loop that expects something at once does not go to sleep for a moment.

To wake a process that sleeps on another core takes longer than all that is done for a small event. So whoever has just sent
something that is answered at once, or has answered something that is followed by the next, looks for it a little while instead
of sleeping. It costs a core for as long, so it has to pay: what was expected must have come in time most of the times, and no
other process may want the core. Else it is tried only now and then.
"""

from __future__ import annotations

import asyncio
import os
import resource
from time import perf_counter

_TRUST = 8  # chances that came true in a row, and no more, count in its favour
_MISS = 3  # of them are lost by one that did not
_MOST_PASSED = 256  # chances that are let go by between two attempts, when it hardly ever pays
_SPELL = 32  # turns of waiting between two looks at whether somebody else wants the core
_CROWDED = 8  # times that it was taken from us in such a spell

_WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class Spinner:
    """Keeps the running loop awake while something is expected that as a rule comes within ``patience``.

    Args:
        patience: seconds to wait awake for it.
    """

    def __init__(self, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._is_possible = can_poll()
        self._until = 0.0
        self._awake = False
        self._came = False  # since we stay awake
        self._score = 0
        self._to_pass = 0  # chances to let go by
        self._passed = 1  # how many those were the last time
        self._spell = 0
        self._taken = 0

    @property
    def is_awake(self) -> bool:
        """Whether it keeps the loop awake at this moment."""
        return self._awake

    def expect(self, times: int = 1) -> None:
        """Something is due at once; ``times``: so many times the patience, for what takes longer."""
        if self._awake:
            self._until = max(self._until, perf_counter() + times * self._patience)
        elif self._to_pass:
            self._to_pass -= 1
        elif self._is_possible:
            self._until = perf_counter() + times * self._patience
            self._awake, self._came = True, False
            self._loop.call_soon(self._turn)

    def came(self) -> None:
        """It is there. Say it again if more is expected."""
        self._came = True
        self._until = 0.0

    def _turn(self) -> None:
        # As long as something is ready to be called, the loop looks at its sockets without waiting.
        if perf_counter() < self._until:
            self._loop.call_soon(self._turn)
            return
        self._awake = False
        self._learn()

    def _learn(self) -> None:
        self._score = min(self._score + 1, _TRUST) if self._came else self._score - _MISS
        self._spell += 1
        if self._spell == _SPELL:
            self._spell, before = 0, self._taken
            self._taken = resource.getrusage(_WHO).ru_nivcsw
            if self._taken - before > _CROWDED:
                self._score = -1
        if self._score < 0:
            self._score, self._passed = 0, min(2 * self._passed, _MOST_PASSED)
            self._to_pass = self._passed
        elif self._came:
            self._passed = max(1, self._passed // 2)


def can_poll() -> bool:
    """Whether there is a second core: on one alone, to wait awake is to keep the other side from doing what we wait for."""
    return len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) > 1
