"""Sliding windows over a stream of events: rings of time buckets, fed from one open bucket of a second.

Counting an event touches the open bucket only. When its second is over, it is added to the current bucket of every
window, so that an event costs the same however many windows there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .key_counts import KeyCounts
from .sketches import Histogram

BUCKETS = 60
"""Of each window: a window slides in steps of 1/60 of its length."""

UNKNOWN = "unknown"  # the source of an event without one


class Bucket:
    """What happened in one stretch of time.

    Attributes:
        number: start of the stretch divided by its length; Unix time.
        sizes: of payloads, bytes. gaps: from one event to the next, microseconds.
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
        """How many events."""
        return self.names.total()

    def merge(self, other: Bucket) -> None:
        self.names.merge(other.names)
        self.sources.merge(other.sources)
        self.sizes.merge(other.sizes)
        self.gaps.merge(other.gaps)

    def dump(self) -> dict[str, Any]:
        """Plain data that `load` takes."""
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
        changed: numbers of the buckets that changed since somebody cleared this (who stores them).
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
        """The number of the oldest bucket that is part of the window at ``now``."""
        return int(now) // self.width - BUCKETS + 1

    def at(self, now: float) -> Iterator[Bucket]:
        """The buckets of the window as it stands at ``now``."""
        first = self.since(now)
        return (bucket for number, bucket in self.buckets.items() if number >= first)


@dataclass(frozen=True, slots=True)
class View:
    """A window (or everything since the beginning) as it stands at some moment.

    Attributes:
        start: Unix seconds from which on events are in it. seconds: from then until now, at least 1.
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
    """The whole stream of events, counted.

    Args:
        windows: lengths in seconds, multiples of `BUCKETS`.
        cap: keys kept per bucket (see `KeyCounts`); five times as many for the total.

    Attributes:
        started: when the first event came, Unix seconds; None before that.
        total: everything since ever.
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
        """The bucket of the second that is under way."""
        return self._open

    @property
    def count(self) -> int:
        """Events since ever; never falls, so it tells which of two copies of a stream is newer."""
        return self.total.count + self._open.count

    def add(self, name: str, source: str | None, size: int, at: float, now: float) -> None:
        """Count an event that came ``at`` (Unix seconds; what cannot be, as the future, counts as ``now``)."""
        if not 0.0 <= at <= now:  # also when it is no number at all
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
        """The window of that name, or ``total``, merged into one bucket."""
        if name == "total":
            buckets, start = [self.total], self.started or now
        else:
            ring = self.rings[name]
            buckets, start = ring.at(now), float(ring.since(now) * ring.width)
            start = max(start, self.started or now)
        merged = Bucket(0, 2**40)  # nothing more is given up for a moment's answer
        for bucket in buckets:
            merged.merge(bucket)
        if self._open.number + 1 > start:
            merged.merge(self._open)
        return View(name, start, max(1.0, now - start), merged)

    def series(self, name: str, now: float) -> list[tuple[int, Bucket | None]]:
        """The window's buckets in order, each with its start; None where nothing happened."""
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

    # -- handing over

    def dump(self) -> dict[str, Any]:
        """Everything as plain data, for `load`."""
        rings = {name: [bucket.dump() for bucket in ring.buckets.values()] for name, ring in self.rings.items()}
        return {**self.dump_core(), "rings": rings}

    def dump_core(self) -> dict[str, Any]:
        """Everything but the rings."""
        return {
            "started": self.started,
            "last": self._last,
            "total": self.total.dump(),
            "open": self._open.dump(),
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` gave; windows that are configured no more are left out. Everything counts as changed."""
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
        """The bucket for an event of another second than the open one's."""
        if second < self._open.number:
            if self._open.number <= now + 1:
                return Bucket(second, self._cap)  # late; closed at once
            self._restart()  # the clock was set back: what was counted as newer would hide everything for that long
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
    """``60`` to ``1m``, ``3600`` to ``1h``, ``90`` to ``90s``: the largest unit that leaves a whole number."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
