"""What was recorded of late, so that it is not recorded again at each request. Pure."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

EVERY, MOST = 3600.0, 1000
"""Seconds after which an operator who goes on is recorded again, and how much is remembered. No keys of the
network file: commands are recorded each."""


class Lately:
    """What was recorded in the last hour.

    Args:
        now: a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._noted: OrderedDict[Hashable, float] = OrderedDict()  # the longest ago first

    def is_due(self, what: Hashable) -> bool:
        """Return whether something is to be recorded, because it was not of late."""
        return self._now() - self._noted.get(what, -EVERY) >= EVERY

    def note(self, what: Hashable) -> None:
        """Remember that something was recorded now."""
        self._noted[what] = self._now()
        self._noted.move_to_end(what)
        if len(self._noted) > MOST:
            self._noted.popitem(last=False)

    def is_first(self, what: Hashable) -> bool:
        """Return whether something is to be recorded, and remember that it is."""
        is_due = self.is_due(what)
        if is_due:
            self.note(what)
        return is_due
