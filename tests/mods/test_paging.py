"""`modvisor.mods.workspace.paging`: pages of lists, and the cursor of the next one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods import Refused
from modvisor.mods.workspace.fields import Given
from modvisor.mods.workspace.paging import LIMIT, MAX_BYTES, MAX_LIMIT, cut, list_answer, read_cursor, read_limit


def test_limit_and_cursor_are_read_and_checked() -> None:
    given = Given({"limit": 3, "cursor": 7})
    assert (read_limit(given), read_cursor(given)) == (3, 7)
    assert (read_limit(Given({})), read_cursor(Given({}))) == (LIMIT, 0)
    for bad in (0, MAX_LIMIT + 1, "3"):
        with pytest.raises(Refused, match=r"^limit: expected a whole number from 1 to 200"):
            read_limit(Given({"limit": bad}))
    with pytest.raises(Refused, match=r"^cursor: "):
        read_cursor(Given({"cursor": -1}))


@given(st.lists(st.integers(0, 1000), unique=True), st.integers(1, 10))
def test_pages_hold_every_row_once_and_in_order(numbers: list[int], limit: int) -> None:
    numbers.sort()
    seen: list[int] = []
    after, more = -1, True
    while more:
        rest = [number for number in numbers if number > after]
        page, end = cut(rest[: limit + 1], limit, lambda number: number)
        assert len(page) == min(limit, len(rest))
        seen += page
        after, more = end["next"], end["has_more"]
    assert after is None
    assert seen == numbers


def test_a_page_ends_early_when_its_rows_are_large() -> None:
    page, end = cut([1, 2, 3], 10, lambda row: row, lambda row: MAX_BYTES // 2)
    assert (page, end) == ([1, 2], {"has_more": True, "next": 2})
    page, end = cut([1, 2], 10, lambda row: row, lambda row: MAX_BYTES + 1)
    assert (page, end) == ([1], {"has_more": True, "next": 1}), "a row larger than a page still gets through"


def test_an_answer_names_its_list_and_says_how_many() -> None:
    rows: list[dict[str, Any]] = [{"id": 5}, {"id": 6}, {"id": 7}]
    answer = list_answer("activity", rows, 2, "id", "changes")
    assert (answer.success, answer.message) == (True, "2 changes.")
    assert answer.data == {"activity": rows[:2], "has_more": True, "next": 6}
    answer = list_answer("goals", rows, 3, "id")
    assert answer.message == "3 goals."
    assert answer.data == {"goals": rows, "has_more": False, "next": None}
