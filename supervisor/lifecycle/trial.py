"""A reloaded version on probation: how it fails or is accepted, and the way back.

- A version is on probation from the switch of a reload for the ``probation`` of its config.
- It fails when it ends, or when its share of failed events is clearly above that of the previous
  version (`has_failed`). Then the previous version serves again: its last incarnation, which rests
  until then, or a new one from its kept sources.
- Otherwise it is accepted: its sources replace the kept ones, and there is no way back.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ...ipc.manifest import Manifest
from ..calls import Caller
from ..config import ModConfig
from ..process import shielded
from .incarnation import Incarnation
from .kept_sources import KeptSources

logger = logging.getLogger("modvisor.keeper")

INTERVAL = 0.25
"""Seconds between two looks at how often the new version fails."""

LEAST = 10
"""Events that the new version must have finished before they prove anything."""

BEARABLE = 0.05
"""A share of failures that never makes a version fail, even if the previous one had none."""

_Z = 2.33  # one-sided 99 %


@dataclass(frozen=True, slots=True)
class Tally:
    """Finished events of a mod: ``total`` of them, of which the mod failed ``failed``."""

    total: int = 0
    failed: int = 0

    def since(self, earlier: Tally) -> Tally:
        return Tally(self.total - earlier.total, self.failed - earlier.failed)


@dataclass(slots=True, eq=False)
class Probation:
    """What it takes to go back, from the switch until the new version is accepted or reverted.

    Attributes:
        config, manifest: of the previous version; ``number``: of its last incarnation.
        resting: the last incarnation of the previous version; None if it could not be kept.
        state: the state that was handed over at the switch, and the version it is of.
        has_snapshot: the previous version can be started from its kept sources.
        before: events of the previous version while it served.
        until: loop time at which the probation ends.
        sources_kept: the sources of the new version are kept beside those of the previous one.
    """

    config: ModConfig
    manifest: Manifest | None
    number: int
    resting: Incarnation | None
    state: tuple[Any, str] | None
    has_snapshot: bool
    before: Tally
    until: float
    sources_kept: bool = False
    over: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def can_revert(self) -> bool:
        """Whether the previous version can serve again."""
        return self.has_snapshot or (self.resting is not None and self.resting.pipe.closed is None)

    @property
    def version(self) -> str | None:
        """The previous version."""
        return self.manifest.version if self.manifest is not None else None

    def take_resting(self) -> Incarnation | None:
        """Take the resting incarnation, which is to serve again; None if it has ended."""
        resting, self.resting = self.resting, None
        if resting is None or resting.pipe.closed is not None:
            return None
        resting.is_resting = False
        return resting


class Trial:
    """Watches over the version that a reload brought, until it is accepted or reverted.

    Args:
        caller: counts the events of the mod, and has its id and config.
        on_failure: called when the version fails too often; returns whether it is to be reverted.
        on_accepted: called when the version that serves is accepted.

    Attributes:
        probation: of the version that serves; None: that version is accepted.
    """

    def __init__(
        self,
        caller: Caller,
        kept: KeptSources,
        tasks: TaskGroup,
        on_failure: Callable[[Probation, str], bool],
        on_accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self.probation: Probation | None = None
        self._caller = caller
        self._kept = kept
        self._tasks = tasks
        self._on_failure = on_failure
        self._on_accepted = on_accepted
        self._loop = asyncio.get_running_loop()
        self._judging = anyio.Lock(fast_acquire=True)  # held while a probation ends
        self._at_switch = Tally()  # events up to the switch to the version that serves

    @property
    def can_revert(self) -> bool:
        """Whether a version is on probation and the previous one can serve again."""
        return self.probation is not None and self.probation.can_revert

    def tally(self) -> Tally:
        """Count the events of the version that serves."""
        return self._count().since(self._at_switch)

    def _count(self) -> Tally:
        counters = self._caller.counters
        return Tally(counters.answered + counters.passed + counters.errors, counters.errors)

    def begin(self, probation: Probation | None) -> None:
        """Count anew for the version that serves now, and watch it if it is on probation."""
        self._at_switch = self._count()
        if probation is not None:
            self.probation = probation
            self._tasks.start_soon(self._watch, probation, name=f"probation-{self._caller.mod_id}")

    async def _watch(self, probation: Probation) -> None:
        """Follow the new version until it is accepted or fails too often."""
        with probation.over:
            while (left := probation.until - self._loop.time()) > 0:
                await anyio.sleep(min(left, INTERVAL))
                why = has_failed(probation.before, self.tally())
                if why is not None and probation.can_revert and self._on_failure(probation, why):
                    return
            await self.end()

    async def settle(self, seconds: float | None) -> None:
        """End the probation so many seconds from now; None: at once."""
        if seconds is None:
            await self.end()
        elif self.probation is not None:
            self.probation.until = self._loop.time() + seconds

    async def end(self, deadline: float | None = None, *, wait: bool = True) -> None:
        """Accept the version that serves: there is no way back from here on.

        Args:
            deadline: loop time by which the resting incarnation must have ended.
            wait: return only when the resting incarnation has ended.
        """
        async with self._judging:
            probation, self.probation = self.probation, None
            if probation is None:
                return
            probation.over.cancel()
            # Begun before anything is awaited: a caller that gives up here must leave no process behind.
            ended = self._begin_to_end(probation.resting, deadline)
            await shielded(self._accept(probation))
            self._on_accepted()
        if wait:
            await shielded(ended.wait())

    def _begin_to_end(self, resting: Incarnation | None, deadline: float | None) -> anyio.Event:
        """End a resting incarnation in a task of its own. Returns what is set when it has ended."""
        ended = anyio.Event()
        if resting is None:
            ended.set()
            return ended
        if deadline is None:
            deadline = self._loop.time() + self._caller.config.limits.unload_timeout
        self._tasks.start_soon(self._end_resting, resting, deadline, ended, name=f"resting-{self._caller.mod_id}")
        return ended

    async def _accept(self, probation: Probation) -> None:
        if probation.sources_kept:
            await self._kept.accept(self._caller.mod_id)
        if probation.config.mod_id != self._caller.mod_id:
            await shielded(self._kept.forget(probation.config.mod_id))

    async def _end_resting(self, resting: Incarnation, deadline: float, ended: anyio.Event) -> None:
        try:
            await shielded(resting.stop(deadline))
        finally:
            ended.set()
        if resting.mod_id != self._caller.mod_id:  # its log is not the mod's any more
            resting.log.close()

    def give_up(self) -> None:
        """Stop watching the version on probation; what comes of it is decided elsewhere."""
        if self.probation is not None:
            self.probation.over.cancel()
            self.probation = None

    def note_revert(self) -> None:
        """Count a version that gave way to the previous one."""
        self._caller.counters.rollbacks += 1
        self._at_switch = self._count()


def has_failed(before: Tally, after: Tally) -> str | None:
    """Return why the new version is worse than the previous one; None if nothing proves it.

    The new version is worse when its true share of failures is, with 99 % certainty, above twice
    that of the previous version and above `BEARABLE`. The lower end of the Wilson interval is
    compared, so that a few events prove only a blatant failure.
    """
    if after.total < LEAST or not after.failed:
        return None
    share = before.failed / before.total if before.total else 0.0
    if _at_least(after) <= max(BEARABLE, 2 * share):
        return None
    return f"{after.failed} of {after.total} events failed; {before.failed} of {before.total} did before"


def _at_least(tally: Tally) -> float:
    """Return the lower end of the Wilson score interval of the share of failures."""
    n, p = tally.total, tally.failed / tally.total
    middle = p + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return (middle - spread) / (1 + _Z**2 / n)
