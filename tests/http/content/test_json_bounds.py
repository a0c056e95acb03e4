"""What a body holds is known while it comes, in whatever pieces."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.http.content.as_json import MAX_DEPTH, BadBody
from modvisor.supervisor.http.content.bodies import TooLarge
from modvisor.supervisor.http.content.json_bounds import JsonBounds, is_within

TEXTS = st.text() | st.text(alphabet='\\"[]{},:x')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=30,
)


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[start:end] for start, end in itertools.pairwise(at)]


def counted(value: Any) -> int:
    """Return the containers and the commas of a value."""
    if not isinstance(value, (list, dict)):
        return 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + max(0, len(value) - 1) + sum(map(counted, items))


def depth(value: Any) -> int:
    if not isinstance(value, (list, dict)):
        return 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, items), default=0)


@given(VALUES, st.lists(st.integers(min_value=0), max_size=10), st.booleans())
def test_every_value_is_counted_in_whatever_pieces_it_comes(value: Any, cuts: list[int], is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    bounds = JsonBounds(10**9)
    for piece in pieces(body, cuts):
        bounds.feed(piece)
    assert bounds.values == counted(value)
    assert bounds._depth == 0
    assert not bounds._in_text


@given(st.binary(), st.lists(st.integers(min_value=0), max_size=10))
def test_what_is_no_json_is_counted_the_same_in_pieces(body: bytes, cuts: list[int]) -> None:
    whole, split = JsonBounds(10**9), JsonBounds(10**9)
    whole.feed(body)
    for piece in pieces(body, cuts):
        split.feed(piece)
    assert (whole.values, whole._depth, whole._in_text) == (split.values, split._depth, split._in_text)


@given(VALUES | st.lists(st.lists(st.none(), max_size=3), max_size=8), st.integers(min_value=0, max_value=20))
def test_a_body_that_is_within_the_bounds_for_certain_is_within_them(value: Any, most: int) -> None:
    body = json.dumps(value).encode()
    if is_within(body, most):
        JsonBounds(most).feed(body)


def test_a_short_body_without_brackets_in_its_texts_is_within_the_bounds_for_certain() -> None:
    assert is_within(b'{"a": [1, 2], "b": "c, d"}', 5)
    assert not is_within(b'{"a": [1, 2], "b": "c, d"}', 4)
    assert not is_within(b"[" * (MAX_DEPTH + 1), 1000)


def test_too_many_values_are_refused_before_the_rest_comes() -> None:
    bounds = JsonBounds(100)
    bounds.feed(b'{"a": [' + b"1," * 98)
    with pytest.raises(TooLarge, match=r"more than 100 values \('http.json_values'\)"):
        bounds.feed(b"1," * 10)


def test_nesting_is_bounded_across_pieces() -> None:
    bounds = JsonBounds(10**9)
    for _ in range(3):
        bounds.feed(b"[" * MAX_DEPTH)
        bounds.feed(b"]" * MAX_DEPTH)
    bounds.feed(b"[" * MAX_DEPTH + b'"[[["')
    with pytest.raises(BadBody, match=f"deeper than {MAX_DEPTH} levels"):
        bounds.feed(b"[")


@pytest.mark.parametrize(
    "piece",
    [b'"' + b'\\"' * 8000, b'"",' * 5000, b'"\\' * 8000, b"[]" * 8000, b'"' + b"x" * 16000, b"\\" * 16000],
    ids=["escaped quotes", "empty texts", "quotes and backslashes", "brackets", "one text", "backslashes"],
)
def test_no_piece_takes_longer_than_its_length(piece: bytes) -> None:
    bounds = JsonBounds(10**9)
    began = time.thread_time()
    for _ in range(20):
        bounds.feed(piece)
    assert (time.thread_time() - began) / 20 < 0.02
