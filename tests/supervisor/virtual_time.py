"""An event loop whose clock is virtual: it stands still while anything is ready, and jumps to the next timer when nothing is.

A minute of timeouts, pings and delays then takes as long as what is done in it, and two things that happen at the same moment
happen at exactly the same moment. Sockets are real ones and may be used as ever, as long as both ends are served in this loop.
Threads may not: nothing here waits for them, so time would run away while they work.
"""

from __future__ import annotations

import asyncio
import selectors

MAX_TURNS = 200_000
"""Turns of the loop at one moment of time; more of them are a circle that does not end."""


class Stuck(Exception):
    """Whoever is waited for will never come: nothing is ready and no timer is set, or the loop turns without end."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector loop that never sleeps; ``time()`` begins at 1000."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_ImpatientSelector(self))

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _ImpatientSelector(selectors.DefaultSelector):
    """Says at once what is ready; if nothing is, the time that was to be waited has passed."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0  # since time moved

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            self._turns += 1
            if self._turns > MAX_TURNS:
                raise Stuck(f"{MAX_TURNS} turns of the loop at {self._loop.time()}")
            return ready
        if timeout is None:
            raise Stuck("nothing is ready, and no timer is set")
        self._turns = 0
        self._loop._jump(timeout)
        return []
