"""`modvisor.mods.workspace.analytics.windows`: what a window holds, whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods.workspace.analytics.windows import Stream, window_name


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
