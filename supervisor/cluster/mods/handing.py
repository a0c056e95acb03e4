"""Hands a mod over to another node: waits for its events, and sends its state along."""

from __future__ import annotations

import asyncio
import logging

from ....ipc.errors import ModvisorError
from ....ipc.messages import pack, unpack
from ...fleet import WorkerGroup
from ...journal import Journal
from ...lifecycle import Keeper
from ..link.files import Files
from ..link.names import token

logger = logging.getLogger("modvisor.cluster")

Runs = Keeper | WorkerGroup
"""A mod that runs here."""


async def settle(mod: Runs) -> None:
    """Wait until a mod that gets no new events has answered all that it has, at most for its drain timeout.

    Events that wait for a slot are handled too: a sender that was promised a place keeps it.
    """
    try:
        async with asyncio.timeout(mod.config.limits.drain_timeout):
            while any(_has_work(keeper) for keeper in mod.keepers):  # noqa: ASYNC110 - several queues, and no one event
                await asyncio.sleep(0.002)
    except TimeoutError:
        logger.warning("mod %s: events that did not finish within its drain timeout are refused", mod.mod_id)


def _has_work(keeper: Keeper) -> bool:
    """Whether a keeper serves and has events that are not answered. Durable ones wait for the next node."""
    return keeper.incarnation is not None and bool(keeper.caller.in_flight_count or keeper.caller.depth)


class Luggage:
    """The states of mods on their way to another node.

    A mod leaves its state as a checkpoint, as at a reload, whether it keeps checkpoints or not. The next
    node reads it from where both keep them. Which workers keep none goes along: theirs are forgotten
    when they are there.
    """

    def __init__(self, files: Files, journal: Journal) -> None:
        self._files = files
        self._journal = journal

    @staticmethod
    def ask_for(mod: Runs) -> list[str]:
        """Have the workers of a mod leave their state at their end. Returns those that keep none otherwise."""
        not_kept = [keeper.mod_id for keeper in mod.keepers if not keeper.checkpoints.are_kept]
        for keeper in mod.keepers:
            keeper.checkpoints.are_kept = True
        return not_kept

    async def send(self, mod: Runs, not_kept: list[str]) -> None:
        """Say which workers keep no state otherwise."""
        try:
            await self._files.put(_name(mod.mod_id), pack(not_kept))
        except ModvisorError as error:
            logger.error("mod %s: the state that it leaves stays as a checkpoint: %s", mod.mod_id, error)

    async def take(self, mod_id: str, into: dict[str, list[str]]) -> None:
        """Learn which workers of a mod that has come here keep no state otherwise."""
        try:
            data = await self._files.get(_name(mod_id))
        except ModvisorError as error:
            logger.error("mod %s: the state that it takes along stays as a checkpoint: %s", mod_id, error)
        else:
            into[mod_id] = [] if data is None else unpack(data)

    async def unpacked(self, mod: Runs, not_kept: list[str]) -> None:
        """Forget the states that workers have taken which keep no checkpoints. The mod serves: it needs them no more."""
        for keeper in mod.keepers:
            if keeper.mod_id in not_kept:
                keeper.checkpoints.are_kept = keeper.config.checkpoint_every is not None
                self._journal.drop_checkpoint(keeper.mod_id)
        try:
            await self._files.drop(_name(mod.mod_id))
        except ModvisorError as error:
            logger.warning("mod %s: what was sent along with it stays until it moves again: %s", mod.mod_id, error)


def _name(mod_id: str) -> str:
    return f"handed.{token(mod_id)}"
