"""`modvisor.mods.workspace.analytics.key_counts`: bounded, and never too high."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods.workspace.analytics.key_counts import KeyCounts
from modvisor.mods.workspace.analytics.sketches import ERROR

KEYS = st.lists(st.integers(0, 60).map(str), max_size=300)


@given(KEYS, st.integers(2, 70))
def test_counts_are_bounded_and_never_too_high(keys: list[str], cap: int) -> None:
    counts, true = KeyCounts(cap), Counter(keys)
    for key in keys:
        counts.add(key)
        assert len(counts.counts) <= cap
    _check(counts, true)
    if len(true) <= cap:
        assert counts.counts == true
        assert counts.distinct() == {"count": len(true), "exact": True, "error": 0.0}
    assert KeyCounts.load(counts.dump(), cap).dump() == counts.dump()


@given(st.lists(KEYS, max_size=6), st.integers(2, 70))
def test_merged_counts_keep_the_bounds(parts: list[list[str]], cap: int) -> None:
    merged = KeyCounts(cap)
    for part in parts:
        counts = KeyCounts(cap)
        for key in part:
            counts.add(key)
        merged.merge(counts)
        assert len(merged.counts) <= cap
    _check(merged, Counter(key for part in parts for key in part))


def _check(counts: KeyCounts, true: Counter[str]) -> None:
    assert counts.total() == true.total()
    for key, count in true.items():
        assert counts.counts.get(key, 0) <= count <= counts.counts.get(key, 0) + counts.other
    assert counts.distinct()["count"] == pytest.approx(len(true), rel=0.1, abs=3)
    assert [count for _, count in counts.top()] == sorted(counts.counts.values(), reverse=True)


def test_a_frequent_key_outlives_any_number_of_rare_ones() -> None:
    counts = KeyCounts(10)
    for number in range(10_000):
        counts.add("often")
        counts.add(f"rare{number}")
    assert counts.top()[0] == ("often", 10_000)
    assert not counts.distinct()["exact"]
    assert counts.distinct()["count"] == pytest.approx(10_001, rel=3 * ERROR)
