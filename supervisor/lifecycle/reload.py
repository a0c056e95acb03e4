"""Reload, restart and swap of one worker: a fresh incarnation takes the place of the old one.

The story, top to bottom. Events in flight finish on the old incarnation, within its
`drain_timeout`, or the reload fails. New events wait from the drain to the switch. None is lost.

1. Start the new incarnation beside the old one (`replace_worker`).
2. Drain the old one, hand its state over, let it rest, activate the new one (`_switch`).
3. Switch: the new one serves, perhaps on probation (`_take_over`). Keep its sources, end the old one.
4. If anything fails before the switch, the old one goes on.

A mod that cannot run twice stops first (`_stop_first`) and comes back from its kept sources if its
successor fails. A mod that is down is started instead (`_start_again`). A version that fails on
probation gives way to the previous one in the same way (`revert`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, replace
from time import perf_counter

from ...ipc.errors import Code, ModvisorError
from ...ipc.manifest import Manifest
from ..config import STOP_FIRST, ModConfig
from ..process import shielded
from ..progress import tell_step
from .handover import (
    Handed,
    Reloaded,
    ReloadFailed,
    activate,
    beside,
    failing_at,
    give,
    rest,
    resume,
    size_of,
    state_of,
    version_of,
)
from .incarnation import Incarnation, StartFailed
from .keeper import Keeper
from .states import COMING_BACK, State, Trigger
from .trial import Probation

logger = logging.getLogger("modvisor.swap")

# -- the whole


async def replace_worker(
    keeper: Keeper,
    config: ModConfig,
    *,
    from_snapshot: bool = False,
    on_probation: bool = True,
    tentative: bool = False,
) -> Reloaded:
    """Replace the running incarnation of ``keeper`` by one with fresh code under ``config``.

    The caller holds the keeper's lock. A mod that is down is started instead. So is a mod that is
    about to be restarted; if that fails, its restart goes on.

    Args:
        config: of the same mod (a reload), or of another one (a swap).
        from_snapshot: run the last good version instead of the working files (a restart).
        on_probation: go back to the previous version if the new one fails within its probation.
        tentative: keep the way back until `Trial.settle`, whatever the config says.

    Raises:
        ReloadFailed: at any step before the switch.
    """
    async with keeper.beside.held(config.limits.drain_timeout):
        return await _replaced(
            keeper, config, from_snapshot=from_snapshot, on_probation=on_probation, tentative=tentative
        )


async def _replaced(
    keeper: Keeper, config: ModConfig, *, from_snapshot: bool, on_probation: bool, tentative: bool
) -> Reloaded:
    if from_snapshot or keeper.incarnation is None:
        await keeper.trial.end()
    if keeper.incarnation is None:
        await keeper.stop_keeping()
        if keeper.incarnation is None:
            return await _start_again(keeper, config, from_snapshot)
        keeper.follow()  # a restart came through meanwhile
    old = keeper.incarnation
    from_snapshot = from_snapshot and keeper.kept.has_snapshot
    if STOP_FIRST in (keeper.config.reload, config.reload):
        await keeper.trial.end()
        return await _stop_first(keeper, old, config, from_snapshot=from_snapshot)
    new = await _started(keeper, config, from_snapshot)
    try:
        _check_still(keeper, old)  # a version on probation may have failed meanwhile
        await keeper.trial.end(wait=False)
    except BaseException:
        await shielded(new.kill("the reload failed"))
        raise
    probation = math.inf if tentative else new.config.probation if on_probation else None
    return await _replace(keeper, old, new, probation=probation)


async def revert(keeper: Keeper, probation: Probation, why: str) -> None:
    """Replace the version on probation by the previous one.

    On failure the version on probation keeps serving.
    The caller holds the keeper's lock.
    """
    failed, number = keeper.mod_id, keeper.serving
    try:
        async with keeper.beside.held(probation.config.limits.drain_timeout):
            done = await _to_previous(keeper, probation)
    except ReloadFailed as error:
        logger.error("mod %s could not be rolled back (%s), the new version stays: %s", failed, why, error)
        if keeper.probation is probation:
            await keeper.trial.end()
    else:
        keeper.note_revert(done.before, number, probation, why)


async def _to_previous(keeper: Keeper, probation: Probation) -> Reloaded:
    """Raises `ReloadFailed`."""
    current, previous = keeper.incarnation, keeper.take_resting(probation)
    try:
        if current is None:
            raise ReloadFailed("it has ended meanwhile", code=Code.MOD_CRASHED, step="start")
        if previous is None:
            previous = await keeper.start_incarnation(config=probation.config, from_snapshot=probation.has_snapshot)
    except StartFailed as error:
        raise ReloadFailed.at("start", error) from None
    except BaseException:
        if previous is not None:
            await shielded(previous.kill("it is not needed any more"))
        raise
    return await _replace(keeper, current, previous, probation=None, fallback=probation.state)


# -- a mod that is down


async def _start_again(keeper: Keeper, config: ModConfig, from_snapshot: bool) -> Reloaded:
    """Start a mod that has no incarnation and no restart under way."""
    before, previous = version_of(keeper.manifest), keeper.config
    try:
        if keeper.state in COMING_BACK:
            manifest = await _start_instead(keeper, config, from_snapshot)
        else:
            keeper.adopt(config)
            manifest = await keeper.start(from_snapshot=from_snapshot)
    except BaseException as error:
        if keeper.incarnation is None:  # as after any reload or swap that failed
            keeper.be_again(previous)
        if isinstance(error, StartFailed):
            raise ReloadFailed.at_start(error) from None
        raise
    return Reloaded.from_down(before, manifest.version)


async def _start_instead(keeper: Keeper, config: ModConfig, from_snapshot: bool) -> Manifest:
    """Start a mod in place of its restart, which goes on if this fails. Raises `StartFailed`."""
    began = perf_counter()
    from_snapshot = from_snapshot and keeper.kept.has_snapshot
    try:
        new = await keeper.start_incarnation(config=config, from_snapshot=from_snapshot, restore=True, active=True)
    except BaseException:
        keeper.follow()
        raise
    _switch_to(keeper, new, None)
    return await keeper.note_start(new, began)


# -- the new one beside the old one


async def _started(keeper: Keeper, config: ModConfig, from_snapshot: bool) -> Incarnation:
    """Raises `ReloadFailed`."""
    tell_step("starting the new process")
    try:
        return await keeper.start_incarnation(config=config, from_snapshot=from_snapshot)
    except StartFailed as error:
        raise ReloadFailed.at_start(error if keeper.incarnation is None else beside(error)) from None


async def _replace(
    keeper: Keeper, old: Incarnation, new: Incarnation, *, probation: float | None, fallback: Handed | None = None
) -> Reloaded:
    """Switch from ``old`` to ``new`` and end ``old``; ``new`` ends if the switch fails."""
    previous_id = keeper.mod_id
    try:
        switched = await _switch(keeper, old, new, probation=probation, fallback=fallback)
    except BaseException:
        if keeper.incarnation is not new:
            await shielded(new.kill("the reload failed"))
        elif not old.is_resting:  # the caller gave up just as the switch was made
            await _end([old], new.config)
        raise
    # The new incarnation serves: nothing that happens from here on undoes that.
    try:
        await keeper.keep_sources(new)
        if keeper.probation is None and previous_id != keeper.mod_id:
            await keeper.kept.forget(previous_id)
    finally:
        await _end(switched.superseded, new.config)
    return switched.to_reloaded(old, new)


@dataclass(frozen=True, slots=True)
class _Switched:
    """A switch that was made. ``superseded``: incarnations that are still to be ended."""

    pause_ms: float
    queued: int
    state: Handed | None
    superseded: list[Incarnation]

    def to_reloaded(self, old: Incarnation, new: Incarnation) -> Reloaded:
        return Reloaded(
            self.pause_ms, self.queued, size_of(self.state), version_of(old.manifest), version_of(new.manifest)
        )


async def _switch(
    keeper: Keeper, old: Incarnation, new: Incarnation, *, probation: float | None, fallback: Handed | None
) -> _Switched:
    limits = new.config.limits
    began = perf_counter()
    _check_still(keeper, old)  # before events are held, else the events of its successor would be
    keeper.caller.hold()
    rests = False
    try:
        await _drain(keeper, old, limits.drain_timeout)
        state = await _state_to_keep(keeper, old, limits.start_timeout, fallback)
        await give(new, state)
        rests = await rest(old, limits.start_timeout)
        await activate(new, is_free=rests)
        _check_still(keeper, old)
        queued = keeper.caller.depth
        superseded = await shielded(_take_over(keeper, new, state, probation=probation, rests=rests))
    except BaseException:
        if rests and _still_serves(keeper, old):
            await shielded(resume(old, limits.start_timeout))
        _reopen(keeper, old)
        raise
    return _Switched(_milliseconds_since(began), queued, state, superseded)


async def _take_over(
    keeper: Keeper, new: Incarnation, state: Handed | None, *, probation: float | None, rests: bool
) -> list[Incarnation]:
    """Make the switch: ``new`` serves from here on. Shield it, it must not be interrupted.

    Args:
        state: what was handed over.
        probation: seconds of the probation; None: the new version is accepted at once.
        rests: the old incarnation was deactivated and can be activated again.

    Returns:
        the incarnations that the caller must end.
    """
    old = await keeper.let_go()
    way_back = _probation_of(keeper, new, old if rests else None, state, probation)
    keeper.trial.give_up()
    _switch_to(keeper, new, state)
    keeper.trial.begin(way_back)
    keeper.copies.release()
    return [] if old is None or old.is_resting else [old]


def _switch_to(keeper: Keeper, new: Incarnation, state: Handed | None) -> None:
    keeper.adopt(new.config, new.log)
    keeper.kept.has_snapshot = False  # a restart reads the working files until the new sources are kept
    state = new.early_checkpoint or (state if keeper.checkpoints.are_kept else None)
    if state is not None:
        # The old checkpoint no longer applies. Save this one first, so that it cannot overwrite a
        # newer one from the new version.
        keeper.checkpoints.keep_soon(*state)
    keeper.serve(new)


def _probation_of(
    keeper: Keeper, new: Incarnation, resting: Incarnation | None, state: Handed | None, seconds: float | None
) -> Probation | None:
    """Return what it takes to go back from ``new``.

    None if there is no probation, or no way back.
    """
    if resting is not None and not _has_room_for(keeper, resting, new.config.limits.memory):
        resting = None
    probation = Probation(
        config=replace(keeper.config, audience=keeper.audience),
        manifest=keeper.manifest,
        number=keeper.serving,
        resting=resting,
        state=state,
        has_snapshot=keeper.kept.has_snapshot,
        before=keeper.trial.tally(),
        until=asyncio.get_running_loop().time() + (seconds or 0.0),
    )
    if not seconds or not probation.can_revert:
        return None
    if resting is not None:
        resting.is_resting = True
    return probation


def _has_room_for(keeper: Keeper, resting: Incarnation, memory: int | None) -> bool:
    """Whether two such processes stay within the memory limit of one mod."""
    if memory is None:
        return True
    sample = keeper.resources_of(resting)
    return sample is not None and 2 * (sample.get("rss") or memory) <= memory


# -- a mod that cannot run twice


async def _stop_first(keeper: Keeper, old: Incarnation, config: ModConfig, *, from_snapshot: bool) -> Reloaded:
    """End the old incarnation, then start the new one; events wait meanwhile."""
    began = perf_counter()
    limits, previous = config.limits, keeper.config
    if keeper.state is not State.READY:
        raise ReloadFailed("the mod is being ended; reload again", code=Code.MOD_CRASHED, step="drain")
    keeper.caller.hold()
    try:
        await _drain(keeper, old, limits.drain_timeout)
        state = await _state_to_keep(keeper, old, limits.start_timeout, None)
        _check_still(keeper, old)
    except BaseException:
        _reopen(keeper, old)
        raise
    try:
        await shielded(_make_way(keeper, config))
        new = await _started(keeper, config, from_snapshot)
        try:
            await give(new, state)
            await activate(new)
        except BaseException:
            await shielded(new.kill("the reload failed"))
            raise
    except BaseException:
        await shielded(_come_back(keeper, previous, state))
        raise
    queued = keeper.caller.depth
    await shielded(_take_over(keeper, new, state, probation=None, rests=False))
    await keeper.keep_sources(new)
    if previous.mod_id != keeper.mod_id:
        await keeper.kept.forget(previous.mod_id)
    return _Switched(_milliseconds_since(began), queued, state, []).to_reloaded(old, new)


async def _make_way(keeper: Keeper, config: ModConfig) -> None:
    """End the old incarnation; events wait for the next one."""
    old = await keeper.let_go()
    keeper.happened(Trigger.REPLACE_REQUESTED)
    if old is not None:
        await _end([old], config)


async def _come_back(keeper: Keeper, config: ModConfig, state: Handed | None) -> None:
    """Restart the previous version from its snapshot when its replacement failed to start."""
    try:
        incarnation = await keeper.start_incarnation(config=config, from_snapshot=keeper.kept.has_snapshot)
        try:
            if state is not None:
                await incarnation.restore(*state, config.limits.start_timeout)
            await incarnation.activate(config.limits.start_timeout)
        except BaseException:
            await shielded(incarnation.kill("it did not come back"))
            raise
    except StartFailed as error:
        keeper.not_started(str(error), f"mod {keeper.mod_id} failed to start: {error}")
        return
    keeper.serve(incarnation)
    keeper.copies.release()


# -- steps


def _still_serves(keeper: Keeper, old: Incarnation) -> bool:
    """Whether ``old`` serves, and is not being ended."""
    return keeper.incarnation is old and keeper.state is State.READY and old.pipe.closed is None


def _check_still(keeper: Keeper, old: Incarnation) -> None:
    if keeper.incarnation is not old:
        raise ReloadFailed("the mod was restarted meanwhile; reload again", code=Code.MOD_CRASHED, step="switch")


def _reopen(keeper: Keeper, old: Incarnation) -> None:
    """Let events flow to the old incarnation again, if it still serves."""
    if _still_serves(keeper, old):
        keeper.caller.open(old.in_flight)
    keeper.copies.release()


async def _drain(keeper: Keeper, old: Incarnation, seconds: float) -> None:
    """Let the events in flight and the current batch of copies finish.

    So the state that is handed over has seen them.
    """
    tell_step("waiting for the events in flight")
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(deadline):
            await keeper.copies.hold()
            await old.in_flight.drained()
    except TimeoutError:
        raise ReloadFailed("events in flight did not finish in time", code=Code.TIMEOUT, step="drain") from None


async def _state_to_keep(keeper: Keeper, old: Incarnation, timeout: float, fallback: Handed | None) -> Handed | None:
    """Ask the old incarnation for its state; without `get_state`, take the newest checkpoint.

    Args:
        fallback: the state to go back to if the old incarnation, which has failed, cannot answer and
            has no checkpoint.
    """
    tell_step("handing the state over")
    with failing_at("get_state", timeout):
        try:
            state = await state_of(old, timeout)
        except (ModvisorError, TimeoutError, KeyError, TypeError):
            if fallback is None:
                raise
            state = None
        if state is None:
            checkpoint = await keeper.checkpoints.newest()
            state = fallback if checkpoint is None else (checkpoint.state, checkpoint.version)
        return state


async def _end(incarnations: list[Incarnation], config: ModConfig) -> None:
    tell_step("ending the old process")
    deadline = asyncio.get_running_loop().time() + config.limits.unload_timeout
    for incarnation in incarnations:
        await shielded(incarnation.stop(deadline))


def _milliseconds_since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)
