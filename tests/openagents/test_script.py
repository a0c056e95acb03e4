"""The script itself: it is about all thirteen mods, and nothing random is left in what it records."""

from __future__ import annotations

from pathlib import Path

import pytest

from .driver import Driver
from .script import MODS, SCRIPT, Send
from .theirs import their_network

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


def test_it_sends_more_than_a_hundred_events_to_all_thirteen_mods() -> None:
    names = {step.name for step in SCRIPT if isinstance(step, Send)}
    assert len(MODS) == 13
    assert len(SCRIPT) >= 200
    assert len(names) >= 100


async def test_two_runs_on_their_network_record_the_same(tmp_path: Path) -> None:
    records = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        async with their_network(folder) as network:
            records.append(await Driver(network, str(folder)).run(SCRIPT))
    assert records[0] == records[1]
