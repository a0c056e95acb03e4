"""The trial process of a mod: it runs the events that may have killed the mod, beside the process that serves.

So new events do not wait while a known culprit is tried again (`calls.beside`). The process is
started when a suspect waits and the mod serves, from the kept sources of the version that serves,
and ends when no suspect is left. There is at most one. It gets no other events, no copies and no
notifications.

**A mod permits it** (`permits_trials`) if two processes of it may handle events at once, and answer
alike:

- its worker says so (`Manifest.side_by_side`): its class overrides none of activate, deactivate,
  get_state, set_state, merge_state, split_state and on_dependency, observes nothing, and handles no
  ``system.*`` notification. Such a mod opens nothing that only one process can hold, and has no
  memory that the other process would lack;
- ``reload: side_by_side``; a `stop_first` mod cannot run twice;
- no ``partition_by`` with a key, nor several workers that share the events by source: the events of
  one key belong to one process;
- ``limits.concurrency`` is above 1: at 1, the mod is promised one event at a time;
- no ``checkpoint_every``, and no checkpoint: it has state;
- ``suspects: beside``, which is the default.

**Its end** is that of no serving process. It is in the crash reports (`CrashReport.trial`), and the
events that were tried are judged by it. The state of the mod, its restarts and its restart policy
do not know of it. A policy of its own limits the ends that no suspect explains. After that, or if
the process cannot be started, suspects are tried in the one process again, until the mod is
restarted.

**A reload, a restart by command and an unload** let the events of the trial finish within
``drain_timeout``, and then end it. Its events stay suspects, and are tried beside the next version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from ...ipc.errors import Code
from ...ipc.manifest import Manifest
from ...ipc.partition import LEAST_LOADED
from ..calls import Caller
from ..config import AT_LEAST_ONCE, BESIDE, SIDE_BY_SIDE, ModConfig
from ..process import Cause, Exit, shielded
from .heartbeats import Heartbeats, why_silent
from .incarnation import LAST_MOMENT, Incarnation, StartFailed
from .restart_policy import Restart, RestartPolicy

logger = logging.getLogger("modvisor.keeper")


def permits_trials(config: ModConfig, manifest: Manifest | None) -> bool:
    """Return whether suspects of this mod may be tried in a process beside the one that serves."""
    return (
        manifest is not None
        and manifest.side_by_side
        and config.suspects == BESIDE
        and config.delivery == AT_LEAST_ONCE
        and config.reload == SIDE_BY_SIDE
        and config.limits.concurrency > 1
        and config.checkpoint_every is None
        and not _is_partitioned(config)
    )


def _is_partitioned(config: ModConfig) -> bool:
    if config.partition_by is None:  # several workers share the events by source
        return config.replica is not None
    return config.partition_by != LEAST_LOADED


class Tried(Protocol):
    """The mod whose suspects are tried: what its keeper says of it."""

    def permits_trials(self) -> bool:
        """Whether its suspects are to wait for a trial process."""
        ...

    def can_start_trial(self) -> bool:
        """Whether it serves a version whose sources are kept."""
        ...

    def start_trial(self) -> Awaitable[Incarnation]:
        """Start a process of that version. Raises `StartFailed`; no process is left then."""
        ...

    def report_trial(self, incarnation: Incarnation, exit: Exit) -> bool:
        """Report an end that nobody asked for; return whether the suspects explain it."""
        ...


class TrialProcess:
    """Starts and ends the trial process of one mod.

    Attributes:
        incarnation: the process; None while there is none.
    """

    def __init__(self, mod: Tried, caller: Caller, tasks: TaskGroup, heartbeats: Heartbeats) -> None:
        self.incarnation: Incarnation | None = None
        self._mod = mod
        self._caller = caller
        self._beside = caller.beside
        self._beside.want = self.look
        self._tasks = tasks
        self._heartbeats = heartbeats
        self._loop = asyncio.get_running_loop()
        self._lost = anyio.Event()  # set when the pipe of the process has ended
        self._restart = caller.config.restart
        self._policy = RestartPolicy(self._restart)
        self._delay = 0.0  # seconds until the next start
        self._has_given_up = False
        self._holds = 0  # reasons why none may be started
        self._scope: anyio.CancelScope | None = None  # of the task, while it runs
        self._over = anyio.Event()  # set when the task has ended

    @property
    def pid(self) -> int | None:
        return None if self.incarnation is None else self.incarnation.pid

    @property
    def is_under_way(self) -> bool:
        """Whether there is something for `end` to do."""
        return self._scope is not None

    # -- the keeper's side

    def look(self) -> None:
        """Decide anew where suspects are tried, and start a process if one is due."""
        if not self._holds:
            self._beside.is_on = not self._has_given_up and self._mod.permits_trials()
        self._caller.try_beside(None)
        if self._scope is None and self._is_due():
            self._scope, self._over = anyio.CancelScope(), anyio.Event()
            self._tasks.start_soon(self._run, self._scope, name=f"trial-{self._caller.mod_id}")

    def served(self) -> None:
        """Note that a new incarnation serves: what failed before is tried again."""
        self._has_given_up = False
        if self._restart != self._caller.config.restart:
            self._restart = self._caller.config.restart
            self._policy = RestartPolicy(self._restart)
        self.look()

    def lost(self, incarnation: Incarnation) -> None:
        """Note that the pipe of an incarnation has ended."""
        if incarnation is self.incarnation:
            self._lost.set()

    @asynccontextmanager
    async def held(self, seconds: float, *, wait: bool = False) -> AsyncIterator[None]:
        """`end` the process; none is started inside. Where suspects are tried is decided afterwards.

        Args:
            wait: suspects are not tried inside, wherever they were tried before.
        """
        self._holds += 1
        self._beside.is_on |= wait
        try:
            await self.end(seconds)
            yield
        finally:
            self._holds -= 1
            self.look()

    async def end(self, seconds: float) -> None:
        """Let the events in the trial finish for so many seconds, then end the process.

        Suspects that are left wait for the next one.
        """
        scope, over = self._scope, self._over
        if scope is None:
            return
        self._holds += 1
        try:
            self._beside.close()
            self._beside.changed.set()
            with anyio.move_on_after(seconds):
                await over.wait()
            if not over.is_set():
                scope.cancel()
                await shielded(over.wait())
        finally:
            self._holds -= 1

    def _is_wanted(self) -> bool:
        return not self._holds and self._beside.is_wanted

    def _is_due(self) -> bool:
        return self._is_wanted() and self._mod.can_start_trial()

    # -- one process after the other

    async def _run(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                while self._is_due():
                    await anyio.sleep(self._delay)
                    if self._is_due():
                        await self._try()
        finally:
            self._scope = None
            self._over.set()

    async def _try(self) -> None:
        self._lost = anyio.Event()
        try:
            incarnation = await self._mod.start_trial()
        except StartFailed as error:
            self._give_up(f"no trial process could be started: {error}")
            return
        self.incarnation = incarnation
        try:
            if incarnation.pipe.closed is not None:
                self._lost.set()
            if not self._holds:
                self._caller.try_beside(incarnation.in_flight)
            await self._follow(incarnation)
        finally:
            self._beside.close()
            if not incarnation.process.exited.done():
                await shielded(incarnation.kill("its trial was cut short"))
            self.incarnation = None

    async def _follow(self, incarnation: Incarnation) -> None:
        """Watch the process until it ends; end it when no suspect is left."""
        async with anyio.create_task_group() as life:
            life.start_soon(self._end_when_idle, incarnation)
            life.start_soon(self._end_when_silent, incarnation)
            life.start_soon(self._end_when_lost, incarnation)
            await asyncio.shield(incarnation.process.exited)
            life.cancel_scope.cancel()
        if not incarnation.in_flight.report.done():  # nobody asked for it
            self._ended(incarnation, incarnation.process.exited.result())

    async def _end_when_idle(self, incarnation: Incarnation) -> None:
        while self._beside.trial or self._is_wanted():
            self._beside.changed.clear()
            await self._beside.changed.wait()
        self._beside.close()
        await shielded(incarnation.stop(self._loop.time() + self._caller.config.limits.unload_timeout))

    async def _end_when_silent(self, incarnation: Incarnation) -> None:
        hang_timeout, is_silent = self._caller.config.limits.hang_timeout, anyio.Event()
        heartbeat = self._heartbeats.follow(incarnation.pipe, hang_timeout, is_silent.set)
        try:
            await is_silent.wait()
        finally:
            heartbeat.stop()
        incarnation.end(*why_silent(incarnation, hang_timeout))
        await incarnation.dump_stacks()
        incarnation.kill_now()

    async def _end_when_lost(self, incarnation: Incarnation) -> None:
        """Kill a process whose pipe has ended. It may end by itself first: its own exit says more."""
        await self._lost.wait()
        reason = incarnation.pipe.closed
        if reason is not None and reason.code == Code.PROTOCOL_ERROR:
            incarnation.end(str(reason), Cause.PROTOCOL_VIOLATION)
        else:
            await anyio.sleep(LAST_MOMENT)
            incarnation.end(str(reason), Cause.EXITED)
        incarnation.kill_now()

    def _ended(self, incarnation: Incarnation, exit: Exit) -> None:
        is_explained = self._mod.report_trial(incarnation, exit)
        now, uptime = self._loop.time(), incarnation.uptime
        match self._policy.exited(now, clean=False, uptime=uptime, charged=not is_explained):
            case Restart(delay):
                self._delay = delay
            case _:
                self._give_up("its trial processes end for no event")

    def _give_up(self, why: str) -> None:
        """Try suspects in the one process, until the mod is restarted."""
        text = "mod %s: %s; suspects are tried in the process that serves, and other events wait meanwhile"
        logger.warning(text, self._caller.mod_id, why)
        self._has_given_up = True
        self.look()
