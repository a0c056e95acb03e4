"""Readers of values: what is written back is read as the same value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.values.basic import (
    duration,
    flag,
    list_of,
    one_of,
    or_null,
    size,
    text,
    whole,
    written_duration,
    written_size,
)
from modvisor.supervisor.config.values.reader import Location, Reader, got, hint
from modvisor.supervisor.config.yaml.source import BROKEN, Source


def at() -> Location:
    return Location(Source(), Path("/base"), ("key",))


@given(
    st.integers(0, 10**15 - 1)
    | st.integers(0, 40).map(lambda power: 2**power)
    | st.integers(0, 15).map(lambda n: 10**n)
)
def test_a_size_that_is_written_is_read_back(count: int) -> None:
    written = written_size(count)
    assert size(0)(int(written) if written.isdigit() else written, at()) == count


@given(st.integers(0, 10**7).map(lambda ms: ms / 1000))
def test_a_duration_that_is_written_is_read_back(seconds: float) -> None:
    assert duration(zero=True)(written_duration(seconds), at()) == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0s"), (0.1, "100ms"), (1.5, "1.5s"), (60.0, "1m"), (90.0, "90s"), (7200.0, "2h"), (2592000.0, "30d")],
)
def test_a_duration_has_its_largest_fitting_unit(seconds: float, written: str) -> None:
    assert written_duration(seconds) == written


@pytest.mark.parametrize(
    ("reader", "accepts"),
    [
        (whole(1), "1 or more"),
        (or_null(whole(0, 65535)), "0 to 65535, or null"),
        (size(1_000_000), "size, 1MB or more"),
        (one_of("a", "b", "c"), "`a`, `b` or `c`"),
        (list_of(text, "[a]"), "list of texts"),
        (flag, "true or false"),
    ],
)
def test_a_reader_says_what_it_accepts(reader: Reader, accepts: str) -> None:
    assert reader.accepts == accepts


def test_a_list_reports_each_wrong_item_and_keeps_the_others() -> None:
    place = at()
    assert list_of(whole(1), "[1]")([1, "x", BROKEN, 2], place) == (1, 2)
    assert [problem.key for problem in place.source.problems] == ["key[1]"]


def test_words_of_messages() -> None:
    assert [got(value) for value in (None, True, "x", {}, [], object())] == [
        "nothing", "true", "'x'", "a mapping", "a list", "a object",
    ]  # fmt: skip
    assert hint("lmits", ["limits", "env"]) == "did you mean 'limits'?"
    assert hint(5, []) == "known here: none"
