"""Reload and swap of a mod with several workers: one after the other, or all at once if their number changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ...ipc import messages
from ...ipc.errors import Code, ModvisorError
from ..config import ModConfig
from ..lifecycle import (
    Incarnation,
    Keeper,
    Reloaded,
    ReloadFailed,
    StartFailed,
    activate,
    failing_at,
    give,
    replace_worker,
    revert,
    version_of,
)
from ..process import shielded
from .workers import WorkerGroup, configs_of


async def rolling_reload(
    replicas: WorkerGroup, config: ModConfig, make: Callable[[ModConfig], Keeper], *, from_snapshot: bool = False
) -> Reloaded:
    """Replace the workers of ``replicas`` by fresh ones under ``config``; the old ones stay if anything fails.

    The caller holds the lock. With as many workers as before they are replaced one by one, each with its own state, and only
    the events of that one wait; when one cannot be, those before it are rolled back. With another number all are replaced at
    once, and their states merged and split by the mod.

    Args:
        make: a keeper for a worker.

    Returns:
        ``pause_ms`` is the longest pause, ``queued`` and ``state_bytes`` are sums.

    Raises:
        ReloadFailed: ``step`` and ``worker`` say where.
    """
    if config.workers != len(replicas.keepers):
        return await _reshape(replicas, config, make)
    done: list[Reloaded] = []
    for index, (keeper, own) in enumerate(zip(replicas.keepers, configs_of(config), strict=True)):
        try:
            done.append(
                await replace_worker(keeper, own, from_snapshot=from_snapshot, on_probation=True, tentative=True)
            )
        except BaseException as error:
            await shielded(_take_back(replicas.keepers[:index], f"worker {index} could not be reloaded: {error}"))
            if isinstance(error, ReloadFailed):
                error.details["worker"] = index
            raise
    replicas.adopt(config)
    for keeper in replicas.keepers:
        await keeper.trial.settle(None if from_snapshot else config.probation)
    return Reloaded(
        pause_ms=max(one.pause_ms for one in done),
        queued=sum(one.queued for one in done),
        state_bytes=sum(one.state_bytes for one in done),
        before=done[0].before,
        after=done[0].after,
        workers=len(done),
    )


async def _take_back(keepers: list[Keeper], why: str) -> None:
    for keeper in keepers:
        if keeper.probation is not None:
            await revert(keeper, keeper.probation, why)


async def _reshape(replicas: WorkerGroup, config: ModConfig, make: Callable[[ModConfig], Keeper]) -> Reloaded:
    former, limits = replicas.manifest, config.limits
    keepers = [make(own) for own in configs_of(config)]
    new: list[Incarnation] = []
    try:
        try:
            for keeper in keepers:
                new.append(await keeper.start_incarnation())
        except StartFailed as error:
            raise ReloadFailed.at_start(error) from None
        began = perf_counter()
        try:
            await _settle(replicas, limits.drain_timeout)
            parts, version = await _part_anew(replicas, new, limits.start_timeout)
            for incarnation in new:
                await activate(incarnation)
            for keeper, incarnation in zip(keepers, new, strict=True):
                keeper.serve(incarnation)
            superseded = replicas.become(config, keepers)
            if any(keeper.checkpoints.are_kept for keeper in superseded):  # the former ones are of other parts
                for keeper, part in zip(keepers, parts, strict=True):
                    keeper.checkpoints.keep_soon(part, version)
        finally:
            queued = replicas.reopen()
    except BaseException:
        for keeper, incarnation in zip(keepers, new, strict=False):
            await shielded(incarnation.kill("the reload failed"))
            keeper.close_log()
        raise
    pause = round((perf_counter() - began) * 1000, 3)
    await shielded(_end(superseded))
    for keeper, incarnation in zip(keepers, new, strict=True):
        await keeper.keep_sources(incarnation)
    size = sum(len(messages.pack(part)) for part in parts if part is not None)
    return Reloaded(pause, queued, size, version_of(former), version_of(replicas.manifest), workers=len(keepers))


async def _settle(replicas: WorkerGroup, seconds: float) -> None:
    try:
        await replicas.settle(seconds)
    except TimeoutError:
        raise ReloadFailed("events in flight did not finish in time", code=Code.TIMEOUT, step="drain") from None


async def _part_anew(replicas: WorkerGroup, new: list[Incarnation], timeout: float) -> tuple[list[Any], str]:
    """The states of the former workers, merged and split for the new ones; returns these, and the version they are of."""
    states: list[Any] = []
    version = ""
    with failing_at("get_state", timeout):
        for keeper in replicas.keepers:
            if keeper.incarnation is None:
                raise ModvisorError(f"worker {keeper.mod_id} is away, and its state with it", code=Code.MOD_AWAY)
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
