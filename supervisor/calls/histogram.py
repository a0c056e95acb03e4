"""Latencies in a fixed 2 KB, with quantiles that are right to a few per cent.

The method is that of the HDR histogram (Gil Tene, hdrhistogram.org). The width of a bucket grows
with the value, so that the relative error is the same for 20 µs and for 20 s. Each power of two has
eight buckets of equal width. The bucket of a value is found by bisection in C, among 248.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from itertools import accumulate
from operator import mul

_UNITS = 8_000_000.0
"""Units in a second: 1/8 µs, so that the eight buckets of the first octave (1 to 2 µs) are whole
units wide."""

_BUCKETS = 30 * 8 + 8
"""30 octaves from 1 µs up, and eight buckets of one unit below 1 µs. The range ends at 1074 s. A
network waits for nothing longer; if it does, `max` tells."""


def _low(index: int) -> tuple[int, int]:
    """Return where a bucket begins, and how wide it is, in units."""
    shift = max(0, (index >> 3) - 1)
    return (index - (shift << 3)) << shift, 1 << shift


# Each begins a float earlier, so that a value where a bucket begins is greater than this.
_BORDERS = tuple(math.nextafter(_low(index)[0] / _UNITS, 0.0) for index in range(1, _BUCKETS))


class LatencyHistogram:
    """Counts durations. Its size is fixed, and adding a duration costs about 0.2 µs.

    Attributes:
        max: the longest duration that was added, exact, in seconds; 0.0 when empty.
    """

    __slots__ = ("_counts", "max")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self.max = 0.0

    def __len__(self) -> int:
        return self.count

    @property
    def count(self) -> int:
        """How many durations were added. Summed on demand: reports are rarer than events."""
        return sum(self._counts)

    def add(self, seconds: float) -> None:
        """Count one duration.

        Below zero (or NaN) it counts as zero, above the range as the end of the range.
        """
        self._counts[bisect_left(_BORDERS, seconds)] += 1
        if seconds > self.max:
            self.max = seconds

    def quantile(self, q: float) -> float | None:
        """Return the duration that a share ``q`` (0 to 1) of the added ones do not exceed.

        It is in seconds, and None when nothing was added. It is the middle of the bucket with the
        value of rank ``ceil(q * count)``, and never more than `max`; ``quantile(1)`` is `max`.
        From 1 µs to 1074 s its error is at most 1/16 (6.25 %), below 1 µs at most 1/16 µs.
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

    def quantiles(self, *parts: float) -> list[float | None]:
        """Return several quantiles, as `quantile` does, in about the time of one."""
        sums = list(accumulate(self._counts))
        count = sums[-1]
        if count == 0:
            return [None] * len(parts)
        ranks = [max(1, math.ceil(part * count)) for part in parts]
        return [self.max if rank >= count else min(_middle(bisect_left(sums, rank)), self.max) for rank in ranks]

    def merge(self, other: LatencyHistogram) -> None:
        """Add all durations of ``other``."""
        counts = self._counts
        for index, count in enumerate(other._counts):
            if count:
                counts[index] += count
        self.max = max(self.max, other.max)

    def up_to(self, octave: int) -> int:
        """Return how many durations were at most ``2 ** octave`` µs: exact, since a bucket ends there."""
        return sum(self._counts[: 8 * (octave + 1)])

    def total(self) -> float:
        """Return the sum of all durations in seconds, with the error of a quantile."""
        return sum(map(mul, self._counts, _MIDDLES))

    def copy(self) -> LatencyHistogram:
        twin = LatencyHistogram()
        twin._counts, twin.max = self._counts[:], self.max
        return twin

    def _bucket_of_rank(self, rank: int) -> int:
        for index, count in enumerate(self._counts):
            rank -= count
            if rank <= 0:
                return index
        raise AssertionError("rank beyond the count")


def _middle(index: int) -> float:
    """Return the middle of a bucket in seconds."""
    low, width = _low(index)
    return (low + width / 2) / _UNITS


_MIDDLES = tuple(_middle(index) for index in range(_BUCKETS))
