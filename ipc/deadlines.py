"""The deadlines of many futures with one timer.

Most futures are done long before their deadline, and a timer for each would cost too much.
"""

from __future__ import annotations

import asyncio
from typing import Any

_PASS = 0.001  # seconds between two looks at who is due, at least


class Deadlines:
    """Raises TimeoutError in futures that are not done by their deadline, within a millisecond.

    Args:
        due: where the deadlines stand; others may take them out.

    Attributes:
        due: the loop time of each future's deadline. To take one out is what `remove` does.
        next: when the timer rings. No future is due before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, due: dict[asyncio.Future[Any], float] | None = None) -> None:
        self._loop = loop
        self.due = {} if due is None else due
        self._timer: asyncio.TimerHandle | None = None
        self.next = float("inf")

    def add(self, future: asyncio.Future[Any], due: float) -> None:
        """Let ``future`` wait until loop time ``due``. Call `remove` when it is done."""
        self.due[future] = due
        if due < self.next:
            self.ring_at(due)

    def remove(self, future: asyncio.Future[Any]) -> None:
        """Forget a future. The timer stays: when it rings, it is set for the next one due."""
        self.due.pop(future, None)

    def close(self) -> None:
        """Forget all futures."""
        self.due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def ring_at(self, due: float) -> None:
        """Let the timer ring at loop time ``due``."""
        if self._timer is not None:
            self._timer.cancel()
        self.next = due
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer, self.next = None, float("inf")
        now = self._loop.time()
        for future in [future for future, due in self.due.items() if due <= now]:
            del self.due[future]
            if not future.done():
                future.set_exception(TimeoutError())
        if self.due:
            self.ring_at(max(min(self.due.values()), now + _PASS))
