"""How long to wait before the next attempt to connect. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST = 0.1
MOST = 10.0


class Backoff:
    """Doubles the wait with each failure, and takes a random part off, so that agents do not come all at once.

    Args:
        dice: returns a number from 0 to 1.
    """

    def __init__(self, dice: Callable[[], float] = random.random) -> None:
        self._dice = dice
        self._failures = 0

    def next(self) -> float:
        """Return the seconds to wait after a failure."""
        most = min(MOST, FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return most * (0.5 + self._dice() / 2)

    def reset(self) -> None:
        """Begin anew: a connection stands."""
        self._failures = 0
