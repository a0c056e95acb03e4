"""Workers that a guardian starts, each held by the socket of its warden.

See `worker.guardian` and `worker.guardian.warden` for the processes. A worker costs the supervisor
four descriptors: its socket, its output, its dump file, and the socket of its warden.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from ...ipc import launching
from ...ipc.cell import Cell
from ...ipc.errors import Code, ModvisorError, RemoteProtocolError
from ...ipc.launching import (
    MAX_SIZE,
    Ended,
    Hide,
    Kill,
    Message,
    NotStarted,
    Order,
    Signal,
    Started,
    decode,
    encode,
)
from .descriptors import reserve
from .guardian_process import IMPORTING, GuardianProcess
from .interpreters import command_and_environment
from .launch import Launch
from .process import STACK_SIGNAL, DumpFile, Exit, Usage, WorkerProcess, no_more
from .shield import shielded

logger = logging.getLogger("modvisor.guardian")

DEAF = 1.0
"""Seconds after which a warden that was told to kill counts as stopped, and is continued."""

DEAD = 10.0
"""Seconds after which it is killed. The guardian takes its place.

A warden gives up on processes that cannot be killed after half of this time.
"""

REAPED = 0.5
"""Seconds within which the new parent of a worker without warden reaps it.

After this time the exit status of the worker stays unknown.
"""

ATTEMPTS = 4
"""How often to try a launch while each guardian dies over it."""


class GuardedProcess(WorkerProcess):
    """A worker below its warden."""

    def __init__(
        self,
        started: Started,
        warden: socket.socket,
        sock: socket.socket,
        output: int,
        dump: DumpFile,
        launch: Launch,
        guardian: GuardianProcess,
        hidden: Mapping[bytes, None],
        hide: Callable[[Cell | None], Awaitable[None]],
    ) -> None:
        super().__init__(started.pid, sock, output, dump, launch)
        self.warden = started.warden
        self.in_cgroup = started.in_cgroup
        self.cell = dict(started.cell)
        self._cell_of_mod = None if launch.is_ahead else launch.cell
        self._hidden = hidden  # from any mod, now and later
        self._hide_from_all = hide
        self._also_hidden: set[bytes] = set()
        self._guardian = guardian
        self._start_time = started.start_time
        self._control = warden
        self._patience: asyncio.TimerHandle | None = None
        self._loop.add_reader(warden, self._told)

    def kill(self, signum: int = signal.SIGKILL, *, cgroup: str | None = None) -> None:
        if signum != signal.SIGKILL:
            self._tell(Signal(signum, group=True))
            return
        self._tell(Kill(os.fsencode(cgroup or "")))
        if self._patience is None and not self.exited.done():
            self._patience = self._loop.call_later(DEAF, self._continue_warden)

    def dump_stacks(self) -> None:
        self._tell(Signal(STACK_SIGNAL, group=False))

    async def become(self, launch: Launch) -> None:
        await super().become(launch)
        self._cell_of_mod = launch.cell
        await self._hide_from_all(launch.cell)
        self.hide_more()

    def hide_more(self) -> None:
        """Hide from the mod what is hidden from any, unless its cell says that it sees that. A spare has no mod yet."""
        cell = self._cell_of_mod
        if cell is not None and (more := set(cell.not_hidden(self._hidden)) - self._also_hidden):
            self._also_hidden |= more
            self._tell(Hide(sorted(more)))

    def _tell(self, message: Message) -> None:
        if self._control.fileno() >= 0:
            with suppress(OSError):  # it does not read: `_patience` runs out; it is gone: `_told` sees that
                self._control.send(encode(message))

    # -- the end

    def _told(self) -> None:
        try:
            data = self._receive()
            message = decode(data) if data else None
        except BlockingIOError:
            return
        except (OSError, RemoteProtocolError):
            message = None
        self._loop.remove_reader(self._control)
        self._control.close()
        if self._patience is not None:
            self._patience.cancel()
        if isinstance(message, Ended):
            self._finish(Exit.of(message.status, Usage(message.cpu_seconds, message.max_rss)))
        else:
            logger.warning("the warden of worker %d has died; the worker is killed", self.pid)
            self._end_alone()

    def _receive(self) -> bytes:
        try:
            return self._control.recv(MAX_SIZE)
        except ConnectionResetError:  # it ended without reading our last message; this error comes before its own
            return self._control.recv(MAX_SIZE)

    def _continue_warden(self) -> None:
        """Continue the warden, which its worker may have stopped: both run as the same user."""
        self._patience = self._loop.call_later(DEAD - DEAF, self._signal_warden, signal.SIGKILL)
        self._signal_warden(signal.SIGCONT)

    def _signal_warden(self, signum: int) -> None:
        with suppress(ProcessLookupError):  # its socket is open, so it lives and the pid is still its own
            os.kill(self.warden, signum)

    def _end_alone(self) -> None:
        """End the worker after its warden died.

        The lifeline kills the process group and the guardian kills the rest. What is left to do is
        to make sure that the worker itself is gone.
        """
        self._guardian.send(signal.SIGCONT)  # it reaps the worker, and may be stopped as well
        try:
            pidfd = reserve.with_spare(lambda: os.pidfd_open(self.pid))
        except OSError:  # it is gone; or the reserve is used up, and the lifeline must do
            return self._finish(_BY_LIFELINE)
        if (
            reserve.with_spare(lambda: _start_time(self.pid)) != self._start_time
        ):  # the pid belongs to another process by now
            os.close(pidfd)
            return self._finish(_BY_LIFELINE)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._loop.add_reader(pidfd, self._died_alone, pidfd)

    def _died_alone(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        self._ask_status(pidfd, self._loop.time() + REAPED)

    def _ask_status(self, pidfd: int, deadline: float) -> None:
        """Ask the kernel for the exit status, which it knows once the new parent has reaped the
        worker.
        """
        status = _exit_status(pidfd)
        if status is None and self._loop.time() < deadline:
            self._loop.call_later(REAPED / 20, self._ask_status, pidfd, deadline)
            return
        os.close(pidfd)
        self._finish(_BY_LIFELINE if status is None else Exit.of(status))


_BY_LIFELINE = Exit(None, signal.SIGKILL)
"""The exit of a worker whose status is unknown: its warden died, and with it the lifeline."""


class GuardianLauncher:
    """Starts workers from a guardian. When the guardian dies, the next launch starts another.

    Args:
        cwd: the workers' working directory.
        python: the interpreter of guardian and workers. It must be able to import
            ``modvisor.worker``.
        preload: modules that the guardian imports.
        preload_timeout: seconds that the import of one of them may take.
    """

    def __init__(
        self,
        cwd: Path,
        python: str = sys.executable,
        preload: tuple[str, ...] = (),
        preload_timeout: float = IMPORTING,
    ) -> None:
        self._cwd = cwd
        self._python = python
        self._preload = preload
        self._preload_timeout = preload_timeout
        self._guardian: GuardianProcess | None = None
        self._is_closed = False
        self._running: set[GuardedProcess] = set()
        self._hidden: dict[bytes, None] = {}  # what is hidden from any mod so far
        self._sending = asyncio.Lock()

    async def start(self) -> None:
        failures = await self._current().imported()
        if failures:
            what = "; ".join(f"{name!r} cannot be imported: {why}" for name, why in failures.items())
            text = f"network.preload: {what} (install it for {self._python}, or take it out of the list)"
            raise ModvisorError(text, code=Code.START_FAILED, modules=sorted(failures))

    async def launch(self, launch: Launch) -> GuardedProcess:
        await self._hide(launch.cell)
        for _ in range(ATTEMPTS):
            process = await self._try_launch(launch)
            if process is not None:
                return process
        raise OSError(errno.EPIPE, "the guardian, which starts the workers, dies each time (see the log)")

    @property
    def roots(self) -> frozenset[int]:
        guardian = () if self._guardian is None else (self._guardian.pid,)
        return frozenset((*guardian, *(pid for each in self._running for pid in (each.pid, each.warden))))

    async def close(self) -> None:
        """Kill the workers that still run, wait until they are gone, end the guardian. No other one is started."""
        self._is_closed = True
        running = list(self._running)
        for process in running:
            process.kill()
        await asyncio.gather(*(asyncio.shield(process.exited) for process in running))
        if self._guardian is not None:
            guardian, self._guardian = self._guardian, None
            await guardian.end()

    def _current(self) -> GuardianProcess:
        if self._is_closed:  # a start that was under way would have a guardian that nobody ends
            raise no_more()
        if self._guardian is None or self._guardian.ended.done():
            self._guardian = reserve.with_spare(
                lambda: GuardianProcess(self._python, self._preload, self._preload_timeout)
            )
        return self._guardian

    async def _hide(self, cell: Cell | None) -> None:
        """Hide from the mods that run what is hidden from a further one."""
        more = [path for path in (() if cell is None else cell.hidden) if path not in self._hidden]
        if not more:
            return
        self._hidden |= dict.fromkeys(more)
        for process in self._running:
            process.hide_more()
        if self._guardian is not None:  # of a worker that is forked ahead, it knows no cell of a mod
            await self._guardian.order(encode(Hide(more)), [])

    async def _try_launch(self, launch: Launch) -> GuardedProcess | None:
        """Launch once. Return None if the guardian or the warden died over it."""
        with ExitStack() as ours:
            ends = reserve.with_spare(_Ends)
            ours.callback(ends.close)
            try:
                command, environment = command_and_environment(self._python, launch.python)
                fork = launch.fork and launch.python is None and self._python == sys.executable
                words = [] if fork else command
                order = Order.of(
                    words, environment, self._cwd, launch.cgroup or "", is_ahead=launch.is_ahead, cell=launch.cell
                )
                async with self._sending:  # one at a time: each launch waits until the guardian takes its order
                    guardian = self._current()
                    await guardian.imported()
                    with guardian.expected():
                        if not await guardian.order(encode(order), ends.theirs):
                            return None
            finally:
                ends.close_theirs()
            with guardian.expected():
                started, passed = await _answer(ends.warden)
            if started is None:
                return None
            ours.pop_all()
        process = GuardedProcess(
            started, ends.warden, ends.sock, ends.output, ends.dump, launch, guardian, self._hidden, self._hide
        )
        process.is_forked, process.relay_socket = fork, passed
        self._running.add(process)
        process.hide_more()
        process.exited.add_done_callback(lambda _exit: self._running.discard(process))
        return process


class _Ends:
    """Both ends of what connects the supervisor with a worker and its warden. Raises OSError.

    Attributes:
        warden, sock, output, dump: the supervisor's.
        theirs: those that the order carries.
    """

    def __init__(self) -> None:
        with ExitStack() as opened, ExitStack() as far:
            self.warden, far_warden = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.callback(self.warden.close)
            far.callback(far_warden.close)
            self.sock, far_sock = socket.socketpair()
            opened.callback(self.sock.close)
            far.callback(far_sock.close)
            self.output, far_output = os.pipe()
            opened.callback(os.close, self.output)
            far.callback(os.close, far_output)
            self.dump = DumpFile()
            opened.callback(self.dump.close)
            self.theirs = [far_warden.fileno(), far_sock.fileno(), far_output, self.dump.fd]
            self.close, self.close_theirs = opened.pop_all().close, far.pop_all().close


async def _answer(warden: socket.socket) -> tuple[Started | None, socket.socket | None]:
    """Wait for the answer to an order, and the socket that may come with it.

    Return None if the guardian or the warden died over it.

    If this is cancelled, the worker is ended first, so that a cancelled launch leaves none.

    Raises:
        OSError: the worker could not be started.
        ModvisorError: the host cannot enforce its cell.
    """
    warden.setblocking(False)
    try:
        data, passed = await _received(warden)
    except ConnectionResetError:
        return None, None
    except asyncio.CancelledError:
        await shielded(_call_off(warden))
        raise
    if not data:
        return None, None
    match decode(data):
        case Started() as started:
            return started, passed
        case NotStarted(errno=launching.NOT_CONFINED, message=message):
            raise ModvisorError(message, code=Code.NOT_CONFINED)
        case NotStarted(number, message):
            raise OSError(number, message)
    raise OSError(errno.EPROTO, "the warden gave an answer that does not fit the order")


async def _received(warden: socket.socket) -> tuple[bytes, socket.socket | None]:
    """Receive one message, and the descriptor that comes with it, as a socket."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(warden, MAX_SIZE, 1)
            break
        except BlockingIOError:
            await _readable(loop, warden)
    if not fds:
        return data, None
    os.set_inheritable(fds[0], False)
    return data, socket.socket(fileno=fds[0])


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    readable = loop.create_future()
    loop.add_reader(sock, lambda: readable.done() or readable.set_result(None))
    try:
        await readable
    finally:
        loop.remove_reader(sock)


async def _call_off(warden: socket.socket) -> None:
    """Have the warden end its worker, or not start it, and wait until the warden ends: `DEAF` at
    most.
    """
    with suppress(OSError):  # it has ended already
        warden.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(DEAF):
            while await asyncio.get_running_loop().sock_recv(warden, MAX_SIZE):
                pass


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


# ioctl PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15: the exit of a process that another one has
# reaped.
_PIDFD_INFO = struct.Struct("QQ11Ii")
_PIDFD_GET_INFO = 3 << 30 | _PIDFD_INFO.size << 16 | 0xFF << 8 | 11
_PIDFD_INFO_EXIT = 1 << 3


def _exit_status(pidfd: int) -> int | None:
    """Return the wait status of an ended process.

    None if the kernel does not say: it is older than 6.15, or nobody has reaped the process.
    """
    info = bytearray(_PIDFD_INFO.size)
    _PIDFD_INFO.pack_into(info, 0, _PIDFD_INFO_EXIT, *(0,) * 13)
    with suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        mask, *_, status = _PIDFD_INFO.unpack(info)
        return status if mask & _PIDFD_INFO_EXIT else None
    return None
