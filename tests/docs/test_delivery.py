"""docs/delivery.md: each test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "delivery.md").read_text("utf-8")


def test_each_promise_names_tests_that_are_there() -> None:
    named = re.findall(r"`([\w/]+\.py)`: ((?:`test_\w+`(?:, )?)+)", PAGE)
    assert sum(PAGE.count(f"`{file}`") for file in {file for file, _ in named}) == len(named)
    assert len(re.findall(r"`test_\w+`", PAGE)) == sum(tests.count("`test_") for _, tests in named)
    for file, tests in named:
        source = (TESTS / file).read_text("utf-8")
        for test in re.findall(r"`(test_\w+)`", tests):
            assert f"def {test}(" in source, f"{file}: {test}"
