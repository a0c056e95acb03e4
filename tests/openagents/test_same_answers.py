"""All thirteen mods of OpenAgents give the same answers and deliveries here as in OpenAgents' own network."""

from __future__ import annotations

from pathlib import Path

import pytest

from .driver import Driver, Record
from .ours import our_network
from .script import MODS, SCRIPT

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_all_mods_answer_and_deliver_as_in_their_own_network(theirs: list[Record], tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    async with our_network(folder) as network:
        assert len(network.network.get_loaded_mods()) == len(MODS) == 13
        ours = await Driver(network, str(folder)).run(SCRIPT)
    assert len(ours) >= 100
    for here, there in zip(ours, theirs, strict=True):
        assert here == there, here.step
