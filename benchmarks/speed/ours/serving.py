"""Networks to be measured, in a process that is set up as `modvisor run` sets up its own; and asking them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.runtime import ease_collector, has_uvloop

from ..plan import Plan
from ..timing import in_flight
from ..work import Fields, check, ping

T = TypeVar("T")

FOLDER = Path(__file__).parent.parent  # the one with mods/


@dataclass(frozen=True, slots=True)
class Scene:
    """Where one part is measured. ``folder`` is empty, and its own."""

    plan: Plan
    folder: Path


def run(main: Coroutine[Any, Any, T]) -> T:
    """On the event loop that `modvisor run` would use here."""
    with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop if has_uvloop() else None) as runner:
        return runner.run(main)


@asynccontextmanager
async def serving(
    scene: Scene,
    *mods: str | dict[str, Any],
    network: dict[str, Any] | None = None,
    base_dir: Path = FOLDER,
    **keys: Any,
) -> AsyncIterator[AgentNetwork]:
    """A running network with these mods, and other keys of the network file."""
    config = {
        "network": {"name": "speed", "storage": str(scene.folder / "state"), **(network or {})},
        "mods": list(mods),
        **keys,
    }
    async with AgentNetwork.from_config(config, base_dir=base_dir) as running:
        failed = [mod_id for mod_id, mod in running.get_loaded_mods().items() if mod["state"] != "ready"]
        assert not failed, f"not ready: {failed}"
        thresholds = gc.get_threshold()
        ease_collector()
        try:
            yield running
        finally:
            gc.set_threshold(*thresholds)
            gc.unfreeze()


def call(network: AgentNetwork, fields: Fields) -> Coroutine[Any, Any, EventResponse]:
    return network.process_event(Event(**fields))


async def ask(network: AgentNetwork, fields: Fields) -> None:
    """And see that the answer is right."""
    response = await network.process_event(Event(**fields))
    check(fields, response.success, response.data)


async def warm_up(network: AgentNetwork, plan: Plan) -> None:
    await in_flight(lambda fields: ask(network, fields), (ping() for _ in range(plan.warm_up)), 8)


async def succeed(command: Coroutine[Any, Any, EventResponse]) -> EventResponse:
    response = await command
    assert response.success, response
    return response
