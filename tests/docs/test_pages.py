"""Every command of every page is given: it prints what the page shows, or at least it ends well."""

from __future__ import annotations

from pathlib import Path

import pytest

from .not_run import row_of
from .pages import blocks_of, names
from .scenes import SCENES
from .walking import Scene, Walk

LONGEST = "cli.md"
"""It has a file of its own, so that it is walked while the others are."""
WALKED = [
    page
    for page in names()
    if any(step.command and row_of(page, step.command) is None for block in blocks_of(page) for step in block.steps)
]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", [page for page in WALKED if page != LONGEST])
def test_each_command_of_a_page_does_what_the_page_shows(page: str, tmp_path: Path) -> None:
    Walk(page, SCENES.get(page, Scene()), tmp_path).whole()


def test_the_longest_page_is_walked_elsewhere() -> None:
    assert LONGEST in WALKED
