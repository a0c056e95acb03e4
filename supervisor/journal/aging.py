"""The age of what the journal keeps, by a clock that people may set.

When it was written is kept as wall time, which people read. But the wall clock jumps: when it is set,
when a machine without a battery starts, after a suspension. What is dropped by its age must not be
dropped because of a jump, nor because the network did not run: nobody could look at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP = 60.0
"""Seconds by which the wall clock must run ahead at once to count as a jump."""


class Aging:
    """Knows by how much the wall clock ran ahead of the time in which the network ran.

    Args:
        last_seen: wall time at which the network last ran; None if it never did.
    """

    def __init__(
        self,
        last_seen: float | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._at = wall(), steady()
        self._gaps: list[tuple[float, float]] = []
        if last_seen is not None and self._at[0] - last_seen > JUMP:
            self._gaps.append((last_seen, self._at[0]))

    def horizon(self, age: float) -> float:
        """Return the wall time before which things are older than ``age`` seconds."""
        self._look()
        horizon = self._at[0] - age
        for before, after in reversed(self._gaps):
            if horizon < after:
                horizon -= after - before
        return horizon

    def _look(self) -> None:
        wall, steady = self._wall(), self._steady()
        expected = self._at[0] + steady - self._at[1]
        if wall - expected > JUMP:
            self._gaps.append((expected, wall))
        self._at = wall, steady
