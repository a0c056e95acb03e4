"""docs/cli.md is walked here, as the other pages are in test_pages.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from .scenes import SCENES
from .test_pages import LONGEST
from .walking import Walk


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_command_of_the_longest_page_does_what_the_page_shows(tmp_path: Path) -> None:
    Walk(LONGEST, SCENES[LONGEST], tmp_path).whole()
