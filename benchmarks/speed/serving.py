"""Run a network of ours as `modvisor run` does. Public names only, so it measures any checkout."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from modvisor.supervisor import AgentNetwork, Event

from .networks import Asked
from .plan import Plan
from .timing import Figures

T = TypeVar("T")

FOLDER = Path(__file__).parent  # the one with mods/
UNPOLLED = {"polling": "off"}
YOUNG = 10_000  # as `modvisor run` sets the garbage collector


@dataclass(frozen=True, slots=True)
class Scene:
    """Where one part is measured.

    Attributes:
        folder: an empty folder for this part alone.
        notes: what a reader of the figures must know.
    """

    plan: Plan
    folder: Path
    notes: list[str] = field(default_factory=list)

    def beside(self, name: str) -> Scene:
        """Return the scene of a second network of the same part."""
        folder = self.folder / name
        folder.mkdir()
        return Scene(self.plan, folder, self.notes)


Part = Callable[[Scene], Awaitable[Figures]]


@asynccontextmanager
async def serving(
    scene: Scene, *mods: Any, network: dict[str, Any] | None = None, base_dir: Path = FOLDER, **keys: Any
) -> AsyncIterator[Asked]:
    """Run a network with these mods and other keys, in a process set up as by `modvisor run`."""
    own = {"name": "speed", "storage": str(scene.folder / "state"), **(network or {})}
    config = {"network": own, "mods": list(mods), **keys}
    async with AgentNetwork.from_config(config, base_dir=base_dir) as running:
        failed = [mod_id for mod_id, mod in running.get_loaded_mods().items() if mod["state"] != "ready"]
        assert not failed, f"not ready: {failed}"
        thresholds = gc.get_threshold()
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, *thresholds[1:])
        try:
            yield Asked(running, Event, scene.plan)
        finally:
            gc.set_threshold(*thresholds)
            gc.unfreeze()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed."""
    loop = import_module("uvloop").new_event_loop if find_spec("uvloop") is not None else None
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)
