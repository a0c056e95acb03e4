"""One mod's state and what it holds, moved by the table of `states` alone.

What happened is looked up in the table; the actions found there are the methods below ``-- actions``.
An end is reported and decided about first, and the move follows (`ended`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import anyio
from anyio.abc import TaskGroup

from ...ipc.errors import Code, ModvisorError, PipeClosed
from ...ipc.manifest import Manifest
from ...ipc.messages import Request
from ..calls import CopyQueue, DurableEvents, ModCounters, events_of
from ..config import ModConfig, fingerprint
from ..journal import Quarantine
from ..limits import Exceeded
from ..process import Cause, CrashLog, CrashReport, Exit, ModLog
from .checkpoints import Checkpoints
from .crash_report import report_of_end, report_of_start
from .incarnation import LAST_MOMENT, Incarnation, StartFailed
from .kept_sources import KeptSources
from .listener import Shared
from .restart_policy import GiveUp, Restart, RestartHistory, RestartPolicy
from .states import Action, State, Trigger, next_move
from .trial import Probation, Trial
from .trial_process import permits_trials

logger = logging.getLogger("modvisor.keeper")


@dataclass(frozen=True, slots=True)
class Facts:
    """Details of a trigger, passed to its actions."""

    incarnation: Incarnation | None = None
    exit: Exit | None = None
    error: StartFailed | None = None
    reason: str = ""
    is_held_up: bool = False  # by the servers of a cluster: another keeper, here or elsewhere, tries soon


class Machine:
    """The state of one mod, its parts, and what each action does to them.

    Args:
        number: of the newest incarnation that another keeper of the same mod has started.

    Attributes:
        caller: asks the mod about events; ``durable`` for events that must not be lost, ``copies``
            for observers.
        incarnation: the one that events go to; None while the mod is down.
        number: of the newest incarnation.
        manifest: of the newest incarnation that was ready.
        last_error: why the mod last failed to start or ended, for people.
        quarantined: why the mod is in quarantine; None if it is not.
        kept: the kept sources of the mod; ``trial`` watches over a version on probation.
        last_rollback: which version gave way to which one, and why.
        restarts: what counts of its ends; None: nothing.
        audience: whose events the mod gets, None: everybody's; ``promoted``: the number of its last
            promotion, 0: none.
        is_member: the mod is part of the network: it has served, its first start failed, or it was
            in quarantine before.
    """

    def __init__(self, config: ModConfig, log: ModLog, shared: Shared, number: int = 0) -> None:
        self.config = config
        self.log = log
        self.counters = ModCounters()
        self.caller = shared.caller(config, self.counters, shared.ledger)
        self.durable = DurableEvents(
            self.caller, shared.journal, shared.tasks, shared.event_timeout, shared.listener.late_answer
        )
        self.copies = CopyQueue(config.limits.observe_queue, self.counters, config.limits.queue_bytes)
        self.checkpoints = Checkpoints(
            config.mod_id, shared.journal, shared.tasks, are_kept=config.checkpoint_every is not None
        )
        self.kept = KeptSources(shared.recipe)
        self.trial = Trial(self.caller, self.kept, shared.tasks, self._failed_on_trial, shared.listener.changed)
        self.crashes = CrashLog()
        self.state = State.STARTING
        self.incarnation: Incarnation | None = None
        self.number = number
        self.manifest: Manifest | None = None
        self.loaded_at: float | None = None  # Unix seconds: when it came to serve
        self.last_error: str | None = None
        self.quarantined: str | None = None
        self.last_rollback: str | None = None
        self.restarts: RestartHistory | None = None
        self.audience = config.audience
        self.promoted = 0
        self.is_member = False
        self.recycled_at = -math.inf  # loop time
        self._loop = asyncio.get_running_loop()
        self._shared = shared
        self._speaks_for = 0  # the number of the incarnation that the state is about
        self._policy = RestartPolicy(config.restart)
        self._delay = 0.0  # seconds until the next restart
        self._life: TaskGroup | None = None  # of the current incarnation: nothing in it outlives it

    @property
    def mod_id(self) -> str:
        return self.config.mod_id

    @property
    def serving(self) -> int:
        """The number of the incarnation that serves, or that served last."""
        return self._speaks_for

    @property
    def probation(self) -> Probation | None:
        """Of the version that serves since the last reload, until it is accepted."""
        return self.trial.probation

    def resources_of(self, incarnation: Incarnation) -> dict[str, Any] | None:
        """Return the newest sample of what an incarnation uses."""
        return self._shared.listener.resources_of(incarnation.pid)

    def adopt(self, config: ModConfig, log: ModLog | None = None) -> None:
        """Be the mod of ``config`` from now on: the same mod with other settings, or another mod.

        Another mod gets counts and a log of its own.
        """
        if config.mod_id != self.mod_id:
            entry = self._shared.listener.entry_of(self, config)
            self._shared.journal.hand_on(self.mod_id, config.mod_id, entry)
            self.caller.mod_id = self.checkpoints.mod_id = config.mod_id
            self.log.close()
            self.log = log or self._shared.recipe.log_of(config.mod_id)
            self.counters = self.caller.counters = self.copies.counters = ModCounters()
            self.loaded_at = None
            self.audience = config.audience
        self.config = config
        self.caller.adopt(config)
        self.copies.size, self.copies.max_bytes = config.limits.observe_queue, config.limits.queue_bytes
        self.checkpoints.are_kept = self.checkpoints.are_kept or config.checkpoint_every is not None
        self._policy, self.restarts = RestartPolicy(config.restart), None

    def recall_restarts(self, history: RestartHistory | None) -> None:
        """Go on counting ends from what was counted under the same config."""
        if history is not None and history.asked == fingerprint(self.config):
            self.restarts = history
            self._policy.recall(history, self._loop.time(), time.time())

    def be_again(self, config: ModConfig, log: ModLog | None = None) -> None:
        """Be the mod of an earlier config again, which nothing else tells the network."""
        self.adopt(config, log)
        self._shared.listener.changed()

    def permits_trials(self) -> bool:
        """Whether suspects are to wait for a trial process of the version that serves.

        On probation there is none: the first crash brings the previous version back.
        """
        if self.probation is not None or self.checkpoints.are_kept:
            return False
        return self.kept.has_snapshot and permits_trials(self.config, self.manifest)

    def can_start_trial(self) -> bool:
        return self.state is State.READY

    # -- what happened

    def happened(self, trigger: Trigger, *, of: int | None = None, facts: Facts | None = None) -> None:
        """Make the move that the table has for ``trigger``, and carry out its actions.

        Args:
            of: number of the incarnation that a worker or a timer speaks about. What is said about
                an earlier incarnation is ignored.
        """
        if of is not None and of != self._speaks_for:
            return
        move = next_move(self.state, trigger)
        self.state = move.state
        facts = facts or Facts()
        for action in move.actions:
            if action in self._actions:
                self._actions[action](self, facts)
        work = [self._works[action] for action in move.actions if action in self._works]
        if work and self._life is not None:  # else the keeper does the work when it follows the incarnation
            self._life.start_soon(self._do_in_turn, work, facts)
        self._shared.listener.changed()

    def ended(self, facts: Facts, *, of: int) -> None:
        """Report that an incarnation ended or failed to start, decide what follows, and move."""
        if of != self._speaks_for:
            return
        self._report(facts)
        if self.state is State.PROBING:
            self.happened(Trigger.START_FAILED, facts=facts)
            return
        trigger, why = self._decide(facts)
        self.happened(trigger, facts=Facts(facts.incarnation, facts.exit, facts.error, why or facts.reason))
        if why is not None:
            logger.error("%s", why, extra={"mod": self.mod_id})

    def _report(self, facts: Facts) -> None:
        """Add a crash report to the log of crashes, and give it to the events that died."""
        incarnation = facts.incarnation
        if incarnation is None or facts.exit is None:
            assert facts.error is not None
            report = self._masked(report_of_start(self.mod_id, self.number, facts.error, self.log))
            self.last_error = f"restart failed: {report.detail}"
        else:
            report = self._report_of(incarnation, facts.exit)
            self.last_error = f"incarnation {incarnation.number} (pid {incarnation.pid}) ended: {report.detail}"
        self._add(report)
        logger.warning("mod %s: %s", self.mod_id, self.last_error)

    def report_trial(self, incarnation: Incarnation, exit: Exit) -> bool:
        """Report the end of a trial process; return whether the suspects explain it.

        It changes nothing else: the mod goes on serving.
        """
        report = replace(self._report_of(incarnation, exit), trial=True)
        self._add(report)
        text = "mod %s: its trial process, incarnation %d (pid %d), ended: %s"
        logger.warning(text, self.mod_id, incarnation.number, incarnation.pid, report.detail)
        return report.alone

    def _report_of(self, incarnation: Incarnation, exit: Exit) -> CrashReport:
        """Return the report of an end, judge by it, and give it to the events that died."""
        report = self._masked(report_of_end(incarnation, exit, self.resources_of(incarnation)))
        if not incarnation.in_flight.report.done():
            verdict = incarnation.in_flight.judge(report)
            report = replace(report, running=events_of(verdict.named), alone=not verdict.is_of_mod)
            incarnation.in_flight.report.set_result(report)
        return report

    def _masked(self, report: CrashReport) -> CrashReport:
        return report.masked(self._shared.recipe.redaction.text)

    def _add(self, report: CrashReport) -> None:
        self.crashes.add(report)
        self.counters.crashes_by[str(report.cause)] += 1
        self._shared.journal.keep_crash(self.mod_id, report.at, report.to_dict())

    def _decide(self, facts: Facts) -> tuple[Trigger, str | None]:
        """Return what an end amounts to, and why the mod stays down if it does."""
        if self.trial.can_revert:
            self._delay = 0.0  # the previous version starts at once
            return Trigger.EXITED, None
        incarnation, exit = facts.incarnation, facts.exit
        clean = exit is not None and exit.clean and incarnation is not None and incarnation.end_reason is None
        served = incarnation.served if incarnation is not None else 0.0
        starved = facts.error is not None and facts.error.is_for_want
        verdict = None if incarnation is None else incarnation.in_flight.verdict
        charged = verdict is None or verdict.is_of_mod
        now = self._loop.time()
        decision = self._policy.exited(now, clean=clean, uptime=served, charged=charged, starved=starved)
        self.restarts = self._policy.history(fingerprint(self.config), now, time.time())
        match decision:
            case Restart(delay):
                self._delay = delay
                return Trigger.EXITED, None
            case GiveUp(reason):
                why = f"mod {self.mod_id} is quarantined: {reason}; last: {self.last_error}"
                return Trigger.EXITED_TOO_OFTEN, why
            case None:
                policy = self.config.restart.policy
                why = f"mod {self.mod_id} has ended and its policy is '{policy}': {self.last_error}"
                return Trigger.EXITED_FOR_GOOD, why

    def _failed_on_trial(self, probation: Probation, why: str) -> bool:
        """Ask for a revert if the mod serves; returns whether it does."""
        if self.state is State.READY:
            self._shared.listener.revert(self, probation, why)
        return self.state is State.READY

    def note_revert(self, failed: str | None, number: int, probation: Probation, why: str) -> None:
        """Take note that version ``failed``, of incarnation ``number``, has given way to the previous version."""
        self.trial.note_revert()
        previous = f"version {probation.version} of incarnation {probation.number}"
        failed = f"version {failed} of incarnation {number}"  # two edits of a mod often have one version
        self.last_rollback = f"{failed} failed on probation, {previous} serves again: {why}"
        self._shared.listener.reverted(self, self.last_rollback)

    # -- what the incarnations tell

    def _request(self, incarnation: Incarnation, request: Request) -> None:
        self._shared.listener.request(self, incarnation, request)

    def _exceeded(self, incarnation: Incarnation, exceeded: Exceeded) -> None:
        """End an incarnation that uses too much.

        One that does not serve yet, or no more, is killed at once.
        """
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
        """Give no more events to an incarnation whose pipe ended.

        Called before anyone who waits for an answer runs.
        """
        self.caller.lost(incarnation.in_flight)
        if incarnation is not self.incarnation or isinstance(reason, PipeClosed):
            return
        trigger = Trigger.PIPE_CLOSED
        if reason.code == Code.PROTOCOL_ERROR:
            incarnation.end(str(reason), Cause.PROTOCOL_VIOLATION)
            trigger = Trigger.PROTOCOL_BROKEN
        if self.state in (State.READY, State.ENDING):
            self.happened(trigger, of=incarnation.number, facts=Facts(incarnation, reason=str(reason)))

    # -- actions

    def _serve(self, facts: Facts) -> None:
        incarnation = facts.incarnation
        assert incarnation is not None
        self.manifest, incarnation.served_since = incarnation.manifest, self._loop.time()
        self.loaded_at = self.loaded_at or time.time()
        if self.restarts is not None:
            self.restarts = replace(self.restarts, served_since=time.time())
        self.caller.open(incarnation.in_flight)
        self._shared.start(self.durable.resume)

    def _hold(self, facts: Facts) -> None:
        self.caller.hold()

    def _refuse(self, facts: Facts, code: str = Code.MOD_AWAY) -> None:
        self.caller.refuse(ModvisorError(facts.reason, code=code), is_moving=facts.is_held_up)
        self.durable.pause()

    def _count_restart(self, facts: Facts) -> None:
        self.counters.restarts += 1
        ends = [report.cause for report in self.crashes if not report.trial]
        if ends:
            self.counters.restarts_by[str(ends[-1])] += 1

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

    async def _do_in_turn(self, work: list[Callable[[Machine, Facts], Awaitable[None]]], facts: Facts) -> None:
        for do in work:
            await do(self, facts)

    _actions: ClassVar[dict[Action, Callable[[Machine, Facts], None]]] = {
        Action.SERVE: _serve,
        Action.HOLD: _hold,
        Action.REFUSE: _refuse,
        Action.COUNT_RESTART: _count_restart,
        Action.RECYCLE: _recycle,
        Action.KEEP_QUARANTINE: _keep_quarantine,
        Action.RELEASE: _release,
    }
    # These take time, and end with the incarnation that they are about.
    _works: ClassVar[dict[Action, Callable[[Machine, Facts], Awaitable[None]]]] = {
        Action.DUMP: _dump,
        Action.KILL: _kill,
        Action.KILL_SOON: _kill_soon,
    }
