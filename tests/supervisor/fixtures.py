"""Fixtures of tests whose workers are no processes, on a virtual clock. A `conftest.py` takes them by import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.virtual_time import VirtualTimeLoop
from tests.supervisor.world import World

MakeWorld = Callable[..., Awaitable[World]]


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
