"""Keeps one mod alive: starts its incarnations, follows them, and ends them. One keeper per worker.

The keeper decides nothing alone: it reports what happened, and the table of `states` says what
follows (`machine`). For `reload` it has four verbs: `start_incarnation`, `serve`, `let_go` and `follow`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import anyio

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event, EventResponse
from ...ipc.manifest import Manifest
from ..calls import Journey
from ..config import ModConfig
from ..journal import Quarantine
from ..process import ModLog, shielded
from ..sources import SourceFiles, files_read
from .heartbeats import why_silent
from .incarnation import Incarnation, Listeners, StartFailed
from .listener import Shared
from .machine import Facts, Machine
from .starting import naming
from .states import State, Trigger
from .trial import Probation
from .trial_process import TrialProcess


class Keeper(Machine):
    """Keeps one worker of a mod alive; of a mod with one worker, the mod.

    Commands (`start`, `unload`, `reload`) are serialised by `lock`, which the caller holds.

    Attributes:
        command: cancels the load, reload or swap that is under way.
        start_ms: milliseconds from launch to ready, of the newest start that a command asked for.
        beside: the trial process, which runs suspects beside the incarnation that serves.
        files_read: files that a first start had read when it failed.
    """

    def __init__(self, config: ModConfig, log: ModLog, shared: Shared, number: int = 0) -> None:
        super().__init__(config, log, shared, number)
        self.lock = anyio.Lock(fast_acquire=True)  # a free one takes no turn of the loop
        self.command: anyio.CancelScope | None = None
        self.start_ms: float | None = None
        self.beside = TrialProcess(self, self.caller, shared.tasks, shared.heartbeats)
        self.files_read: tuple[str, ...] = ()
        self._keeping: anyio.CancelScope | None = None  # of the task that follows the incarnation
        self._kept = anyio.Event()  # set when that task has ended

    @property
    def keepers(self) -> list[Keeper]:
        """Itself, as the only worker of its mod."""
        return [self]

    @property
    def sources(self) -> SourceFiles | None:
        """Files of the newest version that served."""
        return self.kept.files

    # -- events

    def ask(self, journey: Journey) -> Awaitable[EventResponse | Event | None]:
        """Ask the mod about an event; see `Caller.ask`."""
        return self.durable.ask(journey) if self.config.durable else self.caller.ask(journey)

    async def ask_again(self, journey: Journey) -> EventResponse | Event | None:
        """Ask about an event that was given up before: it is not accepted a second time."""
        return await self.caller.ask(journey)

    def observe(self, event: dict[str, Any]) -> None:
        """Queue a copy for the mod's observers."""
        self.copies.observe(event)

    def notify(self, event: dict[str, Any]) -> None:
        """Queue a notification for the mod's handlers."""
        self.copies.notify(event)

    def close_log(self) -> None:
        self.log.close()

    # -- start

    async def start(self, *, from_snapshot: bool = False) -> Manifest:
        """Start the first incarnation, from the working files unless told otherwise, and serve.

        Raises:
            StartFailed: the state is `failed` and nothing is left of the attempt. The state is
                `failed`, too, when the caller gives up.
        """
        if self.state is not State.STARTING:
            self.happened(Trigger.START_REQUESTED)
        async with self.beside.held(self.config.limits.drain_timeout, wait=True):
            return await self._started(from_snapshot)

    async def _started(self, from_snapshot: bool) -> Manifest:
        began = time.perf_counter()
        try:
            incarnation = await self.start_incarnation(
                from_snapshot=from_snapshot and self.kept.has_snapshot, restore=True, active=True
            )
        except BaseException as error:
            why = error if isinstance(error, StartFailed) else "whoever asked for it gave up"
            self.files_read = files_read(error.details) if isinstance(error, StartFailed) else ()
            held_up = isinstance(error, StartFailed) and error.code == Code.CLUSTER_DOWN
            self.not_started(str(why), f"mod {self.mod_id} failed to start: {why}", is_held_up=held_up)
            raise
        self.serve(incarnation)
        return await self.note_start(incarnation, began)

    async def note_start(self, incarnation: Incarnation, began: float) -> Manifest:
        """Note how long a start took that a command asked for, and keep its sources."""
        self.start_ms = round((time.perf_counter() - began) * 1000, 1)
        await self.keep_sources(incarnation)
        assert self.manifest is not None
        return self.manifest

    def not_started(self, why: str, reason: str | None = None, *, is_held_up: bool = False) -> None:
        """Take note that the mod was not started; events are refused with ``reason`` or ``why``.

        Args:
            is_held_up: the servers of the cluster were away, so it is tried again, here or on another node.
        """
        self.last_error, self.loaded_at = why, None
        if self.state is State.STOPPED:  # the mod was taken away meanwhile, and ended so
            return
        self.happened(Trigger.START_FAILED, facts=Facts(reason=reason or why, is_held_up=is_held_up))

    def stay_quarantined(self, quarantine: Quarantine) -> None:
        """Stay in the quarantine of the previous run: no command has started the mod since."""
        self.last_error, self.quarantined = quarantine.reason, quarantine.reason
        self.happened(Trigger.QUARANTINE_KEPT, facts=Facts(reason=quarantine.reason))
        self.follow()

    async def start_incarnation(
        self,
        *,
        config: ModConfig | None = None,
        from_snapshot: bool = False,
        restore: bool = False,
        active: bool = False,
    ) -> Incarnation:
        """Start a process that has imported and initialized the mod.

        Raises `StartFailed`; no process is left then.

        Args:
            config: of the mod to become, if it is another one than now (see `adopt`).
            from_snapshot: run the kept sources of the mod.
            restore: give the mod the state of the last checkpoint, if there is one.
            active: activate the mod, too: the last step before it serves.
        """
        shared, config = self._shared, config or self.config
        self.number += 1
        number, log = self.number, self.log if config.mod_id == self.mod_id else shared.recipe.log_of(config.mod_id)
        found = await shared.recipe.find(config, from_snapshot=from_snapshot)
        if found.modules is None:
            with naming(config.mod_id):
                shared.listener.check_needs(found.config)
        order = await shared.recipe.order(found, number)
        if order.traces is not None:
            order.traces.committed = shared.journal.committed
        listeners = Listeners(self._request, shared.listener.cancelled, self._lost_pipe, self._exceeded)
        incarnation = await Incarnation.start(order, shared.launcher, log, listeners)
        if order.traces is not None:
            shared.start(order.traces.remove_after, incarnation.process.exited, incarnation.in_flight.report)
        if not from_snapshot:
            await self._admit(incarnation)
        if restore:
            await self.checkpoints.restore(incarnation)
        if active:
            await incarnation.activate_or_kill()
        return incarnation

    async def _admit(self, incarnation: Incarnation) -> None:
        """Check that other mods can do with this version.

        Raises `StartFailed`, and the incarnation has ended then.
        """
        assert incarnation.manifest is not None
        try:
            with naming(self.mod_id):
                self._shared.listener.admit(self.config.name, incarnation.config, incarnation.manifest.version)
        except StartFailed:
            await shielded(incarnation.kill("the mods that need it cannot do with it"))
            raise

    # -- serve

    def serve(self, incarnation: Incarnation) -> None:
        """Give the events to ``incarnation`` from now on, and follow it until `let_go`."""
        self._serve_with(incarnation)
        self.follow()

    def _serve_with(self, incarnation: Incarnation) -> None:
        if incarnation.config != self.config:  # its mod.yaml says something else than the previous one
            restarts = self.restarts
            self.adopt(incarnation.config)
            self.recall_restarts(restarts)
        self.incarnation, self._speaks_for = incarnation, incarnation.number
        self.is_member = True
        self.happened(Trigger.ACTIVATED, facts=Facts(incarnation))
        if (ended := incarnation.pipe.closed) is not None:  # at this very moment
            self._lost(incarnation, ended)
        self.beside.served()

    async def keep_sources(self, incarnation: Incarnation) -> None:
        """Keep the sources of a version that serves, which a restart runs."""
        probation = self.probation
        if await self.kept.keep(incarnation, on_trial=probation is not None) and probation is not None:
            probation.sources_kept = True
        self.beside.look()
        self._shared.listener.changed()

    async def take_checkpoint(self, incarnation: Incarnation, state: Any, version: str) -> None:
        """Keep a state that a worker reports. Raises `ModvisorError` unless it speaks for the mod.

        It speaks for the mod from its activate() on, and until its end is over. While another
        incarnation still serves, the state is kept at the switch only: the reload may fail.
        """
        if incarnation.number == self._speaks_for or (incarnation.activating and self.incarnation is None):
            await self.checkpoints.keep(state, version)
        elif incarnation.activating and incarnation.number > self._speaks_for:
            incarnation.early_checkpoint = state, version
        else:
            text = f"mod {self.mod_id}: no checkpoint is kept of a worker that does not serve yet, or no more"
            raise ModvisorError(text, code=Code.CONFLICT)

    def _lost_pipe(self, incarnation: Incarnation, reason: ModvisorError) -> None:
        self._lost(incarnation, reason)
        self.beside.lost(incarnation)

    # -- suspects

    async def start_trial(self) -> Incarnation:
        incarnation = await self.start_incarnation(from_snapshot=True, active=True)
        if not incarnation.from_snapshot:  # the working files may be newer than what serves
            await shielded(incarnation.kill("its kept sources are gone"))
            raise StartFailed(f"mod {self.mod_id}: its kept sources are gone")
        return incarnation

    @property
    def incarnations(self) -> list[Incarnation]:
        """The processes that handle events: the one that serves, and the trial process."""
        return [each for each in (self.incarnation, self.beside.incarnation) if each is not None]

    # -- follow

    def follow(self) -> None:
        """Follow the incarnation and its successors in a task, until `let_go` or `stop_keeping`."""
        self._keeping, self._kept = anyio.CancelScope(), anyio.Event()
        self._shared.tasks.start_soon(self._keep, self._keeping, self._kept, name=f"keep-{self.mod_id}")

    async def stop_keeping(self) -> None:
        """End the task that follows the incarnations, with a restart that is under way in it."""
        if self._keeping is not None:
            self._keeping.cancel()
            try:
                await shielded(self._kept.wait())
            except asyncio.CancelledError:  # the caller gives up: all goes on as before
                self.follow()
                raise
            self._keeping = None

    async def let_go(self) -> Incarnation | None:
        """Stop following the incarnation, and leave it to the caller, who ends it."""
        await self.stop_keeping()
        incarnation, self.incarnation = self.incarnation, None
        if incarnation is not None and (self.state is State.ENDING or incarnation.process.exited.done()):
            ending = incarnation  # it was ending already: its end is reported all the same
            ending.process.exited.add_done_callback(lambda exit: self._report(Facts(ending, exit.result())))
        return incarnation

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
                    elif self.state in (State.RESTARTING, State.PROBING):  # a restart was begun and cut short
                        await self._try()
                    else:
                        return
        finally:
            kept.set()

    async def _live(self, incarnation: Incarnation) -> None:
        """Feed the observers and watch the loop of one incarnation, until its process ends."""
        hang_timeout = self.config.limits.hang_timeout
        heartbeat = self._shared.heartbeats.follow(
            incarnation.pipe, hang_timeout, lambda: self._hangs(incarnation, hang_timeout)
        )
        try:
            async with anyio.create_task_group() as self._life:
                self._life.start_soon(self.copies.feed, incarnation.in_flight)
                if self.state is State.ENDING:  # since before it was followed
                    facts = Facts(incarnation, reason=str(incarnation.pipe.closed))
                    self._life.start_soon(self._kill_soon, facts)
                await asyncio.shield(incarnation.process.exited)
                self._life.cancel_scope.cancel()
        finally:
            self._life = None
            heartbeat.stop()
        self.incarnation = None
        self.ended(Facts(incarnation, incarnation.process.exited.result()), of=incarnation.number)

    def _hangs(self, incarnation: Incarnation, hang_timeout: float) -> None:
        """End an incarnation whose event loop has not answered a ping."""
        incarnation.end(*why_silent(incarnation, hang_timeout))
        self.happened(Trigger.HEARTBEAT_MISSED, of=incarnation.number, facts=Facts(incarnation))

    async def _wait_and_try(self, delay: float, due: Trigger) -> None:
        """Start the next incarnation after ``delay`` seconds."""
        about = self._speaks_for
        await anyio.sleep(delay)
        if self._speaks_for == about:
            self.happened(due, of=about)
            await self._try()

    async def _try(self) -> None:
        """Start the next incarnation, of the last good version."""
        try:
            if (probation := self.probation) is not None and probation.can_revert:
                incarnation = await self._previous_version(probation)
                await incarnation.activate_or_kill()
            else:
                incarnation = await self.start_incarnation(
                    from_snapshot=self.kept.has_snapshot, restore=True, active=True
                )
        except StartFailed as error:
            self._speaks_for = self.number
            self.ended(Facts(error=error, reason=self.quarantined or str(error)), of=self.number)
        else:
            self._serve_with(incarnation)

    # -- go back

    def take_resting(self, probation: Probation) -> Incarnation | None:
        """Take the last incarnation of the previous version; None if it has ended."""
        if (resting := probation.take_resting()) is not None:
            self.number += 1
            resting.number = self.number  # its second life is told apart from its first
        return resting

    async def _previous_version(self, probation: Probation) -> Incarnation:
        """Go back from a version that ended on probation. Raises `StartFailed`.

        The state is that of the last checkpoint, or else the one that was handed over.
        """
        self.trial.give_up()
        failed, failed_id = self.manifest.version if self.manifest is not None else None, self.mod_id
        number = self.serving
        incarnation = self.take_resting(probation)
        try:
            self.be_again(probation.config, None if incarnation is None else incarnation.log)
            self.kept.has_snapshot = probation.has_snapshot
            self.note_revert(failed, number, probation, self.last_error or "it ended")
            if failed_id != self.mod_id:
                await self.kept.forget(failed_id)
            state = await self.checkpoints.newest_or(probation.state)
            if incarnation is None:
                incarnation = await self.start_incarnation(from_snapshot=self.kept.has_snapshot)
            if state is not None:
                await incarnation.restore(*state, incarnation.config.limits.start_timeout)
        except BaseException:
            if incarnation is not None:
                await shielded(incarnation.kill("it did not come back"))
            raise
        return incarnation

    # -- unload

    def leave(self, why: str) -> None:
        """Refuse the events that wait: the mod leaves this node for another one, where they may go on."""
        self._refuse(Facts(reason=f"mod {self.mod_id} is being ended here: {why}"))

    async def unload(
        self, timeout: float | None = None, *, keep_state: bool = False, forget: bool = False, leaves: str = ""
    ) -> None:
        """Drain, shut down, end. Always succeeds; afterwards no process of the mod is left.

        Args:
            timeout: seconds for all of it; None: as the mod's limits say.
            keep_state: the network ends, and the mod's state is kept: one more checkpoint if it has any.
            forget: remove the kept sources, too: the mod does not come back by itself.
            leaves: why the mod leaves this node for another one, as the events that still wait are told.
        """
        loop, limits = self._loop, self.config.limits
        deadline = loop.time() + (limits.unload_timeout if timeout is None else timeout)
        await self.trial.end(deadline)
        incarnation = await self.let_go()
        self.happened(Trigger.UNLOAD_REQUESTED)
        # Events that still wait are refused; those in flight may finish.
        code, what = (Code.NOT_RUNNING, "shut down") if keep_state else (Code.NO_SUCH_MOD, "unloaded")
        if leaves:
            code, what = Code.MOD_AWAY, f"ended here: {leaves}"
        self._refuse(Facts(reason=f"mod {self.mod_id} is being {what}"), code)
        patience = min((deadline - loop.time()) / 2, limits.drain_timeout)
        if self.beside.is_under_way:
            await asyncio.gather(self._finish(incarnation, patience, keep_state), self.beside.end(patience))
        else:
            await self._finish(incarnation, patience, keep_state)
        # Sources are removed while the process ends, because there is nothing else to do. When the
        # network ends they stay until then: a supervisor that is killed meanwhile needs them.
        forgetting = asyncio.ensure_future(self.kept.forget_quietly(self.mod_id)) if forget and not keep_state else None
        try:
            if incarnation is not None:
                await shielded(incarnation.stop(deadline))
            self.happened(Trigger.UNLOADED)
            self.log.close()
        finally:
            if forgetting is not None:
                await forgetting
            elif forget:
                await self.kept.forget_quietly(self.mod_id)

    async def _finish(self, incarnation: Incarnation | None, seconds: float, keep_state: bool) -> None:
        """Let the events in flight finish, unless the loop of the worker is blocked."""
        if incarnation is None:
            return
        in_flight, keep_state = incarnation.in_flight, keep_state and self.checkpoints.are_kept
        if not (in_flight.is_busy or keep_state) or not await incarnation.answers(seconds / 2):
            return
        deadline = self._loop.time() + seconds / 2
        if await incarnation.drained(deadline) and keep_state:
            await self.checkpoints.keep_last(incarnation, deadline)
