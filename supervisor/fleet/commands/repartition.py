"""Splits what was kept of a mod anew when it is loaded with another number of workers.

The journal keeps how many workers a mod had. If the number differs at the next load, the accepted
events go to the workers that they belong to now, and the mod splits its state.
"""

from __future__ import annotations

import logging
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ....ipc.partition import LEAST_LOADED
from ...journal import Checkpoint, Journal
from ...lifecycle import StartFailed, State
from ...process import shielded
from ..mods.workers import WorkerGroup

logger = logging.getLogger("modvisor.registry")

PAGE = 1000  # events read at once


async def repartition(group: WorkerGroup, journal: Journal) -> None:
    """Give each worker its accepted events and its part of the state, before the workers start.

    Raises:
        StartFailed: the mod cannot merge and split its state, or the journal cannot be read. Everything
            stays as it was kept.
    """
    try:
        await _split_state(group, journal)
        await _reassign_events(group, journal)
    except ModvisorError as error:
        for worker in group.keepers:
            if worker.state is State.STARTING:
                worker.not_started(str(error))
        if isinstance(error, StartFailed):
            raise
        text = f"mod {group.mod_id}: what its workers have kept cannot be read: {error}"
        raise StartFailed(text, code=error.code) from None


async def keep_count(group: WorkerGroup, journal: Journal) -> None:
    """Keep the number of workers for the next load. The mod serves already, so a failure is only logged."""
    try:
        if await _kept_count(group.mod_id, journal) != len(group.keepers):
            await journal.save_checkpoint(_count_of(group.mod_id), "", len(group.keepers))
    except ModvisorError as error:
        logger.error("mod %s: how many workers it has could not be kept: %s", group.mod_id, error)


def hand_on_count(former: str, mod_id: str, journal: Journal) -> None:
    """Give the worker count to the mod that took the place of ``former``."""
    journal.hand_on(_count_of(former), _count_of(mod_id))


def _count_of(mod_id: str) -> str:
    return f"{mod_id}#"


async def _kept_count(mod_id: str, journal: Journal) -> int | None:
    kept = await journal.checkpoint(_count_of(mod_id))
    return kept.state if kept is not None and type(kept.state) is int else None


async def _reassign_events(group: WorkerGroup, journal: Journal) -> None:
    workers = {worker.mod_id for worker in group.keepers}
    for kept_for in await journal.pending_counts():
        if kept_for.partition("#")[0] != group.mod_id:
            continue
        if kept_for in workers and group.config.partition_by == LEAST_LOADED:
            continue
        after = 0
        while page := await journal.pending(kept_for, after, PAGE):
            for kept in page:
                after = kept.seq
                if (owner := group.keeper_of(kept.event).mod_id) != kept_for:
                    journal.reassign(kept.seq, owner)


async def _split_state(group: WorkerGroup, journal: Journal) -> None:
    before, count = await _kept_count(group.mod_id, journal), len(group.keepers)
    if before is None or before == count:
        return
    ids = [f"{group.mod_id}#{index}" for index in range(max(before, count))]
    kept = [await journal.checkpoint(mod_id) for mod_id in ids[:before]]
    parts: list[Any] = []
    if any(kept):
        parts, version = await _parts_of(group, kept)
        for mod_id, part in zip(ids, parts, strict=False):
            if part is not None:
                await journal.save_checkpoint(mod_id, version, part)
    for index, mod_id in enumerate(ids):
        if index >= len(parts) or parts[index] is None:
            journal.drop_checkpoint(mod_id)


async def _parts_of(group: WorkerGroup, kept: list[Checkpoint | None]) -> tuple[list[Any], str]:
    """Have a worker of the mod split the states, and end it again.

    Returns the parts and their version."""
    mod_id, count = group.mod_id, len(group.keepers)
    version = next(checkpoint.version for checkpoint in kept if checkpoint is not None)
    states = [None if checkpoint is None else checkpoint.state for checkpoint in kept]
    worker = await group.keepers[0].start_incarnation()
    try:
        parts = await worker.part(states, version, count, worker.config.limits.start_timeout)
    except (ModvisorError, TimeoutError) as error:
        text = (
            f"mod {mod_id} had {len(kept)} workers when it last ran, and cannot split its state for {count}: {error}; "
            f"set 'workers: {len(kept)}', or unload it to forget its state"
        )
        raise StartFailed(text, code=Code.STATE_REFUSED) from None
    finally:
        await shielded(worker.kill("it was only asked to split the state"))
    return parts, version
