"""Save a mod's file, and measure until the new code answers."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from modvisor.supervisor import AgentNetwork, Event

SAVED = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Saved(BaseMod):
    @mod_event_handler("bench.saved")
    async def saved(self, event):
        return EventResponse(True, data={number})
"""
ASKED_EVERY = 0.001  # seconds
PAUSE = 0.6  # seconds between two saves: people are slower, and the network slows down files that change at once


async def save_to_answer(network: AgentNetwork, folder: Path, saves: int) -> list[float]:
    """Load a mod below `folder` and save it repeatedly. Return the seconds to each answer."""
    file = folder / "mods" / "saved" / "mod.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SAVED.format(number=-1))
    loaded = await network.load_mod("./saved", watch=True)
    assert loaded.success, loaded
    times = [await _save(network, file, number) for number in range(saves + 1)]
    await network.unload_mod("saved")
    return times[1:]  # at the first, the files may not be watched yet


async def _save(network: AgentNetwork, file: Path, number: int) -> float:
    await asyncio.sleep(PAUSE)
    source, fresh = SAVED.format(number=number), file.with_suffix(".new")
    begin = time.perf_counter()
    fresh.write_text(source)
    os.replace(fresh, file)
    while True:
        response = await network.process_event(Event("bench.saved"))
        assert response.success, response
        if response.data == number:
            return time.perf_counter() - begin
        await asyncio.sleep(ASKED_EVERY)
