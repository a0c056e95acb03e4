"""Reload and swap: fresh code or another mod in the place of one, state handed over; the old one stays if anything fails."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from ..ipc import messages
from ..ipc.errors import ChannelBroken, ChannelClosed, Code, ModvisorError
from .config import ModConfig
from .incarnation import Incarnation, StartFailed
from .keeper import Keeper
from .lifecycle import COMING_BACK, State
from .modlog import ModLog
from .shield import shielded


class ReloadFailed(ModvisorError):
    """The reload did not happen and the old incarnation serves. ``details``: step, and what the failure carried."""

    code = Code.START_FAILED


async def reload(
    keeper: Keeper, config: ModConfig, log: ModLog | None = None, *, from_snapshot: bool = False
) -> dict[str, Any]:
    """Replace the running incarnation of ``keeper`` by one with fresh code under ``config``.

    The caller holds the keeper's lock. A mod that is down (failed, quarantined, stopped) is started instead; one that is on its
    way back (backoff, restarting) too, and if that fails it is restarted as it would have been.

    Args:
        config: of the same mod (a reload), or of another one (a swap), which then needs its own ``log``.
        from_snapshot: run the last good version instead of the working files (a restart).

    Returns:
        ``{"pause_ms", "queued", "from_version", "to_version"}``

    Raises:
        ReloadFailed: at any step before the switch.
    """
    if keeper.incarnation is None:
        await keeper.stop_keeping()
        if keeper.incarnation is None:
            return await _start_again(keeper, config, log, from_snapshot)
        keeper.keep(keeper.incarnation)  # its restart came through meanwhile
    old = keeper.incarnation
    try:
        new = await keeper.start_incarnation(config=config, log=log, from_snapshot=from_snapshot)
    except StartFailed as error:
        raise _failed("start", error) from None
    config = new.config  # with what its mod.yaml says
    try:
        done, superseded = await _switch(keeper, config, log, old, new)
    except BaseException:
        if keeper.incarnation is not new:
            await shielded(new.kill("the reload failed"))
        else:  # the caller gave up just as it was done
            await _end([old], config)
        raise
    # The new one serves: whatever happens from here on does not undo that.
    try:
        await keeper.keep_sources(new)
    finally:
        await _end(superseded, config)
    return done


async def _end(incarnations: list[Incarnation], config: ModConfig) -> None:
    deadline = asyncio.get_running_loop().time() + config.limits.unload_timeout
    for incarnation in incarnations:
        await shielded(incarnation.stop(deadline))


async def _start_again(keeper: Keeper, config: ModConfig, log: ModLog | None, from_snapshot: bool) -> dict[str, Any]:
    """There is no incarnation, and nothing tries to bring one any more: start."""
    before = keeper.manifest.version if keeper.manifest else None
    start = keeper.start_instead if keeper.state in COMING_BACK else keeper.start_anew
    try:
        manifest = await start(config, log, from_snapshot=from_snapshot)
    except StartFailed as error:
        raise _failed("start", error) from None
    return {"pause_ms": 0.0, "queued": 0, "from_version": before, "to_version": manifest.version}


async def _switch(
    keeper: Keeper, config: ModConfig, log: ModLog | None, old: Incarnation, new: Incarnation
) -> tuple[dict[str, Any], list[Incarnation]]:
    began = perf_counter()
    _check_still(keeper, old)  # before events are held: it would be those of its successor
    keeper.port.hold()
    try:
        await _drain(keeper, old, config.limits.drain_timeout)
        state = await _hand_over(keeper, old, new, config.limits.start_timeout)
        try:
            await new.activate(config.limits.start_timeout)
        except StartFailed as error:
            raise _failed("activate", error) from None
        _check_still(keeper, old)
        queued = keeper.port.depth
        superseded = await shielded(keeper.take_over(new, config, log, state))
    except BaseException:
        still_serves = keeper.incarnation is old and keeper.state is State.READY  # else it is being ended, or was
        if still_serves and old.channel.closed is None:
            keeper.port.open(old.lane)
        keeper.copies.release()
        raise
    return {
        "pause_ms": round((perf_counter() - began) * 1000, 3),
        "queued": queued,
        "from_version": old.manifest.version if old.manifest else None,
        "to_version": new.manifest.version if new.manifest else None,
    }, superseded


def _check_still(keeper: Keeper, old: Incarnation) -> None:
    if keeper.incarnation is not old:
        raise ReloadFailed("the mod was restarted meanwhile; reload again", code=Code.MOD_CRASHED, step="switch")


async def _drain(keeper: Keeper, old: Incarnation, seconds: float) -> None:
    """Events in flight and the batch of copies under way finish: the state that is handed over has seen them."""
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(deadline):
            await keeper.copies.hold()
            await old.lane.drained()
    except TimeoutError:
        raise ReloadFailed("events in flight did not finish in time", code=Code.TIMEOUT, step="drain") from None


async def _hand_over(keeper: Keeper, old: Incarnation, new: Incarnation, timeout: float) -> tuple[Any, str] | None:
    """`get_state` of the old one into `set_state` of the new one; returns the state, and the version it is of.

    A mod without `get_state` gets its checkpoint, if it has one.
    """
    step = "get_state"
    try:
        handed = await old.channel.request(messages.GET_STATE, {}, timeout)
        state, version = handed["state"], str(handed["version"])
        if state is None and (checkpoint := await keeper.checkpoints.newest()) is not None:
            state, version = checkpoint.state, checkpoint.version
        step = "set_state"
        if state is not None:
            await new.channel.request(messages.SET_STATE, {"state": state, "from_version": version}, timeout)
        return None if state is None else (state, version)
    except TimeoutError:
        raise ReloadFailed(f"{step} took more than {timeout:g} s", code=Code.TIMEOUT, step=step) from None
    except (ChannelBroken, ChannelClosed) as error:
        raise ReloadFailed(f"a worker ended during {step} ({error})", code=Code.MOD_CRASHED, step=step) from None
    except ModvisorError as error:
        raise _failed(step, error) from None
    except (KeyError, TypeError):
        raise ReloadFailed("get_state was not answered with a state", code=Code.PROTOCOL_ERROR, step=step) from None


def _failed(step: str, error: ModvisorError) -> ReloadFailed:
    return ReloadFailed(str(error), code=error.code, **{**error.details, "step": step})
