"""The mods of OpenAgents work under `default`, with every part of it enforced; else they would not be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from .driver import Driver, Record
from .ours import our_network
from .script import SCRIPT

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]


async def test_all_mods_answer_and_deliver_as_in_their_own_network(theirs: list[Record], tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    async with our_network(folder, sandbox="default") as network:
        ours = await Driver(network, str(folder)).run(SCRIPT)
    assert ours == theirs
