"""Latencies in a fixed 2 KB, with quantiles true to a few per cent.

The method is the HDR histogram's (Gil Tene, hdrhistogram.org): buckets whose width grows with the value, so that the
relative error is the same for 20 µs and for 20 s. Each power of two has eight buckets of equal width; which one a value
belongs to follows from the length of its binary form, without a logarithm or a search.
"""

from __future__ import annotations

import math
from array import array

_UNITS = 8_000_000.0
"""Units in a second: 1/8 µs, so that the eight buckets of the first octave (1 to 2 µs) are whole units wide."""

_TOP = 2**33
"""First value out of range, in units: 1074 s. Nothing a network waits for takes longer; if it does, `max` tells."""

_BUCKETS = 30 * 8 + 8  # 30 octaves from 1 µs up, and eight buckets of one unit for what is below


class LatencyHistogram:
    """Counts of durations. Never grows, whatever is added; adding costs some 0.2 µs.

    Attributes:
        max: the longest duration added, exact, seconds; 0.0 when empty.
    """

    __slots__ = ("_counts", "max")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self.max = 0.0

    def __len__(self) -> int:
        return self.count

    @property
    def count(self) -> int:
        """How many durations were added."""
        return sum(self._counts)  # not kept beside the buckets: `add` is called for every event, this for a report

    def add(self, seconds: float) -> None:
        """Count one duration. Below zero (or NaN) it counts as zero, beyond the range as the range's end."""
        units = int(seconds * _UNITS) if 0.0 < seconds < _TOP / _UNITS else _clamped(seconds)
        # Keep the four leading bits: a one, and three that pick one of the octave's eight buckets.
        shift = units.bit_length() - 4
        self._counts[(shift << 3) + (units >> shift) if shift > 0 else units] += 1
        if seconds > self.max:
            self.max = seconds

    def quantile(self, q: float) -> float | None:
        """The duration, in seconds, that a share ``q`` (0 to 1) of those added do not exceed; None when empty.

        It is the middle of the bucket that holds the value of rank ``ceil(q * count)``: for values of 1 µs to 1074 s it is
        off by 1/16 (6.25 %) at most, below 1 µs by 1/16 µs; never more than `max`. ``quantile(1)`` is `max`.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"quantile {q!r}: expected a number from 0 to 1")
        count = self.count
        if count == 0:
            return None
        rank = max(1, math.ceil(q * count))
        if rank >= count:
            return self.max
        return min(_middle(self._bucket_of_rank(rank)), self.max)

    def merge(self, other: LatencyHistogram) -> None:
        """Add everything that ``other`` holds, as if it had been added here."""
        counts = self._counts
        for index, count in enumerate(other._counts):
            if count:
                counts[index] += count
        self.max = max(self.max, other.max)

    def _bucket_of_rank(self, rank: int) -> int:
        for index, count in enumerate(self._counts):
            rank -= count
            if rank <= 0:
                return index
        raise AssertionError("rank beyond the count")


def _clamped(seconds: float) -> int:
    return _TOP - 1 if seconds > 0.0 else 0


def _middle(index: int) -> float:
    """The middle of a bucket, seconds: the inverse of the index formula in `LatencyHistogram.add`."""
    shift = max(0, (index >> 3) - 1)
    low = (index - (shift << 3)) << shift
    return (low + (1 << shift) / 2) / _UNITS
