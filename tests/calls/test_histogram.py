"""The histogram against exact quantiles of the same values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.calls.histogram import LatencyHistogram

durations = st.floats(min_value=1e-6, max_value=1073.0)
# Random floats are mostly large; latencies spread over all the octaves.
latencies = st.one_of(durations, st.floats(min_value=-6, max_value=3).map(lambda exponent: 10.0**exponent))
quantiles = st.floats(min_value=0.0, max_value=1.0)


def filled(values: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    return histogram


def exact_quantile(values: list[float], q: float) -> float:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


def test_empty() -> None:
    histogram = LatencyHistogram()
    assert histogram.count == len(histogram) == 0
    assert histogram.max == 0.0
    assert histogram.quantile(0.5) is None


@given(st.lists(latencies, min_size=1, max_size=200), quantiles)
def test_a_quantile_is_close_to_the_exact_one(values: list[float], q: float) -> None:
    found = filled(values).quantile(q)
    assert found == pytest.approx(exact_quantile(values, q), rel=0.0626)


@given(st.lists(latencies, min_size=1), quantiles, quantiles)
def test_quantiles_ascend_up_to_the_exact_maximum(values: list[float], q1: float, q2: float) -> None:
    histogram = filled(values)
    low, high = histogram.quantile(min(q1, q2)), histogram.quantile(max(q1, q2))
    assert low is not None
    assert high is not None
    assert low <= high <= histogram.max == max(values)
    assert histogram.quantile(1) == max(values)


@given(st.lists(latencies), st.lists(latencies), quantiles)
def test_merging_is_adding_everything_to_one(left: list[float], right: list[float], q: float) -> None:
    merged = filled(left)
    merged.merge(filled(right))
    together = filled(left + right)
    assert (merged.count, merged.max, merged.quantile(q)) == (together.count, together.max, together.quantile(q))


def test_borders_of_octaves() -> None:
    for exponent in range(-19, 34):
        border = 2.0**exponent / 8e6
        for value in (math.nextafter(border, 0), border, math.nextafter(border, math.inf)):
            found = filled([value, value, 2 * value]).quantile(0.5)
            assert found == pytest.approx(value, rel=0.0626, abs=0.07e-6), f"2 to the power of {exponent}"


@pytest.mark.parametrize(
    ("value", "lowest", "highest"),
    [(0.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (math.nan, 0.0, 0.0), (5000.0, 1000.0, 1074.0), (math.inf, 1000.0, 1074.0)],
)
def test_what_is_out_of_range_counts_at_its_end(value: float, lowest: float, highest: float) -> None:
    histogram = filled([value, value])
    found = histogram.quantile(0.5)
    assert histogram.count == 2
    assert found is not None
    assert lowest <= found <= highest


def test_the_maximum_is_kept_beyond_the_range() -> None:
    assert filled([5000.0, 1.0]).max == 5000.0


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_that_is_none_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        filled([1.0]).quantile(q)


@given(st.lists(latencies), st.integers(min_value=0, max_value=29))
def test_how_many_were_at_most_a_power_of_two_is_exact(values: list[float], octave: int) -> None:
    border = 2**octave * 1e-6
    apart = [
        value for value in values if not math.isclose(value, border, rel_tol=1e-12)
    ]  # at the border either is right
    assert filled(apart).up_to(octave) == sum(value < border for value in apart)


@given(st.lists(latencies))
def test_the_sum_is_close_to_the_exact_one_and_a_copy_has_it(values: list[float]) -> None:
    histogram = filled(values)
    assert histogram.total() == pytest.approx(math.fsum(values), rel=0.0626)
    assert histogram.copy().total() == histogram.total()
