"""`AnalyticsMod`: count every event of the network. ../README.md describes its own events."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zlib
from collections.abc import Callable
from typing import Any

from ... import BaseMod, Event, EventResponse, InvalidEvent, Refused, check_pattern, matches, mod_event_handler
from ..fields import Given
from ..paging import cut, read_cursor, read_limit
from ..store_mod import StoreMod
from .key_counts import KeyCounts
from .sizes import size_of
from .store import StreamStore
from .windows import BUCKETS, Stream, View

STATE_FORMAT = 1
TOTAL = "total"
TOP_OF_SUMMARY = 5
MAX_WINDOWS = 6
MAX_WINDOW = 7 * 86_400
METRICS = ("payload_bytes", "gap_seconds")
MAX_QUANTILES = 20


class AnalyticsMod(StoreMod, BaseMod):
    """Observes every event of the network."""

    version = "1.0.0"
    description = "Counts, rates, sources and quantiles of all events over sliding windows, in bounded memory."
    _saver: asyncio.Task[None] | None = None

    def initialize(self) -> None:
        config = Given(self.config)
        lengths = config.numbers(
            "windows", items=MAX_WINDOWS, least=BUCKETS, most=MAX_WINDOW, default=[60.0, 300.0, 3600.0]
        )
        self._max_keys = config.integer("max_keys", least=10, most=100_000, default=2_000)
        self._save_seconds = config.number("save_seconds", least=0.1, most=3_600, default=10.0)
        config.done()
        if any(length % BUCKETS for length in lengths):
            raise Refused(f"windows: expected multiples of {BUCKETS} seconds, got {lengths}", field="windows")
        self._windows = sorted({int(length) for length in lengths})
        self._stream = Stream(self._windows, self._max_keys)
        self._saved = 0  # number of events at the last save

    async def activate(self) -> None:
        self._stream_store = self.open("analytics.db", StreamStore)
        stored = Stream(self._windows, self._max_keys)
        self._stream_store.load(stored)
        # The file may be newer than a checkpoint, but older than the state of the old incarnation.
        if stored.count >= self._stream.count:
            self._stream = stored
            self._saved = stored.count
        self._saver = asyncio.create_task(self._save_regularly())

    async def shutdown(self) -> None:
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, return_exceptions=True)
            self.save()
        await super().shutdown()

    def get_state(self) -> dict[str, Any]:
        """Return the whole stream, packed.

        Save it too: then this incarnation has nothing left to save over the next one's counts.
        """
        self.save()
        packed = zlib.compress(json.dumps(self._stream.dump(), separators=(",", ":")).encode(), 1)
        return {"format": STATE_FORMAT, "stream": packed}

    def set_state(self, state: Any, from_version: str) -> None:
        if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
            self.context.log.warning("state of version %s has another format; using the saved counts", from_version)
            return
        stream = Stream(self._windows, self._max_keys)
        stream.load(json.loads(zlib.decompress(state["stream"])))
        self._stream = stream

    def save(self) -> None:
        """Save the counts. Log a failure; the next call tries again."""
        count = self._stream.count
        if count == self._saved:
            return
        try:
            self._stream_store.save(self._stream)
        except sqlite3.Error as error:
            self.context.log.warning("counts could not be saved: %s", error)
        else:
            self._saved = count

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._save_seconds)
            self.save()

    # -- counting

    @mod_event_handler("*", observe=True)
    async def count(self, event: Event) -> None:
        self._stream.add(event.event_name, event.source_id, size_of(event.payload), event.timestamp, self.clock())

    # -- answering

    @mod_event_handler("analytics.summary.get")
    async def summary(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        view = self._view(given)
        given.done()
        data = {
            **_frame(view),
            "events": view.bucket.count,
            "rate": view.rate,
            "distinct_names": view.bucket.names.distinct(),
            "distinct_sources": view.bucket.sources.distinct(),
            "top_names": _items(view.bucket.names.top()[:TOP_OF_SUMMARY], "name", view),
            "top_domains": _items(_domains(view.bucket.names).top()[:TOP_OF_SUMMARY], "domain", view),
            "top_sources": _items(view.bucket.sources.top()[:TOP_OF_SUMMARY], "source", view),
            "total": {"events": self._stream.count, "since": self._stream.started},
            "windows": list(self._stream.rings),
        }
        return EventResponse(True, f"{data['events']} events in {view.seconds:.0f} s.", data)

    @mod_event_handler("analytics.names.top")
    async def top_names(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        by = given.choice("by", ("name", "domain"), default="name")
        return self._top(given, by, lambda view: view.bucket.names if by == "name" else _domains(view.bucket.names))

    @mod_event_handler("analytics.sources.top")
    async def top_sources(self, event: Event) -> EventResponse:
        return self._top(Given(event.payload), "source", lambda view: view.bucket.sources)

    @mod_event_handler("analytics.rate.get")
    async def rate(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        view, (what, count) = self._view(given), _counter(given)
        given.done()
        events, other = count(view.bucket)
        data = {**_frame(view), **what, "events": events, "rate": events / view.seconds, "uncounted": other}
        return EventResponse(True, f"{data['rate']:.3g} events per second.", data)

    @mod_event_handler("analytics.series.get")
    async def series(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        name = given.choice("window", tuple(self._stream.rings), default=next(iter(self._stream.rings)))
        what, count = _counter(given)
        given.done()
        ring = self._stream.rings[name]
        points = [
            {"at": start, "events": 0 if bucket is None else count(bucket)[0]}
            for start, bucket in self._stream.series(name, self.clock())
        ]
        data = {"window": name, "step": ring.width, **what, "points": points}
        return EventResponse(True, f"{len(points)} points, one for every {ring.width} s.", data)

    @mod_event_handler("analytics.distinct.get")
    async def distinct(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        view = self._view(given)
        of = given.choice("of", ("sources", "names"), default="sources")
        given.done()
        tally = view.bucket.sources if of == "sources" else view.bucket.names
        data = {**_frame(view), "of": of, **tally.distinct()}
        return EventResponse(True, f"{'' if data['exact'] else 'About '}{data['count']} different {of}.", data)

    @mod_event_handler("analytics.percentile.get")
    async def percentile(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        view = self._view(given)
        metric = given.choice("metric", METRICS, default=METRICS[0])
        shares = given.numbers("quantiles", items=MAX_QUANTILES, least=0, most=1, default=[0.5, 0.9, 0.99, 1.0])
        given.done()
        in_bytes = metric == "payload_bytes"
        histogram = view.bucket.sizes if in_bytes else view.bucket.gaps
        values = [
            {"quantile": share, "value": value if value is None or in_bytes else value / 1e6}
            for share, value in zip(shares, histogram.quantiles(shares), strict=True)
        ]
        data = {**_frame(view), "metric": metric, "samples": sum(histogram.counts.values()), "values": values}
        return EventResponse(True, f"{len(values)} quantiles of {metric}.", data)

    # -- inside

    def _view(self, given: Given) -> View:
        names = (*self._stream.rings, TOTAL)
        return self._stream.view(given.choice("window", names, default=names[0]), self.clock())

    def _top(self, given: Given, label: str, pick: Callable[[View], KeyCounts]) -> EventResponse:
        view = self._view(given)
        limit, offset = read_limit(given), read_cursor(given)
        given.done()
        tally = pick(view)
        rows, more = cut(tally.top()[offset:], limit, lambda _: offset + limit)
        data = {**_frame(view), "items": _items(rows, label, view), "other": tally.other, **more}
        return EventResponse(True, f"{len(rows)} of {len(tally.counts)} by {label}.", data)


def _frame(view: View) -> dict[str, Any]:
    return {"window": view.name, "since": view.start, "seconds": view.seconds}


def _items(rows: list[tuple[str, int]], label: str, view: View) -> list[dict[str, Any]]:
    return [{label: key, "events": count, "rate": count / view.seconds} for key, count in rows]


def _domains(names: KeyCounts) -> KeyCounts:
    """Sum the counts by the first part of the names."""
    domains = KeyCounts(2**40)
    for name, count in names.counts.items():
        domains.add(name.partition(".")[0], count)
    domains.other = names.other
    return domains


def _counter(given: Given) -> tuple[dict[str, Any], Callable[[Any], tuple[int, int]]]:
    """Read what to count in a bucket: the events of a pattern, or of a source.

    Returns:
        the pattern or source for the answer, and a function that takes a bucket and returns
        ``(events, events of dropped keys)``. The first number is too low by at most the second.
    """
    pattern = given.line("pattern", most=255, default=None)
    source = given.line("source", most=200, default=None)
    if pattern is not None and source is not None:
        raise Refused("source: expected either pattern or source, got both", field="source")
    if source is not None:
        who = source.removeprefix("agent:")
        return {"source": who}, lambda bucket: (bucket.sources.counts.get(who, 0), bucket.sources.other)
    pattern = pattern or "*"
    try:
        check_pattern(pattern)
    except InvalidEvent as error:
        raise Refused(str(error), field="pattern") from None
    if pattern == "*":
        return {"pattern": pattern}, lambda bucket: (bucket.count, 0)
    return {"pattern": pattern}, lambda bucket: (_matching(bucket.names, pattern), bucket.names.other)


def _matching(names: KeyCounts, pattern: str) -> int:
    return sum(count for name, count in names.counts.items() if matches(pattern, name))
