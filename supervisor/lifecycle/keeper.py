"""Keeps one mod alive: its state, its current incarnation, what happens when that ends. One keeper per loaded mod.

What happened is looked up in the table of `lifecycle`; the actions found there are the methods below ``-- actions``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import anyio
from anyio.abc import TaskGroup

from ...ipc import messages
from ...ipc.errors import Code, ModvisorError, PipeClosed
from ...ipc.event import Event, EventResponse
from ...ipc.manifest import Manifest
from ...ipc.messages import Request
from ..calls import Caller, CopyQueue, DurableEvents, InFlight, Journey, Late, Ledger, ModCounters
from ..config import ModConfig, fingerprint
from ..journal import Journal, Quarantine
from ..limits import Exceeded
from ..process import Cause, CrashLog, Exit, Launcher, ModLog, shielded
from ..sources import SourceFiles, files_read
from .checkpoints import Checkpoints
from .crash_report import report_of_end, report_of_start
from .incarnation import LAST_MOMENT, Incarnation, Listeners, StartFailed
from .probation import INTERVAL, Probation, Tally, has_failed
from .restart import GiveUp, Restart, RestartPolicy
from .starting import Recipe, naming
from .states import Action, State, Trigger, next_move

logger = logging.getLogger("modvisor.keeper")

STALL = 0.25
"""Seconds by which a timer of the supervisor may be late before it mistrusts its own measurement of a mod."""


class Listener(Protocol):
    """Whom the keepers of a network tell what happens, and ask what only the whole network knows.

    None of these may block, and all are called in the loop of the network.
    """

    def changed(self) -> None:
        """Take note that a state, a version or patterns changed: routes may be different."""
        ...

    def request(self, keeper: Keeper, incarnation: Incarnation, request: Request, /) -> None:
        """Answer a request of a worker."""
        ...

    def cancelled(self, incarnation: Incarnation, request_id: int | None, /) -> None:
        """Drop a request that a worker gave up; None: all of its requests, its pipe ended."""
        ...

    @property
    def late_answer(self) -> Late:
        """Takes an answer that nobody waits for any more."""
        ...

    def recycle(self, keeper: Keeper, reason: str) -> None:
        """Replace the worker by a fresh one of the same version, soon."""
        ...

    def revert(self, keeper: Keeper, probation: Probation, why: str) -> None:
        """Replace the version on probation by the previous one, soon."""
        ...

    def reverted(self, keeper: Keeper, what: str) -> None:
        """Take note that the previous version is to serve again."""
        ...

    def check_needs(self, config: ModConfig) -> None:
        """Raise `ModvisorError` unless the mods that ``config`` requires are loaded."""
        ...

    def admit(self, name: str, config: ModConfig, version: str) -> None:
        """Raise `ModvisorError` unless the mods that need ``name`` can do with this version of it."""
        ...

    def resources_of(self, pid: int, /) -> dict[str, Any] | None:
        """Return the newest resource sample of a process, as plain data."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all keepers of a network share.

    Attributes:
        recipe: what the next worker must know; ``launcher`` starts its process.
        ledger: keeps account of events that died with an incarnation.
        event_timeout: seconds an event has unless it says otherwise.
        tasks: the network's root task group.
        listener: whom the keepers tell what happens.
    """

    recipe: Recipe
    launcher: Launcher
    journal: Journal
    ledger: Ledger
    event_timeout: float
    tasks: TaskGroup
    listener: Listener


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of something that happened; an action takes what it needs."""

    incarnation: Incarnation | None = None
    exit: Exit | None = None
    error: StartFailed | None = None
    reason: str = ""


class Keeper:
    """One mod of the network.

    Commands (`start`, `unload`, `reload`) are serialised by `lock`, which the caller holds.

    Args:
        number: of the newest incarnation that another keeper of the same mod has started.

    Attributes:
        caller: the way to the mod for events; ``durable`` for those that must not be lost, ``copies`` for observers.
        manifest: of the newest incarnation that was ready.
        last_error: why the mod last failed to start or ended, for people.
        quarantined: why it is in quarantine, None if it is not.
        probation: of the version that serves since the last reload, until it has proven itself.
        last_rollback: which version gave way to which, and why.
        audience: whose events it gets, None: everybody's; ``promoted``: the number of its last promotion, 0: none.
        is_member: it has served, or is part of the network although its first start failed, or it was in quarantine before.
    """

    def __init__(self, config: ModConfig, log: ModLog, shared: Shared, number: int = 0) -> None:
        self.config = config
        self.lock = anyio.Lock()
        self.command: anyio.CancelScope | None = None  # the load, reload or swap under way
        self.log = log
        self.counters = ModCounters()
        self.caller = Caller(config, self.counters, shared.ledger)
        self.durable = DurableEvents(
            self.caller, shared.journal, shared.tasks, shared.event_timeout, shared.listener.late_answer
        )
        self.copies = CopyQueue(config.limits.observe_queue, self.counters, config.limits.queue_bytes)
        self.state = State.STARTING
        self.incarnation: Incarnation | None = None
        self.manifest: Manifest | None = None
        self.loaded_at = time.time()
        self.start_ms: float | None = None  # from launch to ready, of the newest start that was asked for
        self.last_error: str | None = None
        self.quarantined: str | None = None
        self.last_rollback: str | None = None
        self.audience = config.audience
        self.promoted = 0
        self.is_member = False
        self.recycled_at = -math.inf  # loop time
        self.crashes = CrashLog()
        self.has_snapshot = False  # of the version that is to be restarted
        self.sources: SourceFiles | None = None  # of the newest version that was ready; None if it did not report them
        self.files_read: tuple[str, ...] = ()  # by a first start that failed
        self.checkpoints = Checkpoints(
            config.mod_id, shared.journal, shared.tasks, are_kept=config.checkpoint_every is not None
        )
        self._loop = asyncio.get_running_loop()
        self._number = number  # of the newest incarnation
        self._about = 0  # number of the incarnation that the state is about
        self._shared = shared
        self._policy = _policy_of(config)
        self._delay = 0.0
        self._keeping: anyio.CancelScope | None = None  # of the task that follows the current incarnation
        self._kept = anyio.Event()  # set when that task has ended
        self.probation: Probation | None = None  # of the version that serves since the last reload
        self._judging = anyio.Lock()  # of the end of a probation
        self._tally_at_switch = Tally()  # events up to where the version that serves began to
        self._life: TaskGroup | None = None  # of the current incarnation: nothing in it outlives it

    @property
    def mod_id(self) -> str:
        return self.config.mod_id

    @property
    def number(self) -> int:
        """Of the newest incarnation."""
        return self._number

    @property
    def keepers(self) -> list[Keeper]:
        """Itself, as the only worker of its mod."""
        return [self]

    def ask(self, journey: Journey) -> Awaitable[EventResponse | Event | None]:
        """Ask the mod about an event; see `Caller.ask`."""
        return self.durable.ask(journey) if self.config.durable else self.caller.ask(journey)

    async def ask_again(self, journey: Journey) -> EventResponse | Event | None:
        """Ask about an event that was given up before: it was accepted once, and is not accepted again."""
        return await self.caller.ask(journey)

    def observe(self, event: dict[str, Any]) -> None:
        """Queue a copy for the mod's observers."""
        self.copies.observe(event)

    def notify(self, event: dict[str, Any]) -> None:
        """Queue a notification for the mod's handlers."""
        self.copies.notify(event)

    def close_log(self) -> None:
        self.log.close()

    # -- what happened

    def happened(self, trigger: Trigger, *, of: int | None = None, facts: Facts | None = None) -> None:
        """Make the move that the table has for ``trigger``, and do what it says.

        Args:
            of: number of the incarnation it is about, for what comes from workers and timers: a late word of one that is
                no longer ours is nobody's business.
        """
        if of is not None and of != self._about:
            return
        move = next_move(self.state, trigger)
        self.state = move.state
        facts = facts or Facts()
        for action in move.actions:
            if action in self._actions:
                self._actions[action](self, facts)
        work = [self._works[action] for action in move.actions if action in self._works]
        if work and self._life is not None:  # else `_live` will see to it
            self._life.start_soon(self._do_in_turn, work, facts)
        self._shared.listener.changed()

    def _exceeded(self, incarnation: Incarnation, exceeded: Exceeded) -> None:
        """It uses more than it may. One that starts, or is being replaced, has nothing to be saved: it is ended at once."""
        if exceeded.hard:
            incarnation.end(exceeded.text, Cause.LIMIT_HIT)
        if incarnation is self.incarnation and self.state in (State.READY, State.ENDING):
            trigger = Trigger.MEMORY_HIGH
            if exceeded.hard:
                trigger = Trigger.MEMORY_EXCEEDED if exceeded.resource == "memory" else Trigger.LIMIT_EXCEEDED
            self.happened(trigger, of=incarnation.number, facts=Facts(incarnation, reason=exceeded.text))
        elif exceeded.hard:
            incarnation.kill_now()

    def _lost(self, incarnation: Incarnation, reason: ModvisorError) -> None:
        """Its pipe ended: no event goes there any more. Called before anybody who waits for an answer runs."""
        self.caller.lost(incarnation.in_flight)
        if incarnation is not self.incarnation or isinstance(reason, PipeClosed):
            return
        trigger = Trigger.PIPE_CLOSED
        if reason.code == Code.PROTOCOL_ERROR:
            incarnation.end(str(reason), Cause.PROTOCOL_VIOLATION)
            trigger = Trigger.PROTOCOL_BROKEN
        if self.state in (State.READY, State.ENDING):
            self.happened(trigger, of=incarnation.number, facts=Facts(incarnation, reason=str(reason)))

    # -- commands

    async def start(self, *, from_snapshot: bool = False) -> Manifest:
        """Start the first incarnation, from the working files unless told otherwise, and serve.

        Raises:
            StartFailed: the state is `failed`, nothing is left of the attempt; so it is when the caller gives up.
        """
        if self.state is not State.STARTING:
            self.happened(Trigger.START_REQUESTED)
        began = time.perf_counter()
        try:
            incarnation = await self.start_incarnation(from_snapshot=from_snapshot and self.has_snapshot, restore=True)
            await self.activate(incarnation)
        except BaseException as error:
            why = error if isinstance(error, StartFailed) else "whoever asked for it gave up"
            self.last_error = str(why)
            self.files_read = files_read(error.details) if isinstance(error, StartFailed) else ()
            self.happened(Trigger.START_FAILED, facts=Facts(reason=f"mod {self.mod_id} failed to start: {why}"))
            raise
        self.serve(incarnation)
        self.start_ms = round((time.perf_counter() - began) * 1000, 1)
        self.keep(incarnation)
        await self.keep_sources(incarnation)
        assert self.manifest is not None
        return self.manifest

    async def start_anew(self, config: ModConfig, *, from_snapshot: bool = False) -> Manifest:
        """Start a mod that is down, with a clean record. Raises `StartFailed`."""
        self.adopt(config)
        return await self.start(from_snapshot=from_snapshot)

    async def start_instead(self, config: ModConfig, *, from_snapshot: bool = False) -> Manifest:
        """Start a mod that is on its way back, in place of its restart, which goes on if this fails. Raises `StartFailed`."""
        began = time.perf_counter()
        try:
            incarnation = await self.start_incarnation(
                from_snapshot=from_snapshot and self.has_snapshot, restore=True, config=config
            )
            await self.activate(incarnation)
        except BaseException:
            self._start_keeping()
            raise
        self._switch_to(incarnation)
        self.start_ms = round((time.perf_counter() - began) * 1000, 1)
        await self.keep_sources(incarnation)
        assert self.manifest is not None
        return self.manifest

    def stay_quarantined(self, quarantine: Quarantine) -> None:
        """It was in quarantine when the supervisor ended, and nobody has asked for it since."""
        self.last_error, self.quarantined = quarantine.reason, quarantine.reason
        self.happened(Trigger.QUARANTINE_KEPT, facts=Facts(reason=quarantine.reason))
        self._start_keeping()

    async def unload(self, timeout: float | None = None, *, keep_state: bool = False, forget: bool = False) -> None:
        """Drain, shut down, end. Always succeeds; afterwards no process of the mod is left.

        Args:
            timeout: seconds for all of it; None: as the mod's limits say.
            keep_state: the network ends, not the mod's life in it: a mod with checkpoints leaves one more.
            forget: its kept sources go, too: it will not come back by itself.
        """
        loop, limits = self._loop, self.config.limits
        deadline = loop.time() + (limits.unload_timeout if timeout is None else timeout)
        await self.end_probation(deadline)
        await self.stop_keeping()  # first: the task that restarts it must not find the mod in another state
        incarnation = self._let_go()
        self.happened(Trigger.UNLOAD_REQUESTED)
        # Events that still wait are refused; those in flight may finish.
        code, what = (Code.NOT_RUNNING, "shut down") if keep_state else (Code.NO_SUCH_MOD, "unloaded")
        self._refuse(Facts(reason=f"mod {self.mod_id} is being {what}"), code)
        if incarnation is not None:
            left = (deadline - loop.time()) / 2
            await self._finish(incarnation, min(left, limits.drain_timeout), keep_state)
        # While its process ends, not afterwards: there is nothing else to do. When the network ends they stay until then, since
        # a supervisor that is killed meanwhile comes back with them.
        forgetting = asyncio.ensure_future(self._forget_sources()) if forget and not keep_state else None
        try:
            if incarnation is not None:
                await shielded(incarnation.stop(deadline))
            self.happened(Trigger.UNLOADED)
            self.log.close()
        finally:
            if forgetting is not None:
                await forgetting
            elif forget:
                await self._forget_sources()

    async def _forget_sources(self) -> None:
        try:
            await self._shared.recipe.snapshots.forget(self.mod_id)
        except OSError as error:
            logger.warning("mod %s: its kept sources cannot be removed: %s", self.mod_id, error)

    async def _finish(self, incarnation: Incarnation, seconds: float, keep_state: bool) -> None:
        """Let the events in flight finish. A worker whose loop is blocked cannot finish anything: it is not waited for."""
        in_flight, keep_state = incarnation.in_flight, keep_state and self.checkpoints.are_kept
        if not (in_flight.is_busy or keep_state) or not await incarnation.answers(seconds / 2):
            return
        deadline = self._loop.time() + seconds / 2
        if await drain(in_flight, deadline) and keep_state:
            await self.checkpoints.keep_last(incarnation, deadline)

    def _let_go(self) -> Incarnation | None:
        """The incarnation is the caller's to end from here on. One that was ending unasked already is reported all the same."""
        incarnation, self.incarnation = self.incarnation, None
        if incarnation is not None and (self.state is State.ENDING or incarnation.process.exited.done()):
            ending = incarnation
            ending.process.exited.add_done_callback(lambda exit: self._report(Facts(ending, exit.result())))
        return incarnation

    # -- starting

    async def start_incarnation(
        self,
        *,
        from_snapshot: bool = False,
        restore: bool = False,
        config: ModConfig | None = None,
    ) -> Incarnation:
        """A new process that has imported and initialized the mod, not yet active. Raises `StartFailed`.

        Args:
            from_snapshot: run the kept sources of the mod.
            restore: give it the state of the last checkpoint, if there is one.
            config: of the mod it is to become, when that is another one than now (see `adopt`).
        """
        log = self.log if config is None or config.mod_id == self.mod_id else self._shared.recipe.log_of(config.mod_id)
        self._number += 1
        found = await self._shared.recipe.find(config or self.config, from_snapshot=from_snapshot)
        if found.modules is None:
            with naming(found.config.mod_id):
                self._shared.listener.check_needs(found.config)
        order = await self._shared.recipe.order(found, self._number)
        listeners = Listeners(self._request, self._shared.listener.cancelled, self._lost, self._exceeded)
        incarnation = await Incarnation.start(order, self._shared.launcher, log, listeners)
        if not from_snapshot:
            await self._admit(incarnation)
        if restore:
            await self.checkpoints.restore(incarnation)
        return incarnation

    async def _admit(self, incarnation: Incarnation) -> None:
        """Others may need the mod, and in certain versions. Raises `StartFailed`; nothing is left of the incarnation then."""
        assert incarnation.manifest is not None
        try:
            self._shared.listener.admit(self.config.name, incarnation.config, incarnation.manifest.version)
        except ModvisorError as error:
            await shielded(incarnation.kill("others cannot do with it"))
            raise StartFailed(f"mod {self.mod_id}: {error}", code=error.code, **error.details) from None

    def not_started(self, reason: str) -> None:
        """Its start is not tried, because of something else."""
        self.last_error = reason
        self.happened(Trigger.START_FAILED, facts=Facts(reason=reason))

    async def activate(self, incarnation: Incarnation) -> None:
        """Its last step before it serves. Raises `StartFailed`; nothing is left of the incarnation then."""
        try:
            await incarnation.activate(incarnation.config.limits.start_timeout)
        except BaseException:
            await shielded(incarnation.kill("activate() failed"))
            raise

    def serve(self, incarnation: Incarnation) -> None:
        """Make ``incarnation`` the one that events go to."""
        if incarnation.config != self.config:  # its mod.yaml says something else than the former one's
            self.adopt(incarnation.config)
        self.incarnation, self._about = incarnation, incarnation.number
        self.is_member = True
        self.happened(Trigger.ACTIVATED, facts=Facts(incarnation))
        if (ended := incarnation.pipe.closed) is not None:  # in the very moment
            self._lost(incarnation, ended)

    async def keep_sources(self, incarnation: Incarnation) -> None:
        """A good version is running: keep its sources, so that a restart does not pick up a half-finished edit.

        Those of a version on probation are kept beside those of the former one.
        """
        probation = self.probation
        try:
            self.has_snapshot = False
            modules = await incarnation.pipe.request(messages.SNAPSHOT, {}, self.config.limits.start_timeout)
            self._shared.recipe.compiled.take((self.config.path, incarnation.home.folder), modules)
            self.sources = await self._shared.recipe.snapshots.write(
                self.mod_id,
                self.config.path,
                modules,
                incarnation.home,
                self.config.as_asked.version,
                on_trial=probation is not None,
            )
            if probation is None:
                self.has_snapshot = True
            else:
                probation.sources_kept = True
        except (ModvisorError, TimeoutError, OSError) as error:
            self.sources = None
            logger.warning(
                "mod %s: no snapshot of its sources, restarts will read the working files: %s", self.mod_id, error
            )
        self._shared.listener.changed()

    async def take_checkpoint(self, incarnation: Incarnation, state: Any, version: str) -> None:
        """Keep what a worker calls the state of the mod, as long as it speaks for it; raises `ModvisorError` if not.

        It does when it serves, or did until the end that it is being brought to, and from its activate() on. While another
        still serves it is kept as soon as the switch is made: the reload may come to nothing.
        """
        if incarnation.number == self._about or (incarnation.activating and self.incarnation is None):
            await self.checkpoints.keep(state, version)
        elif incarnation.activating and incarnation.number > self._about:
            incarnation.early_checkpoint = state, version
        else:
            text = f"mod {self.mod_id}: no checkpoint is kept of a worker that does not serve yet, or no more"
            raise ModvisorError(text, code=Code.CONFLICT)

    # -- keeping

    def keep(self, incarnation: Incarnation) -> None:
        """Follow ``incarnation``, which serves, and its successors in a task of the network, until `stop_keeping`."""
        assert incarnation is self.incarnation
        self._start_keeping()

    def _start_keeping(self) -> None:
        self._keeping, self._kept = anyio.CancelScope(), anyio.Event()
        self._shared.tasks.start_soon(self._keep, self._keeping, self._kept, name=f"keep-{self.mod_id}")

    async def stop_keeping(self) -> None:
        """End the task that follows the incarnations, and a restart that is under way in it: the caller goes on instead."""
        if self._keeping is not None:
            self._keeping.cancel()
            try:
                await shielded(self._kept.wait())
            except asyncio.CancelledError:  # or gives up: then all goes on as it was
                self._start_keeping()
                raise
            self._keeping = None

    async def _keep(self, scope: anyio.CancelScope, kept: anyio.Event) -> None:
        try:
            with scope:
                while True:
                    if self.incarnation is not None:
                        await self._live(self.incarnation)
                    if self.state is State.BACKOFF:
                        await self._wait_and_try(self._delay, Trigger.BACKOFF_ELAPSED)
                    elif self.state is State.QUARANTINED and (delay := self._policy.next_probe()) is not None:
                        await self._wait_and_try(delay, Trigger.PROBE_DUE)
                    elif self.state in (State.RESTARTING, State.PROBING):  # it was begun before, and cut short
                        await self._try()
                    else:
                        return
        finally:
            kept.set()

    async def _live(self, incarnation: Incarnation) -> None:
        """One incarnation, until its process ends: feed its observers, watch that its loop is alive."""
        try:
            async with anyio.create_task_group() as self._life:
                self._life.start_soon(self.copies.feed, incarnation.in_flight)
                self._life.start_soon(self._watch, incarnation)
                if self.state is State.ENDING:  # since before anybody followed it
                    facts = Facts(incarnation, reason=str(incarnation.pipe.closed))
                    self._life.start_soon(self._kill_soon, facts)
                await asyncio.shield(incarnation.process.exited)
                self._life.cancel_scope.cancel()
        finally:
            self._life = None
        self.incarnation = None
        exit = incarnation.process.exited.result()
        self.happened(Trigger.EXITED, of=incarnation.number, facts=Facts(incarnation, exit))

    async def _wait_and_try(self, delay: float, due: Trigger) -> None:
        """After ``delay`` seconds, the next incarnation."""
        about = self._about
        await anyio.sleep(delay)
        if self._about == about:
            self.happened(due, of=about)
            await self._try()

    async def _try(self) -> None:
        """The next incarnation, of the last good version."""
        try:
            if self.probation is not None and self.probation.can_revert:
                incarnation = await self._former_version(self.probation)
            else:
                incarnation = await self.start_incarnation(from_snapshot=self.has_snapshot, restore=True)
            await self.activate(incarnation)
        except StartFailed as error:
            self._about = self._number
            reason = self.quarantined or str(error)
            self.happened(Trigger.START_FAILED, of=self._number, facts=Facts(error=error, reason=reason))
        else:
            self.serve(incarnation)

    async def _watch(self, incarnation: Incarnation) -> None:
        """Ping the mod's own event loop."""
        hang_timeout = self.config.limits.hang_timeout
        while incarnation.pipe.closed is None:
            await anyio.sleep(hang_timeout / 2)
            due = self._loop.time() + hang_timeout
            if await incarnation.answers(hang_timeout) or incarnation.pipe.closed is not None:
                continue
            if self._loop.time() - due > STALL:  # we stood still ourselves: the answer may lie in the pipe
                continue
            incarnation.end(f"its event loop was blocked for more than {hang_timeout:g} s", Cause.HANG)
            self.happened(Trigger.HEARTBEAT_MISSED, of=incarnation.number, facts=Facts(incarnation))
            return

    # -- actions

    def _serve(self, facts: Facts) -> None:
        incarnation = facts.incarnation
        assert incarnation is not None
        self.manifest, incarnation.served_since = incarnation.manifest, self._loop.time()
        self.caller.open(incarnation.in_flight)
        self._shared.tasks.start_soon(self.durable.resume, name=f"resume-{self.mod_id}")

    def _hold(self, facts: Facts) -> None:
        self.caller.hold()

    def _refuse(self, facts: Facts, code: str = Code.MOD_AWAY) -> None:
        self.caller.refuse(ModvisorError(facts.reason, code=code))
        self.durable.pause()

    async def _dump(self, facts: Facts) -> None:
        if (incarnation := facts.incarnation) is not None:
            await incarnation.dump_stacks()

    async def _kill(self, facts: Facts) -> None:
        if (incarnation := facts.incarnation) is not None:
            incarnation.kill_now()

    async def _kill_soon(self, facts: Facts) -> None:
        await anyio.sleep(LAST_MOMENT)
        if (incarnation := facts.incarnation) is not None and not incarnation.process.exited.done():
            incarnation.end(facts.reason, Cause.EXITED)
            incarnation.kill_now()

    def _report(self, facts: Facts) -> None:
        incarnation, exit = facts.incarnation, facts.exit
        if facts.error is not None:
            report = report_of_start(self.mod_id, self._number, facts.error, self.log)
            self.last_error = f"restart failed: {facts.error}"
        else:
            assert incarnation is not None
            assert exit is not None
            report = report_of_end(incarnation, exit, self._shared.listener.resources_of(incarnation.pid))
            self.last_error = f"incarnation {incarnation.number} (pid {incarnation.pid}) ended: {report.detail}"
        self.crashes.add(report)
        if incarnation is not None and not incarnation.in_flight.report.done():
            incarnation.in_flight.report.set_result(report)
        logger.warning("mod %s: %s", self.mod_id, self.last_error)

    def _decide(self, facts: Facts) -> None:
        if self.probation is not None and self.probation.can_revert:
            self._delay = 0.0  # for the former version, see `_try`
            return
        incarnation, exit = facts.incarnation, facts.exit
        clean = exit is not None and exit.clean and incarnation is not None and incarnation.end_reason is None
        served = incarnation.served if incarnation is not None else 0.0
        charged = incarnation is None or incarnation.in_flight.killed_by is None
        match self._policy.exited(self._loop.time(), clean=clean, uptime=served, charged=charged):
            case Restart(delay):
                self._delay = delay
            case GiveUp(reason):
                why = f"mod {self.mod_id} is quarantined: {reason}; last: {self.last_error}"
                self.happened(Trigger.GAVE_UP, facts=Facts(reason=why))
                logger.error("%s", why)
            case None:
                policy = self.config.restart.policy
                why = f"mod {self.mod_id} has ended and its policy is '{policy}': {self.last_error}"
                self.happened(Trigger.NOT_RESTARTED, facts=Facts(reason=why))
                logger.error("%s", why)

    def _count_restart(self, facts: Facts) -> None:
        self.counters.restarts += 1

    def _recycle(self, facts: Facts) -> None:
        self._shared.listener.recycle(self, facts.reason)

    def _keep_quarantine(self, facts: Facts) -> None:
        self.quarantined = facts.reason
        self._shared.journal.quarantine(
            Quarantine(self.mod_id, self.config.path, facts.reason, time.time(), fingerprint(self.config))
        )

    def _release(self, facts: Facts) -> None:
        self.quarantined = None
        self._shared.journal.release(self.mod_id)

    async def _do_in_turn(self, work: list[Callable[[Keeper, Facts], Awaitable[None]]], facts: Facts) -> None:
        for do in work:
            await do(self, facts)

    _actions: ClassVar[dict[Action, Callable[[Keeper, Facts], None]]] = {
        Action.SERVE: _serve,
        Action.HOLD: _hold,
        Action.REFUSE: _refuse,
        Action.REPORT: _report,
        Action.DECIDE: _decide,
        Action.COUNT_RESTART: _count_restart,
        Action.RECYCLE: _recycle,
        Action.KEEP_QUARANTINE: _keep_quarantine,
        Action.RELEASE: _release,
    }
    # What takes time, and ends with the incarnation it is about.
    _works: ClassVar[dict[Action, Callable[[Keeper, Facts], Awaitable[None]]]] = {
        Action.DUMP: _dump,
        Action.KILL: _kill,
        Action.KILL_SOON: _kill_soon,
    }

    # -- what the incarnations tell

    def _request(self, incarnation: Incarnation, request: Request) -> None:
        self._shared.listener.request(self, incarnation, request)

    # -- becoming another

    async def take_over(
        self, new: Incarnation, state: tuple[Any, str] | None, *, probation: float | None, rests: bool
    ) -> list[Incarnation]:
        """The switch of a reload or swap: ``new`` serves from here on. Not to be interrupted: shield it.

        Args:
            state: what was handed over to it, and the version it is of.
            probation: seconds in which it is rolled back if it fails; None: it stands at once.
            rests: the one that served is deactivated, and can be activated again.

        Returns:
            the incarnations it supersedes, for the caller to end.
        """
        await self.stop_keeping()
        old = self._let_go()
        can_revert = self._probation_of(new, old if rests else None, state, probation)
        self._give_up_probation()
        self._switch_to(new, state)
        self._tally_at_switch = self._tally()
        self.copies.release()
        if can_revert is not None:
            self.probation = can_revert
            self._shared.tasks.start_soon(self._see_through, can_revert, name=f"probation-{self.mod_id}")
        return [] if old is None or old.is_resting else [old]

    async def make_way(self) -> Incarnation | None:
        """Before what cannot be beside it is started: events wait. The one that served is the caller's to end."""
        await self.stop_keeping()
        old = self._let_go()
        self.happened(Trigger.REPLACE_REQUESTED)
        return old

    async def come_back(self, config: ModConfig, state: tuple[Any, str] | None) -> None:
        """After `make_way`: the former version again, from its kept sources, since no other came to serve."""
        try:
            incarnation = await self.start_incarnation(config=config, from_snapshot=self.has_snapshot)
            try:
                if state is not None:
                    await incarnation.restore(*state, config.limits.start_timeout)
                await incarnation.activate(config.limits.start_timeout)
            except BaseException:
                await shielded(incarnation.kill("it did not come back"))
                raise
        except StartFailed as error:
            self.last_error = str(error)
            self.happened(Trigger.START_FAILED, facts=Facts(reason=f"mod {self.mod_id} failed to start: {error}"))
            return
        self.serve(incarnation)
        self.keep(incarnation)
        self.copies.release()

    def _switch_to(self, new: Incarnation, state: tuple[Any, str] | None = None) -> None:
        self.adopt(new.config, new.log)
        self.has_snapshot = False  # until the sources of the new one are kept, a restart reads the working files
        state = new.early_checkpoint or (state if self.checkpoints.are_kept else None)
        if state is not None:
            # The former checkpoint is of what was before. Begun first: no checkpoint of the new one is to be overtaken by it.
            self.checkpoints.keep_soon(*state)
        self.serve(new)
        self.keep(new)

    # -- probation

    def _tally(self) -> Tally:
        counters = self.counters
        return Tally(counters.answered + counters.passed + counters.errors, counters.errors)

    def _probation_of(
        self,
        new: Incarnation,
        resting: Incarnation | None,
        state: tuple[Any, str] | None,
        seconds: float | None,
    ) -> Probation | None:
        """What it takes to go back from ``new`` to what served until now; None if that is not to be, or cannot be."""
        standby = resting if resting is not None and self._has_room_for(resting, new.config.limits.memory) else None
        probation = Probation(
            config=replace(self.config, audience=self.audience),
            manifest=self.manifest,
            resting=standby,
            state=state,
            has_snapshot=self.has_snapshot,
            before=self._tally().since(self._tally_at_switch),
            until=self._loop.time() + (seconds or 0.0),
        )
        if not seconds or not probation.can_revert:
            return None
        if standby is not None:
            standby.is_resting = True
        return probation

    def _has_room_for(self, resting: Incarnation, memory: int | None) -> bool:
        """Whether two such processes are within the limit of one mod."""
        if memory is None:
            return True
        sample = self._shared.listener.resources_of(resting.pid)
        return sample is not None and 2 * (sample.get("rss") or memory) <= memory

    async def begin_probation(self, seconds: float | None) -> None:
        """The reload stands for good after so many seconds from now; None: at once."""
        if seconds is None:
            await self.end_probation()
        elif self.probation is not None:
            self.probation.until = self._loop.time() + seconds

    async def _see_through(self, probation: Probation) -> None:
        """Until the new version is accepted, or has failed too often."""
        with probation.over:
            while (left := probation.until - self._loop.time()) > 0:
                await anyio.sleep(min(left, INTERVAL))
                why = has_failed(probation.before, self._tally().since(self._tally_at_switch))
                if why is not None and probation.can_revert and self.state is State.READY:
                    self._shared.listener.revert(self, probation, why)
                    return
            await self.end_probation()

    async def end_probation(self, deadline: float | None = None, *, wait: bool = True) -> None:
        """The version that serves is accepted: there is no way back from here on.

        Args:
            deadline: loop time by which the former one has ended.
            wait: for that end.
        """
        async with self._judging:
            probation, self.probation = self.probation, None
            if probation is not None:
                probation.over.cancel()
                await shielded(self._accept(probation))
        if probation is not None and (standby := probation.resting) is not None:
            if deadline is None:
                deadline = self._loop.time() + self.config.limits.unload_timeout
            if wait:
                await shielded(self._end_resting(standby, deadline))
            else:
                self._shared.tasks.start_soon(self._end_resting, standby, deadline, name=f"standby-{self.mod_id}")

    async def _end_resting(self, standby: Incarnation, deadline: float) -> None:
        await shielded(standby.stop(deadline))
        if standby.log is not self.log:
            standby.log.close()

    async def _accept(self, probation: Probation) -> None:
        try:
            if probation.sources_kept:
                await self._shared.recipe.snapshots.accept(self.mod_id)
                self.has_snapshot = True
        except OSError as error:
            logger.warning("mod %s: no snapshot of its sources, restarts will read the working files: %s",
                           self.mod_id, error)  # fmt: skip
        if probation.config.mod_id != self.mod_id:
            await self.forget_sources(probation.config.mod_id)

    async def forget_sources(self, mod_id: str) -> None:
        """Those of the mod that this one has taken the place of."""
        await shielded(self._shared.recipe.snapshots.forget(mod_id))

    def _give_up_probation(self) -> None:
        """Nobody is to judge it any more."""
        if self.probation is not None:
            self.probation.over.cancel()
            self.probation = None

    def take_resting(self, probation: Probation) -> Incarnation | None:
        """The former incarnation, to serve again; None if there is none (any more)."""
        standby, probation.resting = probation.resting, None
        if standby is None or standby.pipe.closed is not None:
            return None
        self._number += 1
        standby.number, standby.is_resting = self._number, False  # its second life is told apart from the first
        return standby

    async def _former_version(self, probation: Probation) -> Incarnation:
        """The new version died on probation: the former one, in the state of the last checkpoint, else of the hand-over."""
        self._give_up_probation()
        failed, failed_id = self.manifest.version if self.manifest is not None else None, self.mod_id
        incarnation = self.take_resting(probation)
        try:
            self.adopt(probation.config, None if incarnation is None else incarnation.log)
            self.has_snapshot = probation.has_snapshot
            self.note_rollback(failed, probation, self.last_error or "it ended")
            if failed_id != self.mod_id:
                await self.forget_sources(failed_id)
            state = await self._state_to_go_back_to(probation)
            if incarnation is None:
                incarnation = await self.start_incarnation(from_snapshot=self.has_snapshot)
            if state is not None:
                await incarnation.restore(*state, incarnation.config.limits.start_timeout)
        except BaseException:
            if incarnation is not None:
                await shielded(incarnation.kill("it did not come back"))
            raise
        return incarnation

    async def _state_to_go_back_to(self, probation: Probation) -> tuple[Any, str] | None:
        try:
            checkpoint = await self.checkpoints.newest()
        except ModvisorError as error:
            logger.warning("mod %s: its checkpoint cannot be read, it goes on as it was at the switch: %s",
                           self.mod_id, error)  # fmt: skip
            checkpoint = None
        return probation.state if checkpoint is None else (checkpoint.state, checkpoint.version)

    def note_rollback(self, failed: str | None, probation: Probation, why: str) -> None:
        """Version ``failed`` has given way to the former one."""
        self.counters.rollbacks += 1
        self._tally_at_switch = self._tally()
        self.last_rollback = f"version {failed} failed on probation, version {probation.version} serves again: {why}"
        self._shared.listener.reverted(self, self.last_rollback)

    def adopt(self, config: ModConfig, log: ModLog | None = None) -> None:
        """Be the mod of ``config`` from now on: the same with other settings, or another one with counts of its own."""
        if config.mod_id != self.mod_id:
            self._shared.journal.hand_on(self.mod_id, config.mod_id)
            self.caller.mod_id = self.checkpoints.mod_id = config.mod_id
            self.log, former = log or self._shared.recipe.log_of(config.mod_id), self.log
            former.close()
            self.counters = self.caller.counters = self.copies.counters = ModCounters()
            self.loaded_at = time.time()
            self.audience = config.audience
        self.config = self.caller.config = config
        self.copies.size, self.copies.max_bytes = config.limits.observe_queue, config.limits.queue_bytes
        self.checkpoints.are_kept = self.checkpoints.are_kept or config.checkpoint_every is not None
        self._policy = _policy_of(config)


async def drain(in_flight: InFlight, deadline: float) -> bool:
    """Wait until ``in_flight`` handles nothing more; False when loop time ``deadline`` comes first."""
    try:
        async with asyncio.timeout_at(deadline):
            await in_flight.drained()
    except TimeoutError:
        return False
    return True


def _policy_of(config: ModConfig) -> RestartPolicy:
    restart = config.restart
    return RestartPolicy(
        policy=restart.policy,
        max_restarts=restart.max_restarts,
        window=restart.window,
        first_delay=restart.first_delay,
        max_delay=restart.max_delay,
        healthy_after=restart.healthy_after,
        probe_after=restart.probe_after,
    )
