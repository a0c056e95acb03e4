"""One mod with all that is around it, on fake workers and a virtual clock: what happened once, turn by turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.virtual_time import VirtualTimeLoop
from tests.supervisor.world import World

pytestmark = pytest.mark.anyio

MakeWorld = Callable[..., Awaitable[World]]

FAST = {"first_delay": 0, "max_delay": 0}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[MakeWorld]:
    """Worlds whose mod is loaded, given the other keys of its entry."""
    worlds: list[World] = []

    async def make(**mod: Any) -> World:
        world = World(tmp_path, **mod)
        worlds.append(world)
        await world.open()
        return world

    yield make
    for world in worlds:
        await world.close()


async def test_an_event_takes_as_long_as_its_handler_and_no_time_at_all(make_world: MakeWorld) -> None:
    world = await make_world()
    began = world.loop.time()
    answer = await world.send("slow", seconds=20).task
    assert (answer.data, world.loop.time() - began) == ([0, 1], 20.0)
