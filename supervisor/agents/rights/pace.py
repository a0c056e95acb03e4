"""How fast somebody sends, held against a quota of events and bytes per second. Pure.

This is the generic cell rate algorithm: a time says until when all that was sent is paid for. What
was not used for a second is available at once, and never more.
"""

from __future__ import annotations

from collections import OrderedDict

REST = 1.0
"""Seconds of its quota that somebody may send at once after a rest."""

_TINY = 1e-9  # so that rounding refuses nobody
MAX_ADDRESSES = 10_000
"""Addresses that are remembered, about 1 MB. No key of the network file: one that is forgotten was either quiet
for long, or has to begin with a second's worth again."""


class Pace:
    """What one sender has sent of late."""

    __slots__ = ("_bytes_paid", "_events_paid")

    def __init__(self) -> None:
        self._events_paid = self._bytes_paid = 0.0  # until when

    def take(self, now: float, events: float | None, size: int, in_bytes: int | None) -> float:
        """Take one more event, if it is in the quota.

        Args:
            now: a monotonic clock.
            events: per second; None: any number.
            size: of the event, in bytes.
            in_bytes: per second; None: any.

        Returns:
            0 if it was taken; or after how many seconds it would be, and then nothing is counted.
        """
        events_paid, wait = self._events_paid, 0.0
        if events is not None:
            events_paid = max(events_paid, now) + 1 / events
            wait = events_paid - now - max(REST, 1 / events)
        bytes_paid = self._bytes_paid
        if in_bytes is not None:
            before = max(bytes_paid, now)
            bytes_paid = before + size / in_bytes
            # An event that is larger than the quota of a second is taken when all before it is paid for.
            wait = max(wait, min(bytes_paid - now - REST, before - now))
        if wait > _TINY:
            return wait
        self._events_paid, self._bytes_paid = events_paid, bytes_paid
        return 0.0


class PaceOfAddresses:
    """What the guests of each address have sent of late, together.

    Anybody can register more guests, so a quota of each one would hold nobody.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, Pace] = OrderedDict()

    def at(self, address: str) -> Pace:
        found = self._of.get(address)
        if found is None:
            found = self._of[address] = Pace()
            if len(self._of) > MAX_ADDRESSES:
                self._of.popitem(last=False)
        self._of.move_to_end(address)
        return found
