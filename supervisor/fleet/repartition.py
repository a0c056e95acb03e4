"""A mod is loaded with another number of workers than the network's former run had: what was kept of it is parted anew."""

from __future__ import annotations

from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.partition import LEAST_LOADED
from ..journal import Checkpoint, Journal
from ..lifecycle import StartFailed
from ..process import shielded
from .workers import WorkerGroup

PAGE = 1000  # events read at once


async def part_what_was_kept(replicas: WorkerGroup, journal: Journal) -> None:
    """Before the workers start: give each the events that were accepted for it, and its part of the state.

    Raises:
        StartFailed: the mod cannot merge and split its state. All is kept as it was.
        ModvisorError: the journal cannot be read.
    """
    await _part_states(replicas, journal)
    await _part_events(replicas, journal)


async def note_workers(replicas: WorkerGroup, journal: Journal) -> None:
    """Keep how many there are, for the next run."""
    if await _former_count(replicas.mod_id, journal) != len(replicas.keepers):
        await journal.save_checkpoint(_count_of(replicas.mod_id), "", len(replicas.keepers))


def forget_workers(mod_id: str, journal: Journal) -> None:
    """The mod is not what it was: nothing is to be parted when one of its id is loaded."""
    journal.drop_checkpoint(_count_of(mod_id))


def _count_of(mod_id: str) -> str:
    return f"{mod_id}#"


async def _former_count(mod_id: str, journal: Journal) -> int | None:
    kept = await journal.checkpoint(_count_of(mod_id))
    return kept.state if kept is not None and type(kept.state) is int else None


async def _part_events(replicas: WorkerGroup, journal: Journal) -> None:
    own = {keeper.mod_id for keeper in replicas.keepers}
    for kept_for in await journal.pending_counts():
        if kept_for.partition("#")[0] != replicas.mod_id:
            continue
        if kept_for in own and replicas.config.partition_by == LEAST_LOADED:
            continue
        after = 0
        while page := await journal.pending(kept_for, after, PAGE):
            for kept in page:
                after = kept.seq
                if (owner := replicas.keeper_of(kept.event).mod_id) != kept_for:
                    journal.reassign(kept.seq, owner)


async def _part_states(replicas: WorkerGroup, journal: Journal) -> None:
    former, count = await _former_count(replicas.mod_id, journal), len(replicas.keepers)
    if former is None or former == count:
        return
    ids = [f"{replicas.mod_id}#{index}" for index in range(max(former, count))]
    kept = [await journal.checkpoint(mod_id) for mod_id in ids[:former]]
    if any(kept):
        parts, version = await _parted(replicas, kept)
        for mod_id, part in zip(ids, parts, strict=False):
            if part is not None:
                await journal.save_checkpoint(mod_id, version, part)
    else:
        parts = []
    for index, mod_id in enumerate(ids):
        if index >= len(parts) or parts[index] is None:
            journal.drop_checkpoint(mod_id)


async def _parted(replicas: WorkerGroup, kept: list[Checkpoint | None]) -> tuple[list[Any], str]:
    """The states as the mod parts them: one of its workers is started for that, and ended."""
    mod_id, count = replicas.mod_id, len(replicas.keepers)
    version = next(checkpoint.version for checkpoint in kept if checkpoint is not None)
    states = [None if checkpoint is None else checkpoint.state for checkpoint in kept]
    worker = await replicas.keepers[0].start_incarnation()
    try:
        parts = await worker.part(states, version, count, worker.config.limits.start_timeout)
    except (ModvisorError, TimeoutError) as error:
        text = (
            f"mod {mod_id} had {len(kept)} workers when it last ran, and its state cannot be parted for {count}: {error}; "
            f"set 'workers: {len(kept)}', or unload it to forget its state"
        )
        raise StartFailed(text, code=Code.STATE_REFUSED) from None
    finally:
        await shielded(worker.kill("it was only asked to part the state"))
    return parts, version
