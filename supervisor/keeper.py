"""Keeps one mod alive: its state, its current incarnation, what happens when that ends. One keeper per loaded mod."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..ipc import messages
from ..ipc.errors import Code, ModvisorError
from ..ipc.manifest import Manifest
from ..ipc.messages import Request
from .config import ModConfig
from .copies import CopyQueue
from .counters import ModCounters
from .crashes import LOG_LINES, MAX_IN_FLIGHT, Cause, CrashLog, CrashReport, cause_of, events_of, last_words
from .incarnation import CancelHandler, Incarnation, StartFailed, StartOrder
from .lane import Lane
from .launcher import Exit, Launcher
from .lifecycle import State, Trigger, next_state
from .modlog import ModLog
from .port import Port
from .restart import GiveUp, Restart, RestartPolicy
from .shield import shielded
from .snapshots import SnapshotStore

logger = logging.getLogger("modvisor.keeper")

STALL = 0.25
"""Seconds by which a timer of the supervisor may be late before it mistrusts its own measurement of a mod."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every keeper of a network shares.

    Attributes:
        tasks: the network's root task group.
        load_params: the `load` parameters of a mod, without its snapshot.
        on_request, on_cancel: called with each request of a worker, and with those it gives up.
        resources_of: the newest resource sample of a process, as plain data.
        on_change: called after a change of state, version or patterns, so that routes are computed anew.
    """

    tasks: TaskGroup
    launcher: Launcher
    snapshots: SnapshotStore
    load_params: Callable[[ModConfig], dict[str, Any]]
    on_request: Callable[[Keeper, Incarnation, Request], None]
    on_cancel: CancelHandler
    resources_of: Callable[[int], dict[str, Any] | None]
    on_change: Callable[[], None]


class Keeper:
    """One mod of the network.

    Commands (`start`, `unload`, `reload`) are serialised by `lock`, which the caller holds.

    Attributes:
        port: the way to the mod for events; ``copies`` for observers and notifications.
        manifest: of the newest incarnation that was ready.
        last_error: why the mod last failed to start or ended, for people.
    """

    def __init__(self, config: ModConfig, log: ModLog, surroundings: Surroundings) -> None:
        self.config = config
        self.lock = anyio.Lock()
        self.command: anyio.CancelScope | None = None  # the load, reload or swap under way
        self.log = log
        self.counters = ModCounters()
        self.port = Port(config.mod_id, config.limits, self.counters)
        self.copies = CopyQueue(config.limits.observe_queue, self.counters, config.limits.queue_bytes)
        self.state = State.STARTING
        self.incarnation: Incarnation | None = None
        self.manifest: Manifest | None = None
        self.loaded_at = time.time()
        self.start_ms: float | None = None  # from launch to ready, of the newest start that was asked for
        self.last_error: str | None = None
        self.crashes = CrashLog()
        self._number = 0
        self._has_snapshot = False  # of the version that serves; one left by a former run is nobody's
        self._around = surroundings
        self._policy = _policy_of(config)
        self._keeping: anyio.CancelScope | None = None  # of the task that follows the current incarnation
        self._kept = anyio.Event()  # set when that task has ended

    @property
    def mod_id(self) -> str:
        return self.config.mod_id

    # -- commands

    async def start(self, *, from_snapshot: bool = False) -> Manifest:
        """Start the first incarnation, from the working files unless told otherwise, and serve.

        Raises:
            StartFailed: the state is `failed`, nothing is left of the attempt.
        """
        if self.state is not State.STARTING:
            self._happened(Trigger.START_REQUESTED)
        began = time.perf_counter()
        try:
            incarnation = await self.start_incarnation(from_snapshot=from_snapshot)
            await self.ready(incarnation)
        except StartFailed as error:
            self._start_failed(error)
            raise
        self.start_ms = round((time.perf_counter() - began) * 1000, 1)
        self.keep(incarnation)
        await self.keep_sources(incarnation)
        assert self.manifest is not None
        return self.manifest

    async def start_anew(
        self, config: ModConfig, log: ModLog | None = None, *, from_snapshot: bool = False
    ) -> Manifest:
        """Start a mod that is down, with a clean record. Raises `StartFailed`."""
        self.adopt(config, log)
        return await self.start(from_snapshot=from_snapshot)

    async def unload(self, timeout: float | None = None) -> None:
        """Drain, shut down, end. Always succeeds; afterwards no process of the mod is left."""
        loop = asyncio.get_running_loop()
        allowed = self.config.limits.unload_timeout if timeout is None else timeout
        deadline = loop.time() + allowed
        await self.stop_keeping()  # first: the task that restarts it must not find the mod in another state
        self._happened(Trigger.UNLOAD_REQUESTED)
        incarnation, self.incarnation = self.incarnation, None
        # Events that still wait are refused; those in flight get up to half of the time.
        lane = self.port.hold()
        self.port.refuse(ModvisorError(f"mod {self.mod_id} is being unloaded", code=Code.NO_SUCH_MOD))
        if incarnation is not None:
            # One whose loop is blocked cannot finish anything: it is not waited for.
            if lane is not None and lane.handling and await incarnation.answers(allowed / 4):
                await drain(lane, loop.time() + allowed / 4)
            await shielded(incarnation.stop(deadline))
        self._happened(Trigger.UNLOADED)
        self.log.close()

    # -- starting

    async def start_incarnation(
        self, *, from_snapshot: bool = False, config: ModConfig | None = None, log: ModLog | None = None
    ) -> Incarnation:
        """A new process that has imported and initialized the mod, not yet active. Raises `StartFailed`.

        Args:
            config, log: of the mod it is to become, when that is another one than now (see `adopt`).
        """
        config, log = config or self.config, log or self.log
        self._number += 1
        try:
            params = self._around.load_params(config)
        except ModvisorError as error:  # an environment variable or file of its config is missing
            raise StartFailed(f"mod {config.mod_id}: {error}", code=error.code) from None
        except OSError as error:  # its folder cannot be made: the disk is full, or not ours to write
            raise StartFailed(f"mod {config.mod_id}: {error}") from None
        if from_snapshot and self._has_snapshot:
            params["snapshot"] = await self._around.snapshots.read(self.mod_id)
        order = StartOrder(config, self._number, params)
        return await Incarnation.start(
            order, self._around.launcher, log, self._request, self._around.on_cancel, self._lost
        )

    async def ready(self, incarnation: Incarnation) -> None:
        """Activate, then feed events. Raises `StartFailed`; nothing is left of the incarnation then."""
        try:
            await incarnation.activate(self.config.limits.start_timeout)
        except BaseException:
            await shielded(incarnation.kill("activate() failed"))
            raise
        self.serve(incarnation)

    def serve(self, incarnation: Incarnation) -> None:
        """Make ``incarnation`` the one that events go to."""
        self.incarnation = incarnation
        self.manifest = incarnation.manifest
        self.counters.restarts += self.state is State.RESTARTING
        if self.state is not State.READY:
            self._happened(Trigger.ACTIVATED)
        self.port.open(incarnation.lane)
        self._around.on_change()

    async def keep_sources(self, incarnation: Incarnation) -> None:
        """A good version is running: keep its sources, so that a restart does not pick up a half-finished edit."""
        try:
            self._has_snapshot = False
            modules = await incarnation.channel.request(messages.SNAPSHOT, {}, self.config.limits.start_timeout)
            await self._around.snapshots.write(self.mod_id, modules)
            self._has_snapshot = True
        except (ModvisorError, TimeoutError, OSError) as error:
            logger.warning(
                "mod %s: no snapshot of its sources, restarts will read the working files: %s", self.mod_id, error
            )

    def _start_failed(self, error: StartFailed) -> None:
        self.last_error = str(error)
        self._happened(Trigger.START_FAILED)
        self.port.refuse(ModvisorError(f"mod {self.mod_id} failed to start: {error}", code=Code.MOD_AWAY))

    # -- keeping

    def keep(self, incarnation: Incarnation) -> None:
        """Follow ``incarnation`` and its successors in a task of the network, until `stop_keeping`."""
        self._keeping, self._kept = anyio.CancelScope(), anyio.Event()
        self._around.tasks.start_soon(self._keep, incarnation, self._keeping, self._kept, name=f"keep-{self.mod_id}")

    async def stop_keeping(self) -> None:
        """End the task that follows the incarnations (and a restart that is under way in it)."""
        if self._keeping is not None:
            self._keeping.cancel()
            await shielded(self._kept.wait())
            self._keeping = None

    async def _keep(self, incarnation: Incarnation, scope: anyio.CancelScope, kept: anyio.Event) -> None:
        try:
            with scope:
                current: Incarnation | None = incarnation
                while current is not None:
                    exit = await self._follow(current)
                    self._ended(current, exit)
                    current = await self._restart(
                        clean=exit.clean and current.end_reason is None, uptime=current.uptime
                    )
        finally:
            kept.set()

    async def _follow(self, incarnation: Incarnation) -> Exit:
        """Until the process ends: feed its observers, watch that its loop is alive."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.copies.feed, incarnation.lane)
            tasks.start_soon(watch, incarnation, self.config.limits.hang_timeout)
            await asyncio.shield(incarnation.process.exited)
            tasks.cancel_scope.cancel()
        return incarnation.process.exited.result()

    def _ended(self, incarnation: Incarnation, exit: Exit) -> None:
        reason = incarnation.end_reason or str(exit)
        self.last_error = f"incarnation {incarnation.number} (pid {incarnation.pid}) ended: {reason}"
        self.incarnation = None
        self._happened(Trigger.EXITED)
        self.crashes.add(self._report(incarnation, exit))
        logger.warning("mod %s: %s", self.mod_id, self.last_error)

    def _report(self, incarnation: Incarnation, exit: Exit) -> CrashReport:
        log = self.log.tail(LOG_LINES)
        return CrashReport(
            mod_id=self.mod_id,
            version=incarnation.manifest.version if incarnation.manifest is not None else None,
            incarnation=incarnation.number,
            pid=incarnation.pid,
            at=time.time(),
            uptime=round(incarnation.uptime, 3),
            cause=cause_of(exit, incarnation.end_cause),
            detail=incarnation.end_reason or str(exit),
            traceback=last_words(log),
            log=log,
            in_flight=events_of(incarnation.lost_events[:MAX_IN_FLIGHT]),
            in_flight_count=len(incarnation.lost_events),
            resources=self._around.resources_of(incarnation.pid),
        )

    def _report_failed_restart(self, error: StartFailed) -> CrashReport:
        return CrashReport(
            mod_id=self.mod_id, version=None, incarnation=self._number, pid=None, at=time.time(), uptime=0.0,
            cause=Cause.START_FAILURE, detail=str(error), traceback=error.details.get("traceback"),
            log=self.log.tail(LOG_LINES), in_flight=[], in_flight_count=0, resources=None,
        )  # fmt: skip

    async def _restart(self, *, clean: bool, uptime: float) -> Incarnation | None:
        """The next incarnation, serving; or None if there is to be none."""
        while True:
            decision = self._policy.exited(time.monotonic(), clean=clean, uptime=uptime)
            if not isinstance(decision, Restart):
                return self._stay_down(decision)
            await anyio.sleep(decision.delay)
            self._happened(Trigger.BACKOFF_ELAPSED)
            try:
                incarnation = await self.start_incarnation(from_snapshot=True)
                await self.ready(incarnation)
            except StartFailed as error:
                self.last_error = str(error)
                self.crashes.add(self._report_failed_restart(error))
                logger.warning("mod %s: restart failed: %s", self.mod_id, error)
                self._happened(Trigger.START_FAILED)
                clean, uptime = False, 0.0
            else:
                return incarnation

    def _stay_down(self, decision: GiveUp | None) -> None:
        if isinstance(decision, GiveUp):
            self._happened(Trigger.GAVE_UP)
            why = f"mod {self.mod_id} is quarantined: {decision.reason}; last: {self.last_error}"
        else:
            self._happened(Trigger.NOT_RESTARTED)
            why = f"mod {self.mod_id} has ended and its policy is '{self.config.restart.policy}': {self.last_error}"
        logger.error("%s", why)
        self.port.refuse(ModvisorError(why, code=Code.MOD_AWAY))

    # -- what the incarnations tell

    def _request(self, incarnation: Incarnation, request: Request) -> None:
        self._around.on_request(self, incarnation, request)

    def _lost(self, incarnation: Incarnation) -> None:
        """Its channel ended: no event goes there any more. Called before anybody who waits for an answer runs."""
        self.port.lost(incarnation.lane)

    async def take_over(self, new: Incarnation, config: ModConfig, log: ModLog | None) -> list[Incarnation]:
        """The switch of a reload or swap: ``new`` serves under ``config`` from here on. Not to be interrupted: shield it.

        Returns:
            the incarnations it supersedes, for the caller to end.
        """
        await self.stop_keeping()
        superseded = [self.incarnation] if self.incarnation is not None else []
        self.adopt(config, log)
        self._has_snapshot = False  # until the sources of the new one are kept, a restart reads the working files
        self.serve(new)
        self.keep(new)
        self.copies.release()
        return superseded

    def adopt(self, config: ModConfig, log: ModLog | None = None) -> None:
        """Be the mod of ``config`` from now on: the same with other settings, or another one with counts of its own."""
        if config.mod_id != self.mod_id and log is not None:
            self.port.mod_id = config.mod_id
            self.log, former = log, self.log
            former.close()
            self.counters = self.port.counters = self.copies.counters = ModCounters()
            self.loaded_at = time.time()
        self.config = config
        self.port.limits = config.limits
        self.copies.size, self.copies.max_bytes = config.limits.observe_queue, config.limits.queue_bytes
        self._policy = _policy_of(config)

    def _happened(self, trigger: Trigger) -> None:
        self.state = next_state(self.state, trigger)
        self._around.on_change()


async def drain(lane: Lane, deadline: float) -> bool:
    """Wait until ``lane`` handles nothing more; False when loop time ``deadline`` comes first."""
    try:
        async with asyncio.timeout_at(deadline):
            await lane.drained()
    except TimeoutError:
        return False
    return True


async def watch(incarnation: Incarnation, hang_timeout: float) -> None:
    """Ping the mod's own event loop; when it does not answer within ``hang_timeout`` seconds, the worker is killed."""
    loop = asyncio.get_running_loop()
    while incarnation.channel.closed is None:
        await anyio.sleep(hang_timeout / 2)
        due = loop.time() + hang_timeout
        if await incarnation.answers(hang_timeout) or incarnation.channel.closed is not None:
            continue
        if loop.time() - due > STALL:  # we were the ones who stood still: the answer may lie unread in the pipe
            continue
        await incarnation.end_hanging(f"its event loop was blocked for more than {hang_timeout:g} s")
        return


def _policy_of(config: ModConfig) -> RestartPolicy:
    restart = config.restart
    return RestartPolicy(
        policy=restart.policy,
        max_restarts=restart.max_restarts,
        window=restart.window,
        first_delay=restart.first_delay,
        max_delay=restart.max_delay,
    )


def with_config(config: ModConfig, changed: dict[str, Any] | None) -> ModConfig:
    """``config`` with another free-form part, if one is given."""
    return config if changed is None else replace(config, config=changed)
