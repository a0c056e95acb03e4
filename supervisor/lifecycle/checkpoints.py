"""Checkpoints of one mod: states in the journal, which its next incarnation goes on from."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from anyio.abc import TaskGroup

from ...ipc import messages
from ...ipc.errors import ModvisorError
from ..calls import CheckpointStore
from ..journal import Checkpoint
from ..process import shielded
from .incarnation import Incarnation, StartFailed

logger = logging.getLogger("modvisor.checkpoints")


class Checkpoints:
    """Writes, reads and restores the checkpoint of one mod. Only the newest one is kept.

    Attributes:
        are_kept: whether the mod has a checkpoint, or will have one. Then the state that is handed
            over at a reload becomes a checkpoint, too.
    """

    def __init__(self, mod_id: str, journal: CheckpointStore, tasks: TaskGroup, *, are_kept: bool) -> None:
        self.mod_id = mod_id
        self.are_kept = are_kept
        self._journal = journal
        self._tasks = tasks

    async def newest(self) -> Checkpoint | None:
        """Read the newest checkpoint; None if there is none. Raises `ModvisorError`."""
        checkpoint = await self._journal.checkpoint(self.mod_id)
        self.are_kept = self.are_kept or checkpoint is not None
        return checkpoint

    async def newest_or(self, fallback: tuple[Any, str] | None) -> tuple[Any, str] | None:
        """Return the state of the newest checkpoint and its version.

        ``fallback`` if there is none, or it is unreadable.
        """
        try:
            checkpoint = await self.newest()
        except ModvisorError as error:
            text = "mod %s: its checkpoint cannot be read, it goes on as it was at the switch: %s"
            logger.warning(text, self.mod_id, error)
            checkpoint = None
        return fallback if checkpoint is None else (checkpoint.state, checkpoint.version)

    async def keep(self, state: Any, version: str) -> None:
        """Write a state of version ``version`` as the checkpoint. Raises `ModvisorError`."""
        await self._journal.save_checkpoint(self.mod_id, version, state)
        self.are_kept = True

    def keep_soon(self, state: Any, version: str) -> None:
        """`keep` in a task of its own. A state of None drops the checkpoint."""
        self._tasks.start_soon(self._keep_handed_over, state, version)

    async def _keep_handed_over(self, state: Any, version: str) -> None:
        if state is None:
            self._journal.drop_checkpoint(self.mod_id)
            return
        try:
            await self.keep(state, version)
        except ModvisorError as error:
            logger.warning("mod %s: the state it took over could not be kept as a checkpoint: %s", self.mod_id, error)

    async def keep_last(self, incarnation: Incarnation, deadline: float) -> None:
        """Ask a mod that is about to end for its state, and keep it; until ``deadline``."""
        try:
            left = deadline - asyncio.get_running_loop().time()
            answer = await incarnation.pipe.request(messages.GET_STATE, {}, left)
            if answer["state"] is not None:  # None: the mod writes its checkpoints itself, and the last one stands
                await self.keep(answer["state"], str(answer["version"]))
        except (ModvisorError, TimeoutError, KeyError, TypeError) as error:
            logger.warning("mod %s: its state at the end could not be kept, the last checkpoint stands: %s",
                           self.mod_id, error)  # fmt: skip

    async def restore(self, incarnation: Incarnation) -> None:
        """Give the newest checkpoint to ``incarnation``.

        Raises `StartFailed`; no process is left then.
        """
        try:
            if (checkpoint := await self._read_for(incarnation)) is not None:
                timeout = incarnation.config.limits.start_timeout
                await incarnation.restore(checkpoint.state, checkpoint.version, timeout)
        except BaseException as error:
            await shielded(incarnation.kill("it did not take over its checkpoint"))
            if isinstance(error, ModvisorError) and not isinstance(error, StartFailed):
                text = f"mod {incarnation.mod_id}: its checkpoint cannot be read: {error}"
                raise StartFailed(text, code=error.code) from None
            raise

    async def _read_for(self, incarnation: Incarnation) -> Checkpoint | None:
        """Read the newest checkpoint, which may take seconds in a cluster: no longer than the worker lives."""
        reading = asyncio.ensure_future(self.newest())
        try:
            await asyncio.wait([reading, incarnation.process.exited], return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise StartFailed(f"mod {incarnation.mod_id}: the worker ended while its checkpoint was read")
            return reading.result()
        finally:
            reading.cancel()
