"""`modvisor.mods.workspace.analytics.sizes`: estimates of the size as msgpack."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods.workspace.analytics.sizes import size_of

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
