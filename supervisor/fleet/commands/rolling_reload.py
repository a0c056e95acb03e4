"""Reload and swap of a mod with several workers.

With as many workers as before they are replaced one after the other, each with its own state, and
only the events of that worker wait. With another number all are replaced at once: their events
wait, and the mod merges and splits their states.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ....ipc import messages
from ....ipc.errors import Code, ModvisorError
from ...config import ModConfig
from ...lifecycle import (
    Incarnation,
    Keeper,
    Reloaded,
    ReloadFailed,
    StartFailed,
    activate,
    failing_at,
    give,
    replace_worker,
    rest,
    resume,
    revert,
    version_of,
)
from ...process import shielded
from ...progress import tell
from ..mods.workers import WorkerGroup, configs_of


async def rolling_reload(
    group: WorkerGroup, config: ModConfig, make: Callable[[ModConfig], Keeper], *, from_snapshot: bool = False
) -> Reloaded:
    """Replace the workers of a mod by fresh ones under ``config``.

    The old ones stay if anything fails.

    The caller holds the lock. When a worker cannot be replaced, the workers before it are reverted.

    Args:
        make: makes the keeper of a worker.

    Returns:
        ``pause_ms`` is the longest pause, ``queued`` and ``state_bytes`` are sums.

    Raises:
        ReloadFailed: ``step`` and ``worker`` (its index) say where.
    """
    if config.workers != len(group.keepers):
        return await _reshape(group, config, make)
    done: list[Reloaded] = []
    for index, (keeper, own) in enumerate(zip(group.keepers, configs_of(config), strict=True)):
        tell(f"worker {index + 1} of {len(group.keepers)}", index, len(group.keepers))
        try:
            done.append(
                await replace_worker(keeper, own, from_snapshot=from_snapshot, on_probation=True, tentative=True)
            )
        except BaseException as error:
            await shielded(_revert(group.keepers[:index], f"worker {index} could not be reloaded: {error}"))
            if isinstance(error, ReloadFailed):
                error.details["worker"] = index
            raise
    group.adopt(config)
    for keeper in group.keepers:
        await keeper.trial.settle(None if from_snapshot else config.probation)
    return Reloaded(
        pause_ms=max(one.pause_ms for one in done),
        queued=sum(one.queued for one in done),
        state_bytes=sum(one.state_bytes for one in done),
        before=done[0].before,
        after=done[0].after,
        workers=len(done),
    )


async def _revert(keepers: list[Keeper], why: str) -> None:
    for keeper in keepers:
        if keeper.probation is not None:
            await revert(keeper, keeper.probation, why)


async def _reshape(group: WorkerGroup, config: ModConfig, make: Callable[[ModConfig], Keeper]) -> Reloaded:
    """Replace all workers at once by another number of workers."""
    before, limits = group.manifest, config.limits
    keepers = [make(own) for own in configs_of(config)]
    new: list[Incarnation] = []
    resting: list[Incarnation] = []
    began, queued = perf_counter(), 0
    try:
        try:
            for index, keeper in enumerate(keepers):
                tell(f"starting worker {index + 1} of {len(keepers)}", index, len(keepers))
                new.append(await keeper.start_incarnation())
        except StartFailed as error:
            raise ReloadFailed.at_start(error) from None
        began = perf_counter()
        tell("handing over")
        await _settle(group, limits.drain_timeout)
        parts, version = await _split_states(group, new, limits.start_timeout)
        await _rest(group, resting, limits.start_timeout)
        for incarnation in new:
            await activate(incarnation, is_free=len(resting) == len(group.keepers))
        for keeper, incarnation in zip(keepers, new, strict=True):
            keeper.serve(incarnation)
        superseded = group.become(config, keepers)
        if any(keeper.checkpoints.are_kept for keeper in superseded):  # the old checkpoints hold other parts
            for keeper, part in zip(keepers, parts, strict=True):
                keeper.checkpoints.keep_soon(part, version)
    except BaseException:
        await shielded(_undo(keepers, new, resting, limits.start_timeout))
        raise
    finally:
        queued = group.reopen()
    pause = round((perf_counter() - began) * 1000, 3)
    await shielded(_end(superseded))
    for keeper, incarnation in zip(keepers, new, strict=True):
        await keeper.keep_sources(incarnation)
    size = sum(len(messages.pack(part)) for part in parts if part is not None)
    return Reloaded(pause, queued, size, version_of(before), version_of(group.manifest), workers=len(keepers))


async def _undo(keepers: list[Keeper], new: list[Incarnation], resting: list[Incarnation], timeout: float) -> None:
    """End the new incarnations, and let the old ones go on. A caller that gives up again must not stop this half way."""
    for keeper, incarnation in zip(keepers, new, strict=False):
        await incarnation.kill("the reload failed")
        keeper.close_log()
    for old in resting:
        await resume(old, timeout)


async def _rest(group: WorkerGroup, resting: list[Incarnation], timeout: float) -> None:
    """Deactivate the workers that can be activated again, and add them to ``resting``."""
    for keeper in group.keepers:
        if keeper.incarnation is not None and await rest(keeper.incarnation, timeout):
            resting.append(keeper.incarnation)


async def _settle(group: WorkerGroup, seconds: float) -> None:
    try:
        await group.settle(seconds)
    except TimeoutError:
        raise ReloadFailed("events in flight did not finish in time", code=Code.TIMEOUT, step="drain") from None


async def _split_states(group: WorkerGroup, new: list[Incarnation], timeout: float) -> tuple[list[Any], str]:
    """Give the states of the old workers, merged and split, to the new ones.

    Returns the parts and their version."""
    states: list[Any] = []
    version = ""
    with failing_at("get_state", timeout):
        for keeper in group.keepers:
            if keeper.incarnation is None:
                raise ModvisorError(f"worker {keeper.mod_id} is away, so its state is missing", code=Code.MOD_AWAY)
            handed = await keeper.incarnation.pipe.request(messages.GET_STATE, {}, timeout)
            state, version = handed["state"], str(handed["version"])
            if state is None and (checkpoint := await keeper.checkpoints.newest()) is not None:
                state = checkpoint.state
            states.append(state)
    if all(state is None for state in states):
        return [None] * len(new), version
    with failing_at("split_state", timeout):
        parts = await new[0].part(states, version, len(new), timeout)
    for incarnation, part in zip(new, parts, strict=True):
        await give(incarnation, None if part is None else (part, version))
    return parts, version


async def _end(keepers: list[Keeper]) -> None:
    await asyncio.gather(*(keeper.unload() for keeper in keepers))
