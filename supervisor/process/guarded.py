"""The supervisor's side of the guardian: workers that are started by it, each held by the socket of its warden.

See `worker.guardian` and `worker.guardian.warden` for the processes. A worker costs the supervisor four descriptors: its
socket, its output, its dump file, the socket of its warden.
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
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...ipc.errors import Code, ModvisorError, RemoteProtocolError
from ...ipc.launching import (
    MAX_SIZE,
    Ended,
    Imported,
    Kill,
    Message,
    NotStarted,
    Order,
    Signal,
    Started,
    decode,
    encode,
)
from .interpreters import command_and_environment, worker_environment
from .launch import Launch
from .process import STACK_SIGNAL, DumpFile, Exit, Usage, WorkerProcess
from .shield import shielded

logger = logging.getLogger("modvisor.guardian")

DEAF = 1.0
"""Seconds after which a warden that was told to kill is taken for stopped, and continued; so is a guardian that is to start a
worker."""

DEAD = 10.0
"""Seconds after which it is killed itself: the guardian takes the place of a warden, which gives up on the unkillable after
half of that; another guardian that of the guardian."""

GUARDIAN_END = 5.0
"""Seconds the guardian has to end; its workers have ended before it is asked to."""

REAPED = 0.5
"""Seconds within which the new parent of a worker without warden has surely reaped it; then its exit status stays unknown."""

IMPORTING = 120.0
"""Seconds the guardian has to import what is to be preloaded."""

ATTEMPTS = 4
"""Launches tried before a guardian that dies each time is an error."""


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
        guardian: _Guardian,
    ) -> None:
        super().__init__(started.pid, sock, output, dump, launch)
        self.warden = started.warden
        self.in_cgroup = started.in_cgroup
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

    def _tell(self, message: Message) -> None:
        if self._control.fileno() >= 0:
            with suppress(OSError):  # it does not read: `_patience`; it is gone: `_told` will see
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
        except ConnectionResetError:  # it ended without reading our last word: told once, before what it said itself
            return self._control.recv(MAX_SIZE)

    def _continue_warden(self) -> None:
        """It may have been stopped by its worker, which runs as the same user."""
        self._patience = self._loop.call_later(DEAD - DEAF, self._signal_warden, signal.SIGKILL)
        self._signal_warden(signal.SIGCONT)

    def _signal_warden(self, signum: int) -> None:
        with suppress(ProcessLookupError):  # its socket is open, so it lives, and the number is its own
            os.kill(self.warden, signum)

    def _end_alone(self) -> None:
        """Without a warden: the lifeline kills the group, the guardian the rest. See that the worker itself is gone."""
        self._guardian.send(signal.SIGCONT)  # who reaps the worker may be stopped as well
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return self._finish(_BY_LIFELINE)
        if _start_time(self.pid) != self._start_time:  # somebody else's by now
            os.close(pidfd)
            return self._finish(_BY_LIFELINE)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._loop.add_reader(pidfd, self._died_alone, pidfd)

    def _died_alone(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        self._ask_status(pidfd, self._loop.time() + REAPED)

    def _ask_status(self, pidfd: int, deadline: float) -> None:
        """The kernel knows it once the new parent has reaped the worker."""
        status = _exit_status(pidfd)
        if status is None and self._loop.time() < deadline:
            self._loop.call_later(REAPED / 20, self._ask_status, pidfd, deadline)
            return
        os.close(pidfd)
        self._finish(_BY_LIFELINE if status is None else Exit.of(status))


_BY_LIFELINE = Exit(None, signal.SIGKILL)
"""What is said of a worker whose status nobody could tell: its warden died, and with it the lifeline."""


class GuardianLauncher:
    """Workers started by a guardian; another is started when it dies, and nobody notices.

    Args:
        cwd: the workers' working directory.
        python: the interpreter of guardian and workers; it must be able to import ``modvisor.worker``.
        preload: modules that the guardian imports.
    """

    def __init__(self, cwd: Path, python: str = sys.executable, preload: tuple[str, ...] = ()) -> None:
        self._cwd = cwd
        self._python = python
        self._preload = preload
        self._guardian: _Guardian | None = None
        self._running: set[GuardedProcess] = set()
        self._sending = asyncio.Lock()

    async def start(self) -> None:
        failures = await self._current().imported()
        if failures:
            what = "; ".join(f"{name!r} cannot be imported: {why}" for name, why in failures.items())
            text = f"network.preload: {what} (install it for {self._python}, or take it out of the list)"
            raise ModvisorError(text, code=Code.START_FAILED, modules=sorted(failures))

    async def launch(self, launch: Launch) -> GuardedProcess:
        for _ in range(ATTEMPTS):
            process = await self._try_launch(launch)
            if process is not None:
                return process
        raise OSError(errno.EPIPE, "the guardian, which starts the workers, dies each time (see the log)")

    async def close(self) -> None:
        """Kill the workers that are still there, wait until they are gone, end the guardian."""
        running = list(self._running)
        for process in running:
            process.kill()
        await asyncio.gather(*(asyncio.shield(process.exited) for process in running))
        if self._guardian is not None:
            guardian, self._guardian = self._guardian, None
            await guardian.end()

    def _current(self) -> _Guardian:
        if self._guardian is None or self._guardian.ended.done():
            self._guardian = _Guardian(self._python, self._preload)
        return self._guardian

    async def _try_launch(self, launch: Launch) -> GuardedProcess | None:
        """None if guardian or warden died over it."""
        with ExitStack() as ours:
            warden, far_warden = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(warden.close)
            with ExitStack() as theirs:
                theirs.callback(far_warden.close)
                sock, far = socket.socketpair()
                ours.callback(sock.close)
                theirs.callback(far.close)
                output, far_output = os.pipe()
                ours.callback(os.close, output)
                theirs.callback(os.close, far_output)
                dump = DumpFile()
                ours.callback(dump.close)
                command, environment = command_and_environment(self._python, launch.python)
                fork = launch.fork and launch.python is None and self._python == sys.executable
                order = Order.of([] if fork else command, environment, self._cwd, launch.cgroup or "")
                fds = [far_warden.fileno(), far.fileno(), far_output, dump.fd]
                async with self._sending:  # in turn: each waits until the guardian takes its order
                    guardian = self._current()
                    await guardian.imported()
                    with guardian.expected():
                        if not await guardian.order(encode(order), fds):
                            return None
            with guardian.expected():
                started = await _answer(warden)
            if started is None:
                return None
            ours.pop_all()
        process = GuardedProcess(started, warden, sock, output, dump, launch, guardian)
        self._running.add(process)
        process.exited.add_done_callback(lambda _exit: self._running.discard(process))
        return process


class _Guardian:
    """The process, the socket it takes orders from, what it has to say."""

    def __init__(self, python: str, preload: tuple[str, ...] = ()) -> None:
        self._loop = asyncio.get_running_loop()
        self._preload = preload
        self._imported: asyncio.Future[dict[str, str]] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as failed, theirs:
            failed.callback(self._sock.close)
            self._popen = subprocess.Popen(
                [python, "-P", "-m", "modvisor.worker.guardian", str(theirs.fileno()), str(os.getpid()), *preload],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=worker_environment(os.environ),
            )
            failed.pop_all()
        self.pid = self._popen.pid
        self.deaf, self.dead = DEAF, DEAD
        assert self._popen.stderr is not None
        self._stderr = self._popen.stderr
        self._begun = b""  # of a line that it has not ended
        self._may_have_children = bool(preload)  # what it imports may start processes; so does every order
        self._sock.setblocking(False)
        os.set_blocking(self._stderr.fileno(), False)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._died)
        self._loop.add_reader(self._stderr, self._log)
        if preload:
            self._loop.add_reader(self._sock, self._has_imported)
        else:
            self._imported.set_result({})

    async def imported(self) -> dict[str, str]:
        """Wait until it has imported what is to be preloaded; what could not be, by name. It is killed if it takes too long."""
        try:
            async with asyncio.timeout(IMPORTING):
                return await asyncio.shield(self._imported)
        except TimeoutError:
            self.send(signal.SIGKILL)
            return dict.fromkeys(self._preload, f"the imports were not done after {IMPORTING:g} s")

    def _has_imported(self) -> None:
        self._loop.remove_reader(self._sock)
        with suppress(OSError, RemoteProtocolError):  # it has died: `_died` will say so
            message = decode(self._sock.recv(MAX_SIZE))
            if isinstance(message, Imported):
                for name, why in message.failures.items():
                    logger.error("network.preload: %r cannot be imported: %s", name, why)
                self._imported.set_result(message.failures)

    async def order(self, data: bytes, fds: list[int]) -> bool:
        """Hand over an order; False if the guardian has died. Raises OSError when the system does not carry it."""
        self._may_have_children = True
        while not self.ended.done():
            try:
                socket.send_fds(self._sock, [data], fds)
                return True
            except BlockingIOError:
                await self._writable()
            except (BrokenPipeError, ConnectionResetError):
                await asyncio.shield(self.ended)
        return False

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Something is expected of it, and it may have been stopped: by a mod, which runs as the same user."""
        self.send(signal.SIGCONT)
        timers = [
            self._loop.call_later(self.deaf, self.send, signal.SIGCONT),
            self._loop.call_later(self.dead, self.send, signal.SIGKILL),
        ]
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    def send(self, signum: int) -> None:
        if not self.ended.done():
            self._popen.send_signal(signum)

    async def _writable(self) -> None:
        writable = self._loop.create_future()
        self._loop.add_writer(self._sock, lambda: writable.done() or writable.set_result(None))
        try:
            await asyncio.wait([writable, self.ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._sock.fileno() >= 0:
                self._loop.remove_writer(self._sock)

    async def end(self) -> None:
        """Let the guardian end. It first waits for its wardens and kills what they left behind.

        A guardian without children is killed at once: it may still be importing, and would notice late.
        """
        self._close()
        self.send(signal.SIGCONT if self._may_have_children else signal.SIGKILL)
        try:
            async with asyncio.timeout(GUARDIAN_END):
                await asyncio.shield(self.ended)
        except TimeoutError:
            logger.error("the guardian (pid %d) did not end and is killed", self.pid)
            self._popen.kill()
            await self.ended

    def _died(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._popen.wait()
        self._log()
        self._loop.remove_reader(self._stderr)
        self._stderr.close()
        if not self._imported.done():
            self._imported.set_result(
                dict.fromkeys(self._preload, "the process that imports it has died over one of them")
            )
        if self._sock.fileno() >= 0:
            self._close()
            logger.warning(
                "the guardian (pid %d) has died: %s; the next launch starts another, no worker is disturbed",
                self.pid, Exit(status, None) if status >= 0 else Exit(None, -status),
            )  # fmt: skip
        self.ended.set_result(None)

    def _close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _log(self) -> None:
        """What it and its wardens complain of, line by line."""
        *lines, self._begun = (self._begun + (self._stderr.read() or b"")).split(b"\n")
        for line in lines:
            logger.error("%s", line.decode("utf-8", "replace"))


async def _answer(warden: socket.socket) -> Started | None:
    """What became of an order; None if whoever had it died. Raises OSError when it was refused.

    When nobody wants the worker any more it is ended first: whoever gave it up can rely on there being none.
    """
    warden.setblocking(False)
    try:
        data = await asyncio.get_running_loop().sock_recv(warden, MAX_SIZE)
    except ConnectionResetError:
        return None
    except asyncio.CancelledError:
        await shielded(_call_off(warden))
        raise
    if not data:
        return None
    match decode(data):
        case Started() as started:
            return started
        case NotStarted(number, message):
            raise OSError(number, message)
    raise OSError(errno.EPROTO, "the warden answered what it was not asked")


async def _call_off(warden: socket.socket) -> None:
    """Have the warden end its worker, or not start it, and wait for its own end. It is not waited for if it is deaf."""
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


# ioctl PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15: what became of a process that somebody else has reaped.
_PIDFD_INFO = struct.Struct("QQ11Ii")
_PIDFD_GET_INFO = 3 << 30 | _PIDFD_INFO.size << 16 | 0xFF << 8 | 11
_PIDFD_INFO_EXIT = 1 << 3


def _exit_status(pidfd: int) -> int | None:
    """The wait status of an ended process, None if the kernel does not tell (it is older, or nobody has reaped it)."""
    info = bytearray(_PIDFD_INFO.size)
    _PIDFD_INFO.pack_into(info, 0, _PIDFD_INFO_EXIT, *(0,) * 13)
    with suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        mask, *_, status = _PIDFD_INFO.unpack(info)
        return status if mask & _PIDFD_INFO_EXIT else None
    return None
