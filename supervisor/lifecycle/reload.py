"""Reload and swap: fresh code or another mod in the place of one, state handed over; the old one stays if anything fails."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ...ipc import messages
from ...ipc.errors import Code, ModvisorError, PipeBroken, PipeClosed, Unserializable
from ...ipc.manifest import Manifest
from ...ipc.messages import pack
from ..config import STOP_FIRST, ModConfig
from ..process import shielded
from .incarnation import Incarnation, StartFailed
from .keeper import Keeper
from .probation import Probation
from .states import COMING_BACK, State

logger = logging.getLogger("modvisor.swap")


class ReloadFailed(ModvisorError):
    """The reload did not happen and the old incarnation serves. ``details``: step, and what the failure carried."""

    code = Code.START_FAILED

    @classmethod
    def at(cls, step: str, error: ModvisorError) -> ReloadFailed:
        """Because of ``error``, at ``step``."""
        return cls(str(error), code=error.code, **{**error.details, "step": step})

    @classmethod
    def at_start(cls, error: StartFailed) -> ReloadFailed:
        """Because a worker did not come to serve."""
        return cls.at(_STEPS.get(error.code, "start"), error)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload, restart or swap was like.

    Attributes:
        pause_ms: how long events waited; ``queued``: how many waited at the end of it.
        state_bytes: size of the state that was handed over.
        before, after: the versions.
        workers: how many were replaced, of a mod that has several.
    """

    pause_ms: float
    queued: int
    state_bytes: int
    before: str | None
    after: str | None
    workers: int | None = None

    @classmethod
    def from_down(cls, before: str | None, after: str | None) -> Reloaded:
        """Of a mod that was down: nothing waited, nothing was handed over."""
        return cls(0.0, 0, 0, before, after)

    def to_dict(self) -> dict[str, Any]:
        """As responses show it: ``{"pause_ms", "queued", "state_bytes", "from", "to"}``, with workers if there are several."""
        shown = {
            "pause_ms": self.pause_ms,
            "queued": self.queued,
            "state_bytes": self.state_bytes,
            "from": self.before,
            "to": self.after,
        }
        return shown if self.workers is None else {**shown, "workers": self.workers}


@dataclass(frozen=True, slots=True)
class Switched:
    """What a switch was like: the pause, events that waited at its end, the state that was handed over and its version."""

    pause_ms: float
    queued: int
    state: tuple[Any, str] | None
    superseded: list[Incarnation]


async def replace_worker(
    keeper: Keeper,
    config: ModConfig,
    *,
    from_snapshot: bool = False,
    on_probation: bool = True,
    tentative: bool = False,
) -> Reloaded:
    """Replace the running incarnation of ``keeper`` by one with fresh code under ``config``.

    The caller holds the keeper's lock. A mod that is down (failed, quarantined, stopped) is started instead; one that is on its
    way back (backoff, restarting) too, and if that fails it is restarted as it would have been.

    Args:
        config: of the same mod (a reload), or of another one (a swap).
        from_snapshot: run the last good version instead of the working files (a restart).
        on_probation: go back to the former version if the new one fails within its probation.
        tentative: keep the way back until `Keeper.begin_probation`, whatever the config says.

    Raises:
        ReloadFailed: at any step before the switch.
    """
    if from_snapshot or keeper.incarnation is None:
        await keeper.end_probation()
    if keeper.incarnation is None:
        await keeper.stop_keeping()
        if keeper.incarnation is None:
            return await _start_again(keeper, config, from_snapshot)
        keeper.keep(keeper.incarnation)  # its restart came through meanwhile
    old = keeper.incarnation
    from_snapshot = from_snapshot and keeper.has_snapshot
    if STOP_FIRST in (keeper.config.reload, config.reload):
        await keeper.end_probation()
        return await _stop_first(keeper, old, config, from_snapshot=from_snapshot)
    try:
        new = await keeper.start_incarnation(config=config, from_snapshot=from_snapshot)
    except StartFailed as error:
        raise ReloadFailed.at_start(error) from None
    try:
        _check_still(keeper, old)  # what serves on probation may have failed meanwhile
        await keeper.end_probation(wait=False)
    except BaseException:
        await shielded(new.kill("the reload failed"))
        raise
    probation = math.inf if tentative else new.config.probation if on_probation else None
    return await _replace(keeper, old, new, probation=probation)


async def revert(keeper: Keeper, probation: Probation, why: str) -> None:
    """Put the former version in the place of the one on probation, which still serves; that one stays if this fails.

    The caller holds the keeper's lock.
    """
    failed = keeper.mod_id
    try:
        done = await _to_former(keeper, probation)
    except ReloadFailed as error:
        logger.error("mod %s could not be rolled back (%s), the new version stays: %s", failed, why, error)
        if keeper.probation is probation:
            await keeper.end_probation()
    else:
        keeper.note_rollback(done.before, probation, why)


async def _to_former(keeper: Keeper, probation: Probation) -> Reloaded:
    """Raises `ReloadFailed`."""
    current, standby = keeper.incarnation, keeper.take_resting(probation)
    try:
        if current is None:
            raise ReloadFailed("it has ended meanwhile", code=Code.MOD_CRASHED, step="start")
        if standby is None:
            standby = await keeper.start_incarnation(config=probation.config, from_snapshot=probation.has_snapshot)
    except StartFailed as error:
        raise ReloadFailed.at("start", error) from None
    except BaseException:
        if standby is not None:
            await shielded(standby.kill("it is not needed any more"))
        raise
    return await _replace(keeper, current, standby, probation=None, fallback=probation.state)


async def _replace(
    keeper: Keeper,
    old: Incarnation,
    new: Incarnation,
    *,
    probation: float | None,
    fallback: tuple[Any, str] | None = None,
) -> Reloaded:
    former = keeper.mod_id
    try:
        switched = await _switch(keeper, old, new, probation=probation, fallback=fallback)
    except BaseException:
        if keeper.incarnation is not new:
            await shielded(new.kill("the reload failed"))
        elif not old.is_resting:  # the caller gave up just as it was done
            await _end([old], new.config)
        raise
    # The new one serves: whatever happens from here on does not undo that.
    try:
        await keeper.keep_sources(new)
        if keeper.probation is None and former != keeper.mod_id:
            await keeper.forget_sources(former)
    finally:
        await _end(switched.superseded, new.config)
    return Reloaded(
        switched.pause_ms, switched.queued, _size(switched.state), version_of(old.manifest), version_of(new.manifest)
    )


async def _stop_first(keeper: Keeper, old: Incarnation, config: ModConfig, *, from_snapshot: bool) -> Reloaded:
    """A mod that cannot be there twice: the old one ends, then the new one starts; events wait meanwhile."""
    began = perf_counter()
    limits, former = config.limits, keeper.config
    if keeper.state is not State.READY:
        raise ReloadFailed("the mod is being ended; reload again", code=Code.MOD_CRASHED, step="drain")
    keeper.caller.hold()
    try:
        await _drain(keeper, old, limits.drain_timeout)
        state = await _state_to_keep(keeper, old, limits.start_timeout, None)
        _check_still(keeper, old)
    except BaseException:
        if _still_serves(keeper, old):
            keeper.caller.open(old.in_flight)
        keeper.copies.release()
        raise
    await shielded(_make_way(keeper, config))
    try:
        try:
            new = await keeper.start_incarnation(config=config, from_snapshot=from_snapshot)
        except StartFailed as error:
            raise ReloadFailed.at_start(error) from None
        try:
            await give(new, state)
            await activate(new)
        except BaseException:
            await shielded(new.kill("the reload failed"))
            raise
    except BaseException:
        await shielded(keeper.come_back(former, state))
        raise
    queued, renamed = keeper.caller.depth, keeper.mod_id != new.config.mod_id
    await shielded(keeper.take_over(new, state, probation=None, rests=False))
    await keeper.keep_sources(new)
    if renamed:
        await keeper.forget_sources(former.mod_id)
    pause = round((perf_counter() - began) * 1000, 3)
    return Reloaded(pause, queued, _size(state), version_of(old.manifest), version_of(new.manifest))


async def _make_way(keeper: Keeper, config: ModConfig) -> None:
    if (old := await keeper.make_way()) is not None:
        await _end([old], config)


async def _end(incarnations: list[Incarnation], config: ModConfig) -> None:
    deadline = asyncio.get_running_loop().time() + config.limits.unload_timeout
    for incarnation in incarnations:
        await shielded(incarnation.stop(deadline))


async def _start_again(keeper: Keeper, config: ModConfig, from_snapshot: bool) -> Reloaded:
    """There is no incarnation, and nothing tries to bring one any more: start."""
    before = version_of(keeper.manifest)
    start = keeper.start_instead if keeper.state in COMING_BACK else keeper.start_anew
    try:
        manifest = await start(config, from_snapshot=from_snapshot)
    except StartFailed as error:
        raise ReloadFailed.at_start(error) from None
    return Reloaded.from_down(before, manifest.version)


async def _switch(
    keeper: Keeper, old: Incarnation, new: Incarnation, *, probation: float | None, fallback: tuple[Any, str] | None
) -> Switched:
    limits = new.config.limits
    began = perf_counter()
    _check_still(keeper, old)  # before events are held: it would be those of its successor
    keeper.caller.hold()
    rests = False
    try:
        await _drain(keeper, old, limits.drain_timeout)
        state = await _hand_over(keeper, old, new, limits.start_timeout, fallback)
        rests = await _rest(old, limits.start_timeout)
        await activate(new)
        _check_still(keeper, old)
        queued = keeper.caller.depth
        superseded = await shielded(keeper.take_over(new, state, probation=probation, rests=rests))
    except BaseException:
        if _still_serves(keeper, old):
            if rests:
                await shielded(_resume(old, limits.start_timeout))
            if _still_serves(keeper, old):
                keeper.caller.open(old.in_flight)
        keeper.copies.release()
        raise
    return Switched(round((perf_counter() - began) * 1000, 3), queued, state, superseded)


def _still_serves(keeper: Keeper, old: Incarnation) -> bool:
    """Else it is being ended, or was."""
    return keeper.incarnation is old and keeper.state is State.READY and old.pipe.closed is None


def _check_still(keeper: Keeper, old: Incarnation) -> None:
    if keeper.incarnation is not old:
        raise ReloadFailed("the mod was restarted meanwhile; reload again", code=Code.MOD_CRASHED, step="switch")


async def _drain(keeper: Keeper, old: Incarnation, seconds: float) -> None:
    """Events in flight and the batch of copies under way finish: the state that is handed over has seen them."""
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(deadline):
            await keeper.copies.hold()
            await old.in_flight.drained()
    except TimeoutError:
        raise ReloadFailed("events in flight did not finish in time", code=Code.TIMEOUT, step="drain") from None


async def _hand_over(
    keeper: Keeper, old: Incarnation, new: Incarnation, timeout: float, fallback: tuple[Any, str] | None
) -> tuple[Any, str] | None:
    """`get_state` of the old one into `set_state` of the new one; returns the state, and the version it is of.

    A mod without `get_state` gets its checkpoint, if it has one.

    Args:
        fallback: the state to go back to if the old one, which has failed, cannot say its own: its checkpoint goes before.
    """
    state = await _state_to_keep(keeper, old, timeout, fallback)
    await give(new, state)
    return state


async def give(new: Incarnation, state: tuple[Any, str] | None) -> None:
    """A state and the version it is of, into `set_state`. Raises `ReloadFailed`."""
    if state is not None:
        timeout = new.config.limits.start_timeout
        with failing_at("set_state", timeout):
            await new.pipe.request(messages.SET_STATE, {"state": state[0], "from_version": state[1]}, timeout)


async def activate(new: Incarnation) -> None:
    """The last step before the switch. Raises `ReloadFailed`; the process is still there then."""
    try:
        await new.activate(new.config.limits.start_timeout)
    except StartFailed as error:
        raise ReloadFailed.at("ready" if error.code == Code.NOT_READY else "activate", error) from None


async def _state_to_keep(
    keeper: Keeper, old: Incarnation, timeout: float, fallback: tuple[Any, str] | None
) -> tuple[Any, str] | None:
    with failing_at("get_state", timeout):
        try:
            state = await _state_of(old, timeout)
        except (ModvisorError, TimeoutError, KeyError, TypeError):
            if fallback is None:
                raise
            state = None
        if state is None:
            checkpoint = await keeper.checkpoints.newest()
            state = fallback if checkpoint is None else (checkpoint.state, checkpoint.version)
        return state


@contextmanager
def failing_at(step: str, timeout: float) -> Iterator[None]:
    """What goes wrong in here, as a reload that failed at ``step``."""
    try:
        yield
    except TimeoutError:
        raise ReloadFailed(f"{step} took more than {timeout:g} s", code=Code.TIMEOUT, step=step) from None
    except (PipeBroken, PipeClosed) as error:
        raise ReloadFailed(f"a worker ended during {step} ({error})", code=Code.MOD_CRASHED, step=step) from None
    except ModvisorError as error:
        raise ReloadFailed.at(step, error) from None
    except (KeyError, TypeError):
        raise ReloadFailed(f"{step} was not answered with a state", code=Code.PROTOCOL_ERROR, step=step) from None


async def _state_of(incarnation: Incarnation, timeout: float) -> tuple[Any, str] | None:
    handed = await incarnation.pipe.request(messages.GET_STATE, {}, timeout)
    return None if handed["state"] is None else (handed["state"], str(handed["version"]))


async def _rest(old: Incarnation, timeout: float) -> bool:
    """Have a mod that can be activated again let go of what only one process may hold; whether it can."""
    if old.manifest is None or not old.manifest.resumable:
        return False
    try:
        await old.deactivate(timeout)
    except StartFailed as error:
        await _resume(old, timeout)
        raise ReloadFailed.at("deactivate", error) from None
    except BaseException:
        await shielded(_resume(old, timeout))
        raise
    return True


async def _resume(old: Incarnation, timeout: float) -> None:
    """Have it serve again, as if nothing had happened; one that cannot is restarted."""
    try:
        await old.activate(timeout)
    except StartFailed as error:
        old.fail(f"it could not be activated again after a reload that failed: {error}")


def version_of(manifest: Manifest | None) -> str | None:
    """Return the version that a mod reported; None if it has not come to serve yet."""
    return None if manifest is None else manifest.version


def _size(state: tuple[Any, str] | None) -> int:
    """Bytes of msgpack that the hand-over took."""
    try:
        return 0 if state is None else len(pack(state[0]))
    except Unserializable:  # it came from a worker, or went to one: it can be
        return 0


_STEPS: dict[str, str] = {
    Code.IMPORT_FAILED: "import",
    Code.NO_MOD_CLASS: "import",
    Code.AMBIGUOUS_MOD_CLASS: "import",
    Code.INVALID_MOD: "import",
    Code.INITIALIZE_FAILED: "initialize",
}
