"""How what is printed is compared with what a page shows."""

from __future__ import annotations

import pytest

from .pages import blocks
from .showing import compared, first_difference, is_as_shown
from .walking import in_general


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("ready in 12 ms\n", "ready in 164 ms\n", True),
        ("a   1\nb\nc\n", "a 22\n…\nc\n", True),
        ("a\nb\n", "a\n", False),
        ("error: a\n", "error: b\n", False),
        ("anything\n", "", True),
        ("up 2h 14m, 3.1 kB, - of a core", "up 1.6s, 81.9 MB, 0.4 % of a core", True),
        ("up 3 kB", "up 1.6s", False),
        ('{"a": 1, "b": {"c": 2}, "d": null}', '{"a": 1, … "d": 0.5}', True),
        ('{"a": 1, "e": true}', '{"a": 1}', False),
        ("it was 2026-11-30 03:34:52", "it was 2025-01-01 00:00:00", True),
        ("it was yesterday", "it was 2025-01-01 00:00:00", False),
        ("version 0.8.0", "version 0.7.0", True),
    ],
)
def test_what_is_printed_is_compared_as_far_as_it_is_stable(printed: str, shown: str, same: bool) -> None:
    assert is_as_shown(printed, shown) is same


def test_a_code_of_the_page_is_that_of_this_run_from_then_on() -> None:
    codes = compared("token mvt_abc of 0123456789ab\n", "token mvt_xyz of fedcba987654")
    assert codes == {"mvt_xyz": "mvt_abc", "fedcba987654": "0123456789ab"}
    assert compared("token none of 0123456789ab\n", "token mvt_xyz of fedcba987654") is None


def test_the_first_line_that_differs_is_named() -> None:
    assert first_difference("a\nb\nd\n", "a\nb\nc\n") == "c"
    assert first_difference("a\nb\n", "a\n") == "(more was printed than is shown)"


def test_of_some_host_only_the_headings_are_compared() -> None:
    shown = in_general("This host\n  ok python 3.11\n  → more\n\n1 ok, 0 warn\nAll is well. But …\n")
    assert is_as_shown("This host\n  warn python\n2 ok, 7 warn\nAll is well.\n", shown)
    assert not is_as_shown("That host\n2 ok, 7 warn\nAll is well.\n", shown)


def test_a_block_is_a_file_if_the_line_above_names_one() -> None:
    page = "# A\n\nPut this into `mods/a/mod.py`:\n\n```python\nx = 1\n```\n\n"
    page += "1. b\n\n   ```console\n   $ c  # d\n   e\n   ```\n"
    file, console = blocks(page)
    assert (file.file, file.heading, file.line, file.text) == ("mods/a/mod.py", "A", 5, "x = 1\n")
    assert [(step.command, step.text) for step in console.steps] == [("c  # d", "e\n")]
