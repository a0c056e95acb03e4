"""Acts on mods without a command: replaces a worker that uses much memory, reverts a version that fails.

The worker's keeper notices and asks. What follows runs in a task of its own, and holds the mod's
lock like any command.
"""

from __future__ import annotations

import asyncio
import logging

from anyio.abc import TaskGroup

from ...lifecycle import Keeper, Probation, ReloadFailed, replace_worker, revert
from ..mods.workers import WorkerGroup
from ..registry.registry import ModRegistry
from .commands import cancellable
from .restored import ModRecords

logger = logging.getLogger("modvisor.registry")

RECYCLE_INTERVAL = 10.0
"""Seconds between two replacements of a worker for its use of memory.

A fresh process does not help a mod that needs as much from the start."""


class ModUpkeep:
    """Recycles and reverts the workers of a network; see `registry.Upkeep`."""

    def __init__(self, mods: ModRegistry, records: ModRecords, tasks: TaskGroup) -> None:
        self._mods = mods
        self._records = records
        self._tasks = tasks

    def recycle(self, keeper: Keeper, reason: str) -> None:
        """Replace a worker by a fresh process, unless it is being replaced or was a moment ago."""
        is_busy = self._mods.is_closing or self._mods.mod_of(keeper).lock.statistics().locked
        now = asyncio.get_running_loop().time()
        if not is_busy and now - keeper.recycled_at >= RECYCLE_INTERVAL:
            keeper.recycled_at = now
            self._tasks.start_soon(self._recycle, keeper, reason, name=f"recycle-{keeper.mod_id}")

    async def _recycle(self, keeper: Keeper, reason: str) -> None:
        """Start a process of the same version and hand the state over.

        The old one stays if that fails."""
        mod = self._mods.mod_of(keeper)
        async with mod.lock:
            if self._mods.is_closing or keeper.incarnation is None:
                return
            with cancellable(mod):
                try:
                    done = await replace_worker(keeper, keeper.config, from_snapshot=True, on_probation=False)
                except ReloadFailed as error:
                    text = "mod %s (%s) could not be replaced by a fresh process: %s"
                    logger.warning(text, keeper.mod_id, reason, error)
                else:
                    keeper.counters.recycled += 1
                    text = "mod %s was replaced by a fresh process (%s): %.1f ms pause"
                    logger.info(text, keeper.mod_id, reason, done.pause_ms)

    def revert(self, keeper: Keeper, probation: Probation, why: str) -> None:
        """Put the previous version back, because the one on probation fails too often."""
        self._tasks.start_soon(self._revert, keeper, probation, why, name=f"revert-{keeper.mod_id}")

    async def _revert(self, keeper: Keeper, probation: Probation, why: str) -> None:
        mod = self._mods.mod_of(keeper)
        async with mod.lock:
            if self._mods.is_closing or keeper.probation is not probation:  # another command has ended it
                return
            with cancellable(mod):
                await revert(keeper, probation, why)

    def reverted(self, keeper: Keeper, what: str) -> None:
        """Revert the other workers of the mod too, and remember the version for the next run."""
        logger.error("mod %s: %s", keeper.mod_id, what)
        mod = self._mods.mod_of(keeper)
        if isinstance(mod, WorkerGroup):  # all its workers run one version
            mod.go_back()
            self._mods.changed()
            for other in mod.keepers:
                if other.probation is not None:
                    self.revert(other, other.probation, f"worker {keeper.mod_id} has failed")
        self._tasks.start_soon(self._records.remember_soon, mod, name=f"remember-{keeper.mod_id}")
