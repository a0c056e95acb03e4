"""The pure parts of analytics: sketches, tallies, sizes, rings."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods.workspace.analytics.sizes import size_of
from modvisor.mods.workspace.analytics.sketches import ERROR, Histogram, HyperLogLog
from modvisor.mods.workspace.analytics.tally import Tally
from modvisor.mods.workspace.analytics.windows import Stream, window_name

KEYS = st.lists(st.integers(0, 60).map(str), max_size=300)


# -- sketches


@pytest.mark.parametrize("number", [0, 1, 100, 2_000, 5_000, 20_000, 100_000])
def test_a_hyperloglog_estimates_within_its_error(number: int) -> None:
    sketch = HyperLogLog(f"agent-{n}" for n in range(number))
    assert sketch.estimate() == pytest.approx(number, rel=3 * ERROR, abs=1)


@given(st.sets(st.text()), st.sets(st.text()))
def test_merged_hyperloglogs_are_that_of_the_union(one: set[str], other: set[str]) -> None:
    merged = HyperLogLog(one)
    merged.merge(HyperLogLog(other))
    assert merged.dump() == HyperLogLog(one | other).dump()
    assert HyperLogLog.load(merged.dump()).estimate() == merged.estimate()


@pytest.mark.parametrize("bad", ["", "x", "not base85 \x00", HyperLogLog().dump()[:-3]])
def test_what_is_no_hyperloglog(bad: str) -> None:
    with pytest.raises(ValueError):
        HyperLogLog.load(bad)


VALUES = st.lists(st.integers(-5, 2**42) | st.integers(0, 300), min_size=1)


@given(VALUES, st.lists(st.floats(0, 1), min_size=1))
def test_quantiles_are_true_to_a_sixteenth(values: list[int], shares: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ordered = sorted(min(max(0, value), Histogram.TOP) for value in values)
    for share, found in zip(shares, histogram.quantiles(shares), strict=True):
        true = ordered[max(1, math.ceil(share * len(ordered))) - 1]
        assert found is not None
        assert abs(found - true) <= true / 16
    assert len(histogram.counts) <= 304


@given(VALUES, VALUES)
def test_merged_histograms_are_that_of_all_values(one: list[int], other: list[int]) -> None:
    parts, whole = (Histogram(), Histogram()), Histogram()
    for values, part in zip((one, other), parts, strict=True):
        for value in values:
            part.add(value)
            whole.add(value)
    parts[0].merge(parts[1])
    assert parts[0].dump() == whole.dump() == Histogram.load(whole.dump()).dump()


def test_an_empty_histogram_has_no_quantiles() -> None:
    assert Histogram().quantiles([0.0, 1.0]) == [None, None]


# -- tallies


@given(KEYS, st.integers(2, 70))
def test_a_tally_is_bounded_and_never_counts_too_much(keys: list[str], cap: int) -> None:
    tally, true = Tally(cap), Counter(keys)
    for key in keys:
        tally.add(key)
        assert len(tally.counts) <= cap
    _check(tally, true)
    if len(true) <= cap:
        assert tally.counts == true
        assert tally.distinct() == {"count": len(true), "exact": True, "error": 0.0}
    assert Tally.load(tally.dump(), cap).dump() == tally.dump()


@given(st.lists(KEYS, max_size=6), st.integers(2, 70))
def test_merged_tallies_keep_the_bounds(parts: list[list[str]], cap: int) -> None:
    merged = Tally(cap)
    for part in parts:
        tally = Tally(cap)
        for key in part:
            tally.add(key)
        merged.merge(tally)
        assert len(merged.counts) <= cap
    _check(merged, Counter(key for part in parts for key in part))


def _check(tally: Tally, true: Counter[str]) -> None:
    assert tally.total() == true.total()
    for key, count in true.items():
        assert tally.counts.get(key, 0) <= count <= tally.counts.get(key, 0) + tally.other
    assert tally.distinct()["count"] == pytest.approx(len(true), rel=0.1, abs=3)
    assert [count for _, count in tally.top()] == sorted(tally.counts.values(), reverse=True)


def test_a_frequent_key_outlives_any_number_of_rare_ones() -> None:
    tally = Tally(10)
    for number in range(10_000):
        tally.add("often")
        tally.add(f"rare{number}")
    assert tally.top()[0] == ("often", 10_000)
    assert not tally.distinct()["exact"]
    assert tally.distinct()["count"] == pytest.approx(10_001, rel=3 * ERROR)


# -- sizes

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.integers(0, 9), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_a_size_is_near_that_of_msgpack(payload: dict[str, Any]) -> None:
    true = len(msgpack.packb(payload))
    assert true / 3 - 5 <= size_of(payload) <= 5 * true


def test_sizes_of_usual_and_of_large_payloads() -> None:
    for payload in (
        {"path": "guide/start", "content": "größer " * 50, "tags": ["a", "b"], "revision": 4, "at": 1.5e9},
        {"rows": [[number, "name", {"key": number * 1000}] for number in range(50_000)]},
        {"many": {str(number): "x" * 10 for number in range(50_000)}},
        {"data": b"x" * 10**6},
    ):
        assert size_of(payload) == pytest.approx(len(msgpack.packb(payload)), rel=0.2)
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"deeper": deep}
    assert size_of(deep) > 100


# -- windows


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3)), max_size=80), st.integers(0, 500))
def test_a_window_holds_what_came_in_its_time(steps: list[tuple[int, int]], idle: int) -> None:
    stream, now, came = Stream([60, 300], 1000), 1_000_000.0, []
    for wait, late in steps:
        now += wait / 10
        at = now - late  # some come late, for earlier seconds
        stream.add(f"a.b{late}", "agent:x", 1, at, now)
        came.append(at)
    now += idle
    for name, width in (("1m", 1), ("5m", 5)):
        first = (int(now) // width - 59) * width
        expected = sum(1 for at in came if at >= first)
        view = stream.view(name, now)
        assert view.bucket.count == expected
        assert sum(bucket.count for _, bucket in stream.series(name, now) if bucket is not None) == expected
        assert view.seconds >= 1
    assert stream.count == len(came)
    assert all(len(ring.buckets) <= 60 for ring in stream.rings.values())
    again = Stream([60, 300], 1000)
    again.load(stream.dump())
    assert again.dump() == stream.dump()


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -float("inf"), -5.0, 2e9])
def test_a_timestamp_that_cannot_be_counts_as_now(at: float) -> None:
    stream = Stream([60], 10)
    stream.add("a.b", None, 1, at, 1e9)
    assert stream.view("1m", 1e9).bucket.count == 1
    assert stream.view("1m", 1e9).bucket.sources.counts == {"unknown": 1}


def test_a_clock_set_back_does_not_blind_the_windows() -> None:
    stream = Stream([60], 10)
    for at in (1e9, 1e9 + 1, 1e9 - 5_000, 1e9 - 4_999):
        stream.add("a.b", "x", 1, at, at)
    assert stream.view("1m", 1e9 - 4_999).bucket.count == 2
    assert stream.count == 4


def test_what_is_older_than_every_window_counts_in_the_total_only() -> None:
    stream = Stream([60], 10)
    stream.add("a.b", "x", 1, 1e9, 1e9)
    stream.add("a.b", "x", 1, 1e9 - 100, 1e9)
    assert stream.view("1m", 1e9).bucket.count == 1
    assert stream.view("total", 1e9).bucket.count == 2


@pytest.mark.parametrize(("seconds", "name"), [(60, "1m"), (90, "90s"), (3600, "1h"), (5400, "90m"), (172_800, "2d")])
def test_names_of_windows(seconds: int, name: str) -> None:
    assert window_name(seconds) == name
