from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.partition import is_partition, key_of, partition_of

keys = st.one_of(
    st.text(), st.integers(-(2**63), 2**64 - 1), st.booleans(), st.binary(), st.lists(st.text(), max_size=3)
)


@given(keys, st.integers(1, 256))
def test_a_key_has_one_worker_of_those_there_are(key: Any, count: int) -> None:
    index = partition_of(key, count)
    assert 0 <= index < count
    assert partition_of(key, count) == index


def test_it_is_the_same_everywhere_and_always() -> None:
    assert [partition_of(f"agent:a{n}", 4) for n in range(12)] == [3, 2, 0, 3, 3, 0, 2, 0, 2, 0, 1, 3]
    assert [partition_of(n, 3) for n in range(8)] == [0, 0, 0, 1, 0, 0, 0, 1]


def test_keys_are_spread() -> None:
    counts = [0] * 8
    for n in range(8000):
        counts[partition_of(f"agent:{n}", 8)] += 1
    assert all(900 < count < 1100 for count in counts)


@pytest.mark.parametrize(
    ("by", "payload", "key"),
    [
        ("source", {"order": 1}, "agent:a"),
        ("payload.order", {"order": 7}, 7),
        ("payload.order.id", {"order": {"id": "x"}}, "x"),
        ("payload.order.id", {"order": 7}, "agent:a"),
        ("payload.order.id", {}, "agent:a"),
        ("payload.order", {"order": None}, "agent:a"),
        ("payload.order", {"order": 0}, 0),
    ],
)
def test_what_decides(by: str, payload: Any, key: Any) -> None:
    assert is_partition(by)
    assert key_of(by, "agent:a", payload) == key


@pytest.mark.parametrize("by", ["", "payload", "payload.", "sources", "payload..x", "event.id", "payload.a b", ".x"])
def test_what_says_nothing(by: str) -> None:
    assert not is_partition(by)


@given(st.text())
def test_anything_may_be_asked(by: str) -> None:
    if is_partition(by):
        key_of(by, None, {"a": {"b": 1}})


def test_what_cannot_be_sent_has_a_worker_too() -> None:
    assert partition_of(object(), 5) == 0
