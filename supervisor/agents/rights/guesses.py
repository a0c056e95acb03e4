"""Wrong passwords, and how long an address that gave them must wait. Pure.

The operator's token is guarded in the same way.

The time grows per address and group. It never grows per group alone, because a stranger who guesses
must not lock the group's own agents out. A right password is refused during that time as well:
otherwise waiting would cost a guesser nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from ...config import AgentsConfig

MAX_PAIRS = 10_000
"""Pairs of address and group that are remembered, about 2 MB. No key of the network file: who has more
addresses than that to guess from gains nothing by one that is forgotten."""


class Guesses:
    """The wrong passwords of late, by address and group.

    Args:
        config: returns the limits in force.
        now: a monotonic clock.
    """

    def __init__(self, config: Callable[[], AgentsConfig], now: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._now = now
        # Pair -> how many wrong passwords, and when the last one was given. The oldest pairs come first.
        self._wrong: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wrong)

    def wait(self, address: str, groups: Iterable[str]) -> float:
        """Return the seconds until this address may give a password for these groups; 0: now."""
        return max((self._wait(address, group) for group in groups), default=0.0)

    def wrong(self, address: str, groups: Iterable[str]) -> None:
        """Note that a password was none of these groups' passwords."""
        for group in groups:
            pair = address, group
            count, _ = self._remembered(pair)
            self._wrong[pair] = count + 1, self._now()
            self._wrong.move_to_end(pair)
        while len(self._wrong) > MAX_PAIRS:
            self._wrong.popitem(last=False)

    def _wait(self, address: str, group: str) -> float:
        count, at = self._remembered((address, group))
        return max(0.0, at + self._delay(count) - self._now())

    def _remembered(self, pair: tuple[str, str]) -> tuple[int, float]:
        count, at = self._wrong.get(pair, (0, 0.0))
        if count and self._now() - at > self._delay(count) + self._config().password_delay_max:
            del self._wrong[pair]
            return 0, 0.0
        return count, at

    def _delay(self, count: int) -> float:
        """Return how long an address must wait after so many wrong passwords."""
        config = self._config()
        doublings = count - config.wrong_passwords
        if doublings <= 0:
            return 0.0
        return min(config.password_delay * 2.0 ** min(doublings - 1, 64), config.password_delay_max)
