"""`modvisor.mods.workspace.analytics.sketches`: estimates stay within their error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods.workspace.analytics.sketches import ERROR, Histogram, HyperLogLog


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
