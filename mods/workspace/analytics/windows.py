"""Sliding windows over a stream of events: rings of time buckets, fed from an open bucket.

The open bucket holds the counts of one second.

Counting an event touches only the open bucket. When its second is over, the bucket is added to the
current bucket of every window. So an event costs the same for any number of windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .key_counts import KeyCounts
from .sketches import Histogram

BUCKETS = 60
"""Buckets of a window, which slides in steps of 1/60 of its length."""

UNKNOWN = "unknown"  # the source of an event without one


class Bucket:
    """The counts of one period of time.

    Attributes:
        number: start of the period, in Unix time, divided by its length.
        sizes: sizes of payloads, in bytes.
        gaps: times from one event to the next, in microseconds.
    """

    __slots__ = ("gaps", "names", "number", "sizes", "sources")

    def __init__(self, number: int, cap: int) -> None:
        self.number = number
        self.names = KeyCounts(cap)
        self.sources = KeyCounts(cap)
        self.sizes = Histogram()
        self.gaps = Histogram()

    @property
    def count(self) -> int:
        """The number of events."""
        return self.names.total()

    def merge(self, other: Bucket) -> None:
        self.names.merge(other.names)
        self.sources.merge(other.sources)
        self.sizes.merge(other.sizes)
        self.gaps.merge(other.gaps)

    def dump(self) -> dict[str, Any]:
        """Return plain data for `load`."""
        return {
            "number": self.number,
            "names": self.names.dump(),
            "sources": self.sources.dump(),
            "sizes": self.sizes.dump(),
            "gaps": self.gaps.dump(),
        }

    @classmethod
    def load(cls, data: dict[str, Any], cap: int) -> Bucket:
        bucket = cls(int(data["number"]), cap)
        bucket.names = KeyCounts.load(data["names"], cap)
        bucket.sources = KeyCounts.load(data["sources"], cap)
        bucket.sizes = Histogram.load(data["sizes"])
        bucket.gaps = Histogram.load(data["gaps"])
        return bucket


class Ring:
    """One window: at most `BUCKETS` buckets of ``width`` seconds.

    Attributes:
        changed: numbers of the buckets that changed since the last save. The store clears it.
    """

    def __init__(self, seconds: int, cap: int) -> None:
        self.seconds = seconds
        self.width = seconds // BUCKETS
        self.buckets: dict[int, Bucket] = {}
        self.changed: set[int] = set()
        self._cap = cap

    def add(self, bucket: Bucket) -> None:
        """Add a bucket of one second, unless it is older than the window."""
        number = bucket.number // self.width
        newest = max(self.buckets, default=number)
        if number <= newest - BUCKETS:
            return
        mine = self.buckets.get(number)
        if mine is None:
            mine = self.buckets[number] = Bucket(number, self._cap)
        mine.merge(bucket)
        self.changed.add(number)
        if number > newest:
            self.drop_before(number - BUCKETS + 1)

    def drop_before(self, number: int) -> None:
        for old in [known for known in self.buckets if known < number]:
            del self.buckets[old]
            self.changed.discard(old)

    def since(self, now: float) -> int:
        """Return the number of the oldest bucket of the window at ``now``."""
        return int(now) // self.width - BUCKETS + 1

    def at(self, now: float) -> Iterator[Bucket]:
        """Return the buckets of the window at ``now``."""
        first = self.since(now)
        return (bucket for number, bucket in self.buckets.items() if number >= first)


@dataclass(frozen=True, slots=True)
class View:
    """A window, or everything since the start, at one moment.

    Attributes:
        start: Unix seconds of the first events in it.
        seconds: seconds from `start` until now, at least 1.
    """

    name: str
    start: float
    seconds: float
    bucket: Bucket

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.bucket.count / self.seconds


class Stream:
    """Counts the whole stream of events.

    Args:
        windows: lengths in seconds, multiples of `BUCKETS`.
        cap: keys kept per bucket (see `KeyCounts`). The total keeps five times as many.

    Attributes:
        started: when the first event came, in Unix seconds; None before that.
        total: counts since the start.
    """

    def __init__(self, windows: list[int], cap: int) -> None:
        self.rings = {window_name(seconds): Ring(seconds, cap) for seconds in windows}
        self.total = Bucket(0, 5 * cap)
        self.started: float | None = None
        self._cap = cap
        self._last = 0.0  # when the newest event came
        self._open = Bucket(-1, cap)

    @property
    def open(self) -> Bucket:
        """The bucket of the current second."""
        return self._open

    @property
    def count(self) -> int:
        """Events since the start. It never falls, so it says which of two copies is newer."""
        return self.total.count + self._open.count

    def add(self, name: str, source: str | None, size: int, at: float, now: float) -> None:
        """Count an event that came ``at`` (Unix seconds). An impossible time counts as ``now``."""
        if not 0.0 <= at <= now:  # in the future, negative, or not a number
            at = now
        bucket = self._open
        second = int(at)
        if second != bucket.number:
            bucket = self._turn(second, at, now)
        # The fast path: known keys are counted without a call.
        names = bucket.names.counts
        if name in names:
            names[name] += 1
        else:
            bucket.names.add(name)
        who = UNKNOWN if source is None else source[6:] if source.startswith("agent:") else source
        sources = bucket.sources.counts
        if who in sources:
            sources[who] += 1
        else:
            bucket.sources.add(who)
        bucket.sizes.add(size)
        if at >= self._last:
            if self._last:
                bucket.gaps.add(int((at - self._last) * 1e6))
            self._last = at
        if bucket is not self._open:
            self._close(bucket)

    def view(self, name: str, now: float) -> View:
        """Merge the window of that name, or ``total``, into one bucket."""
        if name == "total":
            buckets, start = [self.total], self.started or now
        else:
            ring = self.rings[name]
            buckets, start = ring.at(now), float(ring.since(now) * ring.width)
            start = max(start, self.started or now)
        merged = Bucket(0, 2**40)  # a cap so high that the answer drops no keys
        for bucket in buckets:
            merged.merge(bucket)
        if self._open.number + 1 > start:
            merged.merge(self._open)
        return View(name, start, max(1.0, now - start), merged)

    def series(self, name: str, now: float) -> list[tuple[int, Bucket | None]]:
        """Return the window's buckets in order, each with its start. An empty bucket is None."""
        ring = self.rings[name]
        first = ring.since(now)
        found: dict[int, Bucket] = {bucket.number: bucket for bucket in ring.at(now)}
        number = self._open.number // ring.width
        if number >= first and self._open.count:
            both = Bucket(number, 2**40)
            for bucket in (found.get(number), self._open):
                if bucket is not None:
                    both.merge(bucket)
            found[number] = both
        return [(n * ring.width, found.get(n)) for n in range(first, first + BUCKETS)]

    # -- saving and loading

    def dump(self) -> dict[str, Any]:
        """Return everything as plain data, for `load`."""
        rings = {name: [bucket.dump() for bucket in ring.buckets.values()] for name, ring in self.rings.items()}
        return {**self.dump_core(), "rings": rings}

    def dump_core(self) -> dict[str, Any]:
        """Return everything except the rings."""
        return {
            "started": self.started,
            "last": self._last,
            "total": self.total.dump(),
            "open": self._open.dump(),
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` returned, and mark it as changed.

        Windows that are no longer configured are left out.
        """
        self.load_core(data)
        for name, buckets in data["rings"].items():
            if name in self.rings:
                for bucket in buckets:
                    self.load_bucket(name, bucket)
                self.rings[name].changed.update(self.rings[name].buckets)

    def load_core(self, data: dict[str, Any]) -> None:
        self.started, self._last = data["started"], float(data["last"])
        self.total = Bucket.load(data["total"], 5 * self._cap)
        self._open = Bucket.load(data["open"], self._cap)

    def load_bucket(self, name: str, data: dict[str, Any]) -> None:
        bucket = Bucket.load(data, self._cap)
        self.rings[name].buckets[bucket.number] = bucket

    # -- inside

    def _turn(self, second: int, at: float, now: float) -> Bucket:
        """Return the bucket for an event that does not belong to the open bucket's second."""
        if second < self._open.number:
            if self._open.number <= now + 1:
                return Bucket(second, self._cap)  # a late event: its bucket is closed at once
            # The clock was set back: the newer buckets would hide events until it catches up.
            self._restart()
        self._close(self._open)
        self._open = Bucket(second, self._cap)
        if self.started is None or at < self.started:
            self.started = at
        return self._open

    def _close(self, bucket: Bucket) -> None:
        if bucket.number < 0:
            return
        self.total.merge(bucket)
        for ring in self.rings.values():
            ring.add(bucket)

    def _restart(self) -> None:
        self._last = 0.0
        self.total.merge(self._open)
        self._open = Bucket(-1, self._cap)
        for ring in self.rings.values():
            ring.buckets.clear()
            ring.changed.clear()


def window_name(seconds: int) -> str:
    """Name a window in the largest unit that gives a whole number: ``1m``, ``1h``, ``90s``."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
