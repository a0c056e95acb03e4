"""The answers and deliveries stay alike when mods of OpenAgents are reloaded between the events.

Between two events the mod is reloaded that gets the next one, and another one in turn. With
MODVISOR_RELOADS=all, all thirteen are reloaded between any two events, which takes minutes.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from .driver import Driver, Record
from .ours import our_network
from .script import MODS, SCRIPT, Send

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

PATHS = list(MODS)
OWNERS = {
    "thread": "messaging", "agent.message": "messaging", "agent": "simple_messaging", "document": "documents",
    "discovery": "agent_discovery", "task": "task_delegation", "test": "basic_test",
}  # fmt: skip
"""The short ids of mods whose events begin with something else."""


def asked_by(number: int) -> list[str]:
    """Return the paths of the mod that gets the step with this index, and of one more in turn."""
    turn = PATHS[number % len(PATHS)]
    step = SCRIPT[number] if number < len(SCRIPT) else None
    if not isinstance(step, Send):
        return [turn]
    first = step.name.partition(".")[0]
    owner = OWNERS.get(step.name) or OWNERS.get(first, first)
    return list({turn, *(path for path in PATHS if path.endswith(f".{owner}"))})


async def test_mods_may_be_reloaded_between_any_two_events(theirs: list[Record], tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    async with our_network(folder) as network:

        async def reload(number: int) -> None:
            paths = PATHS if os.environ.get("MODVISOR_RELOADS") == "all" else asked_by(number)
            reloaded = await asyncio.gather(*map(network.network.reload_mod, paths))
            assert all(response.success for response in reloaded), reloaded

        ours = await Driver(network, str(folder), reload).run(SCRIPT)
    for here, there in zip(ours, theirs, strict=True):
        assert here == there, here.step
