"""Commands that an operator gives up half-way, on a whole network in virtual time: disk and memory agree afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.supervisor.virtual_time import VirtualTimeLoop
from tests.supervisor.whole_laws import turns
from tests.supervisor.whole_world import LoopWriter, WholeWorld, in_loop, scratch


def live(life: Callable[[WholeWorld], Awaitable[None]]) -> None:
    """Run a network without mods in its file, from its start to its end."""

    async def run(folder: Path) -> None:
        world = WholeWorld(folder, [])
        world.editions = {"pkg.a": 1}
        await world.start()
        await life(world)
        await world.stop()

    LoopWriter.lag, LoopWriter.is_full = 0.0, False
    loop = VirtualTimeLoop()
    try:
        with in_loop(), tempfile.TemporaryDirectory(dir=scratch(), prefix="life-") as folder:
            loop.run_until_complete(run(Path(folder)))
    finally:
        loop.close()


@pytest.mark.parametrize("count", [*range(0, 30, 3), 60])
def test_an_unload_that_is_given_up_leaves_no_mod_for_the_next_start(count: int) -> None:
    async def life(world: WholeWorld) -> None:
        assert (await world.network.load_mod("pkg.a")).success
        assert world.on_disk().mods == {"a": "pkg.a"}
        world.conduct.exit_lag = 0.01  # its end takes a moment
        unload = world.command(world.network.unload_mod("a"))
        await turns(count)
        unload.cancel()
        await asyncio.wait([unload])
        await asyncio.sleep(10)
        assert world.on_disk().mods.keys() == {mod.mod_id for mod in world.mods}

    live(life)
