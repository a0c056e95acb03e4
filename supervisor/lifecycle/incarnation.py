"""One process of a mod: started, asked to load, activated, ended. Its holder decides when."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...ipc import messages
from ...ipc.cell import as_report
from ...ipc.errors import (
    Code,
    FrameTooLarge,
    ModvisorError,
    PipeBroken,
    PipeClosed,
    RemoteProtocolError,
    RequestFailed,
    Unserializable,
)
from ...ipc.manifest import Manifest
from ...ipc.messages import Hello, Notification, Request
from ...ipc.pipe import Pipe
from ..calls import InFlight, events_of
from ..config import FORK, as_host_says, check_version
from ..limits import Exceeded
from ..process import (
    REPORTED_EVENTS,
    Cause,
    Exit,
    Launch,
    Launcher,
    ModLog,
    WorkerProcess,
    shielded,
    where_it_was,
)
from .cells import explained, for_process, not_started, relay_for, sandbox_stats, tell_gaps
from .start_order import StartFailed, StartOrder

if TYPE_CHECKING:
    from ..process import Leases

LAST_MOMENT = 1.0
"""Seconds that a worker may take to end by itself after its pipe closed: its own exit says more."""

DUMP_TIME = 0.5
"""Seconds that a hanging worker has to write its stacks."""


RequestHandler = Callable[["Incarnation", Request], None]
CancelHandler = Callable[["Incarnation", int | None], None]


@dataclass(frozen=True, slots=True)
class Listeners:
    """Callbacks of an incarnation.

    Attributes:
        on_request: takes each request of the worker.
        on_cancel: takes the id of a request that the worker gave up; None when its pipe ended.
        on_lost: takes the reason why the pipe ended, before anyone who waits for an answer runs.
        on_exceeded: takes the limit that the worker exceeds.
    """

    on_request: RequestHandler
    on_cancel: CancelHandler
    on_lost: Callable[[Incarnation, ModvisorError], None]
    on_exceeded: Callable[[Incarnation, Exceeded], None]


class Incarnation:
    """A worker process with its pipe. `start` makes it; it ends by `stop`, `kill` or itself."""

    def __init__(self, order: StartOrder, process: WorkerProcess, log: ModLog, listeners: Listeners) -> None:
        self.mod_id = order.mod_id
        self.config = order.config
        self.home = order.home
        self.number = order.number
        self.from_snapshot = "snapshot" in order.params
        self.limits_in_force = order.limits_in_force
        self.process = process
        self.cell = dict(process.cell)  # the means of each part that is in force
        self.relay = relay_for(order, process)
        self._ordered_cell = order.cell
        self._is_confined = not process.is_forked
        self.log = log
        self._loop = asyncio.get_running_loop()
        self.started = self._loop.time()
        self.manifest: Manifest | None = None
        self.end_reason: str | None = None  # why the supervisor ended it; None: it ended by itself
        self.end_cause: Cause | None = None
        self.lost_events: list[dict[str, Any]] = []  # in flight when its pipe ended, as reports name them
        self.lost_count = 0
        self.activating = False  # its activate() has begun: it has all of its state
        self.is_resting = False  # it has served and waits in case its successor fails: its requests are refused
        # A state and its version, which it reported in activate() while another incarnation served.
        self.early_checkpoint: tuple[Any, str] | None = None
        self.served_since: float | None = None  # loop time
        self._listeners = listeners
        self._hello: asyncio.Future[Hello] = self._loop.create_future()
        self.pipe = Pipe(
            process.sock,
            on_request=lambda request: listeners.on_request(self, request),
            on_notification=self._note,
            on_close=self._pipe_ended,
            spinner=order.spinner,
        )
        self.in_flight = InFlight(self.pipe, self.why_ended, order.traces)
        # End of file is not enough: a process that the worker forked may hold the other end, and
        # must not go on speaking for it.
        process.exited.add_done_callback(lambda _exit: self.pipe.close_after_reading())
        process.exited.add_done_callback(lambda _exit: self.limits_in_force.ended())

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def sandbox(self) -> dict[str, Any]:
        """What confines it, see `sandbox_stats`."""
        return sandbox_stats(self._ordered_cell, self.cell)

    @property
    def uptime(self) -> float:
        """Seconds since the launch."""
        return self._loop.time() - self.started

    @property
    def served(self) -> float:
        """Seconds since it became ready; 0.0 if it never did."""
        return 0.0 if self.served_since is None else self._loop.time() - self.served_since

    # -- start

    @classmethod
    async def start(cls, order: StartOrder, launcher: Launcher, log: ModLog, listeners: Listeners) -> Incarnation:
        """Launch a worker that loads the mod. Raises `StartFailed`; no process is left then."""
        deadline = asyncio.get_running_loop().time() + order.timeout
        log_rate = order.config.limits.log_rate
        output = log.lines_of_a_process(log_rate)
        try:
            async with asyncio.timeout_at(deadline):
                launch = Launch(
                    output.feed,
                    output.end,
                    log_rate=log_rate,
                    python=order.python,
                    fork=order.config.launch == FORK,
                    cgroup=None if order.limits_in_force.cgroup is None else order.limits_in_force.cgroup.path,
                    cell=order.cell,
                )
                process = await (launcher.launch(launch) if order.spare is None else order.spare.become(launch))
        except BaseException as error:  # noqa: BLE001 - it is raised again
            if order.spare is not None:
                order.spare.kill()
            order.limits_in_force.ended()
            if order.traces is not None:
                order.traces.remove()
            if isinstance(error, TimeoutError):
                text = f"mod {order.mod_id}: no worker was started within its start timeout of {order.timeout:g} s"
                raise StartFailed(text, code=Code.START_TIMEOUT) from None
            raise not_started(order.mod_id, error) from None
        self = cls(order, process, log, listeners)
        try:
            async with asyncio.timeout_at(deadline):
                await order.limits_in_force.started(process.pid, self._exceeded, in_cgroup=process.in_cgroup)
                await self._handshake(order)
        except BaseException as error:  # noqa: BLE001 - a cancelled start must leave no process either
            ended = self.end_reason
            # In one piece: a caller that gives up between two would leave the process.
            exit = await shielded(self._end_start(order, dumps=isinstance(error, TimeoutError)))
            raise self._start_failure(error, order, exit, ended) from None
        return self

    async def _end_start(self, order: StartOrder, *, dumps: bool) -> Exit:
        if dumps:
            await self.dump_stacks()
        exit = await self.kill("it did not start")
        if order.traces is not None:
            order.traces.remove()
        return exit

    async def _handshake(self, order: StartOrder) -> None:
        hello = await self._hello
        if hello.protocol != messages.PROTOCOL:
            raise StartFailed(
                f"mod {order.mod_id}: its worker speaks protocol {hello.protocol} (modvisor {hello.modvisor}), "
                f"this network speaks {messages.PROTOCOL}; install the same modvisor in both",
                code=Code.PROTOCOL_MISMATCH,
            )
        if hello.shared_memory:
            self.pipe.lend()
        if order.lease is not None:
            await self._live_by(order.lease)
        manifest = Manifest.from_dict(
            await self.pipe.request(messages.LOAD, for_process(order.params, order.cell, self.process))
        )
        tell_gaps(order.mod_id, order.cell, self.cell, order.told)
        try:
            check_version(order.config.version, order.config.declared, manifest.version)
        except ModvisorError as error:
            raise StartFailed(f"mod {order.mod_id}: {error}", code=error.code, **error.details) from None
        self.manifest, self.config = manifest, as_host_says(order.config, manifest.host)

    async def _live_by(self, lease: Leases) -> None:
        """Let the worker die with the lease, before any code of the mod runs in it."""
        try:
            await lease.hold(self.process, lambda: self.end("the lease of its node ended", Cause.LEASE_LOST))
        except (OSError, ModvisorError) as error:
            raise not_started(self.mod_id, error) from None

    def _start_failure(self, error: BaseException, order: StartOrder, exit: Exit, ended: str | None) -> BaseException:
        """Return one typed failure that names the mod and the cause; ``ended``: why the supervisor ended it, if it did."""
        mod, last = order.mod_id, self.log.tail(20)
        if self.end_cause is Cause.LIMIT_HIT:
            return StartFailed(f"mod {mod}: {self.end_reason} before it was ready", code=Code.LIMIT_HIT, log=last)
        match error:
            case TimeoutError():
                stacks = self.process.stack_dump().rstrip()
                text = f"mod {mod}: not ready within its start timeout of {order.timeout:g} s{where_it_was(stacks)}"
                return StartFailed(text, code=Code.START_TIMEOUT, log=last, traceback=stacks or None)
            case RequestFailed():
                return StartFailed(f"mod {mod}: {explained(error)}", code=error.code, **{"log": last, **error.details})
            case RemoteProtocolError():
                return StartFailed(f"mod {mod}: {error}", code=Code.PROTOCOL_ERROR, log=last)
            case PipeBroken() | PipeClosed():
                how = f"the worker ended with {exit}" if exit.signal != signal.SIGKILL else ended or str(error)
                return StartFailed(f"mod {mod}: {how} before it was ready", log=last)
            case FrameTooLarge() | Unserializable():
                return StartFailed(f"mod {mod}: its config cannot be sent: {error}", code=error.code)
        return error

    async def activate(self, timeout: float) -> None:
        """Let the mod open what is exclusive. Raises `StartFailed`; the process still runs then."""
        self.activating = True
        await self._life(messages.ACTIVATE, {}, timeout)

    async def activate_or_kill(self) -> None:
        """Activate the mod, the last step before it serves.

        Raises `StartFailed`; no process is left then.
        """
        try:
            await self.activate(self.config.limits.start_timeout)
        except BaseException:
            await shielded(self.kill("activate() failed"))
            raise

    async def deactivate(self, timeout: float) -> None:
        """Have the mod let go of what is exclusive; `activate` undoes it. Raises `StartFailed`."""
        await self._life(messages.DEACTIVATE, {}, timeout, late=Code.TIMEOUT)

    async def restore(self, state: Any, from_version: str, timeout: float) -> None:
        """Give the mod the state of its last checkpoint, before it is activated.

        Raises `StartFailed`.
        """
        params = {"state": state, "from_version": from_version}
        try:
            await self._life(messages.SET_STATE, params, timeout, ended=Code.MOD_CRASHED)
        except StartFailed as error:
            text = str(error).removeprefix(f"mod {self.mod_id}: ")
            text = f"mod {self.mod_id} did not take over its checkpoint: {text}"
            raise StartFailed(text, code=error.code, **error.details) from None

    async def _life(
        self,
        method: str,
        params: dict[str, Any],
        timeout: float,
        *,
        late: str = Code.START_TIMEOUT,
        ended: str = Code.START_FAILED,
    ) -> None:
        """Call a method of the mod's life. Raises `StartFailed`; the process still runs then.

        Args:
            late, ended: codes of the failure when the call timed out, or the worker ended in it.
        """
        try:
            await self.pipe.request(method, params, timeout)
        except TimeoutError:
            raise StartFailed(f"mod {self.mod_id}: {method}() took more than {timeout:g} s", code=late) from None
        except (PipeBroken, PipeClosed) as error:
            text = f"mod {self.mod_id}: the worker ended in {method}() ({error})"
            raise StartFailed(text, code=ended) from None
        except ModvisorError as error:
            raise StartFailed(f"mod {self.mod_id}: {error}", code=error.code, **error.details) from None

    async def part(self, states: list[Any], from_version: str, count: int, timeout: float) -> list[Any]:
        """Have the mod merge the states of several workers and split them for ``count``.

        Raises:
            ModvisorError: the mod cannot split its state, or returns another number of states.
            TimeoutError
        """
        params = {"states": states, "from_version": from_version, "count": count}
        parts = await self.pipe.request(messages.PART, params, timeout)
        if not isinstance(parts, list) or len(parts) != count:
            raise ModvisorError(f"split_state() did not give {count} states", code=Code.STATE_REFUSED)
        return parts

    async def answers(self, timeout: float) -> bool:
        """Return whether the mod's own event loop answers a ping within ``timeout`` seconds."""
        try:
            await self.pipe.request(messages.PING, None, timeout)
        except (TimeoutError, ModvisorError):
            return False
        return True

    async def drained(self, deadline: float) -> bool:
        """Wait until no event is in flight; False if loop time ``deadline`` comes first."""
        try:
            async with asyncio.timeout_at(deadline):
                await self.in_flight.drained()
        except TimeoutError:
            return False
        return True

    async def dump_stacks(self) -> None:
        """Have the worker write the stack of every thread; it follows the last output in the log.

        A signal handler in C makes the dump, so it works while the interpreter is stuck. A worker
        that is stopped (state T) cannot run the handler and makes no dump.
        """
        await self.process.dumped(DUMP_TIME)

    def end(self, reason: str, cause: Cause) -> None:
        """Note why the incarnation is being ended; the first reason counts."""
        if self.end_reason is None:
            self.end_reason, self.end_cause = reason, cause

    def fail(self, reason: str) -> None:
        """End an incarnation that cannot serve any more, as an end that nobody asked for."""
        self.end(reason, Cause.START_FAILURE)
        self.kill_now()

    # -- end

    async def stop(self, deadline: float) -> Exit:
        """End the process by ``shutdown``, SIGTERM, SIGKILL, each with its timeout of the config.

        Args:
            deadline: loop time by which all three are over.
        """
        if self.pipe.closed is None:  # else it is ending by itself, and its exit says more
            self.end_reason = self.end_reason or "it was stopped"
        try:
            return await self._go_down(deadline)
        finally:
            self._no_report()

    async def _go_down(self, deadline: float) -> Exit:
        loop, limits = self._loop, self.config.limits
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + limits.shutdown_timeout)):
                with suppress(RequestFailed):  # the mod's shutdown() raised; its process ends all the same
                    await self.pipe.request(messages.SHUTDOWN, {})
                return await asyncio.shield(self.process.exited)
        except (TimeoutError, ModvisorError):
            pass  # it hangs, refuses or has ended: go on with the signals
        self.process.kill(signal.SIGTERM)
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + limits.term_timeout)):
                return await asyncio.shield(self.process.exited)
        except TimeoutError:
            pass
        return await self.kill("it did not end when asked to")

    async def kill(self, reason: str) -> Exit:
        """Kill the process and everything it started; returns when the process is reaped."""
        self.end_reason = self.end_reason or reason
        self.kill_now()
        exit = await asyncio.shield(self.process.exited)
        self.pipe.close()
        self._no_report()
        return exit

    def _no_report(self) -> None:
        """Give no crash report: the incarnation was asked to end."""
        if not self.in_flight.report.done():
            self.in_flight.report.set_result(None)

    def kill_now(self) -> None:
        """`kill` without waiting; ``process.exited`` tells when it has ended."""
        cgroup = self.limits_in_force.cgroup
        self.process.kill(signal.SIGKILL, cgroup=None if cgroup is None else str(cgroup.path))

    async def why_ended(self) -> str:
        """Wait for the exit that follows the end of the pipe, and say why it ended."""
        try:
            async with asyncio.timeout(2 * LAST_MOMENT):
                exit = await asyncio.shield(self.process.exited)
        except TimeoutError:
            return self.end_reason or "its pipe broke"
        return self.end_reason or str(exit)

    def _exceeded(self, _mod_id: str, _number: int, exceeded: Exceeded) -> None:
        self._listeners.on_exceeded(self, exceeded)

    # -- messages

    def _note(self, notification: Notification) -> None:
        if notification.method == messages.CANCEL:
            request_id = (notification.params or {}).get("id")
            if type(request_id) is int:
                self._listeners.on_cancel(self, request_id)
        elif notification.method == messages.CONFINED and not self._is_confined:  # what a mod says later does not count
            self._is_confined = True
            self.cell |= as_report((notification.params or {}).get("cell"))
        elif notification.method == messages.HELLO and not self._hello.done():
            try:
                self._hello.set_result(Hello.from_dict(notification.params))
            except RemoteProtocolError as error:
                self._hello.set_exception(error)

    def _pipe_ended(self, reason: ModvisorError) -> None:
        if not self._hello.done():
            self._hello.set_exception(reason)
            self._hello.exception()  # mark it as seen: perhaps nobody waits for it any more
        handling = list(self.in_flight.handling.values())
        self.lost_events, self.lost_count = events_of(handling[:REPORTED_EVENTS]), len(handling)
        self._listeners.on_lost(self, reason)
        self._listeners.on_cancel(self, None)
