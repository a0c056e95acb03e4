"""`KeyCounts`: counts per key, in bounded memory for any number of keys."""

from __future__ import annotations

import heapq
from typing import Any

from .sketches import ERROR, HyperLogLog


class KeyCounts:
    """Counts how often each key came. The counts are exact while there are at most ``cap`` keys.

    With more keys, the rarer half is dropped, and their counts are added to `other`. From then on a
    count is never too high, and too low by at most `other`. Frequent keys stay, because only the
    rarest are dropped. From then on the number of different keys is an estimate (`HyperLogLog`).

    Attributes:
        counts: counts of the kept keys. The stream's fast path counts known keys here directly.
        other: the sum of the dropped counts.
    """

    __slots__ = ("_seen", "cap", "counts", "other")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.counts: dict[str, int] = {}
        self.other = 0
        self._seen: HyperLogLog | None = None  # None until keys are dropped: until then `counts` has them all

    def add(self, key: str, count: int = 1) -> None:
        counts = self.counts
        if key in counts:
            counts[key] += count
            return
        counts[key] = count
        if self._seen is not None:
            self._seen.add(key)
        if len(counts) > self.cap:
            self._drop_rarer_half()

    def merge(self, other: KeyCounts) -> None:
        """Add the other's counts."""
        counts = self.counts
        if other._seen is not None:
            self._sketch().merge(other._seen)  # it contains the other's kept keys too
        elif self._seen is not None:
            for key in other.counts.keys() - counts.keys():
                self._seen.add(key)
        for key, count in other.counts.items():
            counts[key] = counts.get(key, 0) + count
        self.other += other.other
        if len(counts) > self.cap:
            self._drop_rarer_half()

    def total(self) -> int:
        return sum(self.counts.values()) + self.other

    def top(self) -> list[tuple[str, int]]:
        """Return keys and counts, the most frequent first, then by name."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))

    def distinct(self) -> dict[str, Any]:
        """Return how many different keys came: ``{"count", "exact", "error"}``.

        ``error`` is the relative standard error.
        """
        if self._seen is None:
            return {"count": len(self.counts), "exact": True, "error": 0.0}
        return {"count": max(self._seen.estimate(), len(self.counts)), "exact": False, "error": round(ERROR, 4)}

    def dump(self) -> dict[str, Any]:
        seen = None if self._seen is None else self._seen.dump()
        return {"counts": dict(self.counts), "other": self.other, "seen": seen}

    @classmethod
    def load(cls, data: dict[str, Any], cap: int) -> KeyCounts:
        tally = cls(cap)
        tally.other = int(data["other"])
        if data["seen"] is not None:
            tally._seen = HyperLogLog.load(data["seen"])
        for key, count in data["counts"].items():  # `add`, because the cap may be smaller than when this was stored
            tally.add(str(key), int(count))
        return tally

    def _sketch(self) -> HyperLogLog:
        if self._seen is None:
            self._seen = HyperLogLog(self.counts)
        return self._seen

    def _drop_rarer_half(self) -> None:
        self._sketch()
        kept = heapq.nlargest(self.cap // 2, self.counts.items(), key=lambda item: item[1])
        self.other += sum(self.counts.values()) - sum(count for _, count in kept)
        # In place, because the stream keeps a reference to the dict.
        self.counts.clear()
        self.counts.update(kept)
