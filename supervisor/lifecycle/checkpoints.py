"""The states that one mod leaves for its next incarnation, in the journal."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from anyio.abc import TaskGroup

from ...ipc import messages
from ...ipc.errors import ModvisorError
from ..journal import Checkpoint, Journal
from ..process import shielded
from .incarnation import Incarnation, StartFailed

logger = logging.getLogger("modvisor.checkpoints")


class Checkpoints:
    """Of one mod; the newest one counts.

    Attributes:
        are_kept: whether the mod has any, or will: then what is handed over at a reload is one too.
    """

    def __init__(self, mod_id: str, journal: Journal, tasks: TaskGroup, *, are_kept: bool) -> None:
        self.mod_id = mod_id
        self.are_kept = are_kept
        self._journal = journal
        self._tasks = tasks

    async def newest(self) -> Checkpoint | None:
        """Raises `ModvisorError` when it cannot be read."""
        checkpoint = await self._journal.checkpoint(self.mod_id)
        self.are_kept = self.are_kept or checkpoint is not None
        return checkpoint

    async def keep(self, state: Any, version: str) -> None:
        """Keep one of version ``version`` of the mod; raises `ModvisorError` when that cannot be done."""
        await self._journal.save_checkpoint(self.mod_id, version, state)
        self.are_kept = True

    def keep_soon(self, state: Any, version: str) -> None:
        """`keep`, which nobody waits for. Of None, nothing is kept, nor what was before."""
        self._tasks.start_soon(self._keep_handed_over, state, version)

    async def _keep_handed_over(self, state: Any, version: str) -> None:
        if state is None:
            self._journal.drop_checkpoint(self.mod_id)
            return
        try:
            await self.keep(state, version)
        except ModvisorError as error:
            logger.warning("mod %s: the state it took over is no checkpoint: %s", self.mod_id, error)

    async def keep_last(self, incarnation: Incarnation, deadline: float) -> None:
        """Keep what a mod that is about to end says of itself, until loop time ``deadline``."""
        try:
            left = deadline - asyncio.get_running_loop().time()
            answer = await incarnation.pipe.request(messages.GET_STATE, {}, left)
            if answer["state"] is not None:  # a mod that keeps its checkpoints itself: the last one stands
                await self.keep(answer["state"], str(answer["version"]))
        except (ModvisorError, TimeoutError, KeyError, TypeError) as error:
            logger.warning("mod %s: its state at the end could not be kept, the last checkpoint stands: %s",
                           self.mod_id, error)  # fmt: skip

    async def restore(self, incarnation: Incarnation) -> None:
        """Give the newest one to ``incarnation``; raises `StartFailed`, and nothing is left of it then."""
        try:
            if (checkpoint := await self.newest()) is not None:
                timeout = incarnation.config.limits.start_timeout
                await incarnation.restore(checkpoint.state, checkpoint.version, timeout)
        except BaseException as error:
            await shielded(incarnation.kill("it did not take over its checkpoint"))
            if isinstance(error, ModvisorError) and not isinstance(error, StartFailed):
                text = f"mod {incarnation.mod_id}: its checkpoint cannot be read: {error}"
                raise StartFailed(text, code=error.code) from None
            raise
