"""The short form of `make chaos`: ten of twenty mods misbehave in every way there is, and every promise is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.chaos.run import run
from benchmarks.chaos.summary import lines

# Guardians of its own: the template of the tests would count as left over when it is started meanwhile.
pytestmark = [
    pytest.mark.usefixtures("started_guardians"),
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="needs a guardian"),
]


@pytest.mark.timeout(180)
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [20.0])
async def test_twenty_mods_ten_of_which_misbehave(seconds: float, tmp_path: Path, tell: Callable[[str], None]) -> None:
    summary = await run(1, seconds, tmp_path / "state")
    told = lines(summary)
    for line in told:
        tell(line)
    assert summary.problems == [], "\n".join(told)
