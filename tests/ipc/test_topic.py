from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.errors import InvalidEvent
from modvisor.ipc.topic import TopicTable, check_event_name, check_pattern, matches, specificity

part = st.text("ab_1", min_size=1, max_size=3)
name = st.lists(part, min_size=2, max_size=4).map(".".join)
pattern = st.just("*") | name | st.lists(part, min_size=1, max_size=3).map(lambda parts: ".".join(parts) + ".*")


@pytest.mark.parametrize(
    ("text", "event", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", True),
        ("a.*", "ab.c", False),
        ("a.b.*", "a.b", False),
        ("*", "a.b", True),
    ],
)
def test_matching(text: str, event: str, expected: bool) -> None:
    assert matches(text, event) is expected


@given(st.lists(pattern, max_size=12), name)
def test_the_table_finds_what_matching_one_by_one_finds(patterns: list[str], event: str) -> None:
    table: TopicTable[int] = TopicTable()
    for index, text in enumerate(patterns):
        table.add(text, index)
    found = table.match(event)
    assert sorted(found) == [index for index, text in enumerate(patterns) if matches(text, event)]
    ranks = [specificity(patterns[index]) for index in found]
    assert ranks == sorted(ranks, reverse=True)


@given(st.text(max_size=20))
def test_any_text_is_a_name_or_a_typed_error(text: str) -> None:
    for check in (check_event_name, check_pattern):
        with suppress(InvalidEvent):
            assert check(text) == text
