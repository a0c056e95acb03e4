"""Answers about many values in little memory: how many different ones (HyperLogLog), and their quantiles (a histogram)."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

PRECISION = 11
_REGISTERS = 1 << PRECISION
ERROR = 1.04 / math.sqrt(_REGISTERS)
"""Standard error of an estimate, 2.3 %: in 19 cases of 20 it is off by less than twice that."""

_ALPHA = 0.7213 / (1 + 1.079 / _REGISTERS)
_REST_BITS = 64 - PRECISION


class HyperLogLog:
    """How many different keys were added; 2 KB whatever their number.

    Flajolet et al., "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm" (2007), with linear
    counting for small numbers. The hash is BLAKE2b of 64 bits: unlike `hash`, the same in every process, so that a stored
    sketch goes on; and long enough that the large-range correction is not needed.
    """

    __slots__ = ("_registers",)

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._registers = bytearray(_REGISTERS)
        for key in keys:
            self.add(key)

    def add(self, key: str) -> None:
        hashed = int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        index = hashed >> _REST_BITS
        # Leading zeros of the remaining bits, plus one.
        rank = _REST_BITS - (hashed & ((1 << _REST_BITS) - 1)).bit_length() + 1
        if rank > self._registers[index]:
            self._registers[index] = rank

    def merge(self, other: HyperLogLog) -> None:
        """As if the other's keys had been added here."""
        self._registers[:] = bytes(map(max, self._registers, other._registers))

    def estimate(self) -> int:
        raw = _ALPHA * _REGISTERS**2 / sum(2.0**-rank for rank in self._registers)
        empty = self._registers.count(0)
        if raw <= 2.5 * _REGISTERS and empty:
            raw = _REGISTERS * math.log(_REGISTERS / empty)
        return round(raw)

    def dump(self) -> str:
        return base64.b85encode(zlib.compress(bytes(self._registers), 1)).decode()

    @classmethod
    def load(cls, text: str) -> HyperLogLog:
        """The inverse of `dump`; raises `ValueError` for anything else."""
        try:
            unpacking = zlib.decompressobj()
            registers = unpacking.decompress(base64.b85decode(text), _REGISTERS + 1)
        except zlib.error as error:
            raise ValueError(f"not a HyperLogLog: {error}") from None
        if len(registers) != _REGISTERS or not unpacking.eof:
            raise ValueError(f"a HyperLogLog of {len(registers)} registers; expected {_REGISTERS}")
        sketch = cls()
        sketch._registers[:] = registers
        return sketch


class Histogram:
    """Quantiles of whole numbers from 0 to 2**40, true to 1/16 (6.25 %); at most 304 counters, of which only used ones exist.

    The buckets are those of the HDR histogram (Gil Tene, hdrhistogram.org): each power of two has eight of equal width, so
    that the error is relative to the value.
    """

    __slots__ = ("counts", "max")

    TOP = 2**40 - 1  # 1 TB, or 12 days in microseconds: what is beyond counts as this

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.max = 0

    def add(self, value: int) -> None:
        """Count a value; below zero it counts as zero."""
        value = 0 if value < 0 else self.TOP if value > self.TOP else value
        shift = value.bit_length() - 4
        index = (shift << 3) + (value >> shift) if shift > 0 else value
        counts = self.counts
        counts[index] = counts.get(index, 0) + 1
        if value > self.max:
            self.max = value

    def merge(self, other: Histogram) -> None:
        counts = self.counts
        for index, count in other.counts.items():
            counts[index] = counts.get(index, 0) + count
        self.max = max(self.max, other.max)

    def quantiles(self, shares: Iterable[float]) -> list[int | None]:
        """For each share (0 to 1) the value that such a share of the values do not exceed; None when empty.

        The middle of the bucket that holds the value of rank ``ceil(share * count)``, at most `max`; for 1, `max` itself.
        """
        total = sum(self.counts.values())
        ordered = sorted(self.counts.items())
        return [self._quantile(ordered, total, share) for share in shares]

    def dump(self) -> dict[str, Any]:
        return {"max": self.max, "counts": [list(item) for item in sorted(self.counts.items())]}

    @classmethod
    def load(cls, data: dict[str, Any]) -> Histogram:
        histogram = cls()
        histogram.max = int(data["max"])
        histogram.counts = {int(index): int(count) for index, count in data["counts"]}
        return histogram

    def _quantile(self, ordered: list[tuple[int, int]], total: int, share: float) -> int | None:
        if total == 0:
            return None
        rank = max(1, math.ceil(share * total))
        if rank >= total:
            return self.max
        for index, count in ordered:
            rank -= count
            if rank <= 0:
                return min(_middle(index), self.max)
        raise AssertionError("rank beyond the count")


def _middle(index: int) -> int:
    """The middle of a bucket: the inverse of the index in `Histogram.add`."""
    shift = max(0, (index >> 3) - 1)
    return ((index - (shift << 3)) << shift) + (1 << shift >> 1)
