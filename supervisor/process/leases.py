"""The lease of a node of a cluster, as its exclusive workers feel it: late means dead.

`Leases` starts the lease keeper (`worker.lease`), gives it the deadline after each renewal, and holds
workers to the lease. A worker is held by a descriptor of this process: a read end of the keeper's
pipe, opened for that worker alone, whose owner is the worker's process group and whose signal is
SIGKILL. When the keeper dies, the kernel sends that signal. So it matters neither whether this
process, the guardian, the warden or the worker is stopped, nor how the worker was started. A mod
cannot let go of a descriptor that it does not have. Its warden sees the worker's death and ends the
rest of its tree, as after any death.

Why one pipe, and not one for each worker: the owner of a descriptor belongs to the opened file, and
``/proc/self/fd`` opens the same pipe anew. So the keeper holds one descriptor and knows no workers.

If the keeper dies early, its workers are dead, too. Another keeper is started at once, and the mods
restart. Nothing here is used without a cluster.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from ...ipc.errors import Code, ModvisorError
from .descriptors import reserve
from .interpreters import worker_environment
from .process import WorkerProcess

logger = logging.getLogger("modvisor.lease")

PROGRAM = Path(__file__).parents[2] / "worker" / "lease.py"

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS: its monotonic clock counts sleep, too
_MAX_TEXT = 1024  # bytes
_LINE_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

_DEADLINE, _ARMED = struct.Struct("=d"), b"armed"  # as in worker/lease.py


def boottime() -> float:
    """Return seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


class LeaseLost(ModvisorError):
    """There is no lease in force under which an exclusive mod may run."""

    code = Code.LEASE_LOST


class LeaseKeeper:
    """One lease keeper: the process, the socket for its orders, and the pipe that ends with it.

    Args:
        deadline: the first one.
        on_end: called when the process has ended.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, deadline: float, on_end: Callable[[LeaseKeeper], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self.armed: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as failed, theirs:
            failed.callback(self._orders.close)
            self._line, held = os.pipe()
            failed.callback(os.close, self._line)
            try:
                self._popen = _start(theirs.fileno(), held)
            finally:
                os.close(held)
            failed.callback(self._popen.wait)  # these run last to first
            failed.callback(self._popen.kill)
            self._pidfd = os.pidfd_open(self._popen.pid)
            failed.pop_all()
        self.pid = self._popen.pid
        self._orders.setblocking(False)
        os.set_blocking(self._line, False)
        self.extend(deadline)
        self._loop.add_reader(self._orders, self._told)
        self._loop.add_reader(self._pidfd, self._died)

    def extend(self, deadline: float) -> None:
        """Have the workers live until ``deadline``, in seconds of `boottime`."""
        with suppress(OSError):  # it is gone; or it does not read, so an earlier deadline ends it
            self._orders.send(_DEADLINE.pack(deadline))

    def open_line(self, pid: int) -> int:
        """Have the kernel kill the process group ``pid`` when the keeper dies. Return the descriptor that does it."""
        line = reserve.with_spare(lambda: os.open(f"/proc/self/fd/{self._line}", os.O_RDONLY | _LINE_FLAGS))
        fcntl.fcntl(line, fcntl.F_SETOWN, -pid)  # negative: the group
        fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(line, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        return line

    @property
    def was_armed(self) -> bool:
        return self.armed.done() and self.armed.exception() is None

    def kill(self) -> None:
        """Kill the keeper, and with it all of its workers."""
        if not self.ended.done():
            self._popen.kill()

    def _told(self) -> None:
        """Take the answer to the first order."""
        try:
            text = self._orders.recv(_MAX_TEXT)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        self._loop.remove_reader(self._orders)
        if text == _ARMED:
            self.armed.set_result(None)
        elif text:
            logger.error("the lease keeper has %s", text.decode("utf-8", "replace"))

    def _died(self) -> None:
        for reader in (self._pidfd, self._orders):
            self._loop.remove_reader(reader)
        os.close(self._pidfd)
        self._popen.wait()
        self._orders.close()
        os.close(self._line)
        if not self.armed.done():
            self.armed.set_exception(LeaseLost("the lease keeper ended before it kept the lease (see the log)"))
            self.armed.exception()  # mark it as seen: perhaps nobody waits for it
        self.ended.set_result(None)
        self._on_end(self)


class Leases:
    """Holds the exclusive workers of this node to its lease.

    Attributes:
        deadline: when the lease ends unless it is renewed, in seconds of `boottime`; 0.0: there is none.
        on_over: called when the deadline has passed and the workers are dead.
    """

    def __init__(self) -> None:
        self.deadline = 0.0
        self.on_over: Callable[[], None] = lambda: None
        self._keeper: LeaseKeeper | None = None
        self._ending: set[LeaseKeeper] = set()  # killed, and not reaped yet
        self._held: set[WorkerProcess] = set()

    @property
    def keeper(self) -> int | None:
        """The pid of the lease keeper."""
        return None if self._keeper is None else self._keeper.pid

    async def begin(self, deadline: float) -> None:
        """Begin a new lease; the workers of an old one die.

        Raises:
            OSError: the keeper cannot be started.
            LeaseLost: it cannot keep the lease, or the deadline has passed.
        """
        if sys.platform != "linux":
            raise LeaseLost(
                "a node of a cluster needs Linux, whose kernel ends its exclusive mods in time; run it there"
            )
        self.end()
        self.deadline = deadline
        self._keeper = keeper = reserve.with_spare(lambda: LeaseKeeper(deadline, self._ended))
        await asyncio.shield(keeper.armed)

    def extend(self, deadline: float) -> None:
        """Put the deadline off, after an acknowledged renewal."""
        self.deadline = deadline
        if self._keeper is not None:
            self._keeper.extend(deadline)

    async def hold(self, process: WorkerProcess, on_over: Callable[[], None]) -> None:
        """Let the kernel kill the worker at the end of the lease. It leads its process group already.

        Args:
            on_over: called when the worker has ended, if the lease was over by then.

        Raises:
            LeaseLost: there is no lease, or it has just ended.
            OSError: no descriptor is left.
        """
        if (keeper := self._keeper) is None:
            raise LeaseLost("this node holds no lease, so it must not run an exclusive mod; it joins again by itself")
        await asyncio.shield(keeper.armed)
        if process.exited.done():
            return  # whoever starts it sees that
        if keeper.ended.done():
            raise LeaseLost("the lease of this node ended")
        line = keeper.open_line(process.pid)
        self._held.add(process)
        process.exited.add_done_callback(lambda _exit: self._held.discard(process))
        process.exited.add_done_callback(lambda _exit: _let_go(line, on_over))
        if _is_over(line):  # it ended before the signal was set up
            raise LeaseLost("the lease of this node ended")

    def end(self) -> None:
        """Let the kernel kill all held workers at once."""
        keeper, self._keeper, self.deadline = self._keeper, None, 0.0
        if keeper is not None and not keeper.ended.done():
            self._ending.add(keeper)
            keeper.kill()

    async def close(self) -> None:
        """End the lease. Wait until nothing is left of the keeper, and of any worker that still lived by the lease."""
        self.end()
        await asyncio.gather(*(asyncio.shield(process.exited) for process in self._held))
        await asyncio.gather(*(asyncio.shield(keeper.ended) for keeper in self._ending))

    def _ended(self, keeper: LeaseKeeper) -> None:
        self._ending.discard(keeper)
        if keeper is not self._keeper:
            return  # it was told to end
        self._keeper = None
        if boottime() >= self.deadline or not keeper.was_armed:
            self.deadline = 0.0
            self.on_over()
            return
        logger.warning(
            "the lease keeper (pid %d) has died; its exclusive mods died with it and are restarted", keeper.pid
        )
        try:
            self._keeper = reserve.with_spare(lambda: LeaseKeeper(self.deadline, self._ended))
        except OSError as error:
            logger.error("no lease keeper can be started: %s", error)
            self.on_over()


def _start(orders: int, line: int) -> subprocess.Popen[bytes]:
    """Start the program. It needs nothing but the standard library, so ``-I -S`` keep it small."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(PROGRAM), str(orders), str(line)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[orders, line],
        start_new_session=True,
        cwd="/",
        env=worker_environment(os.environ),
    )


def _is_over(line: int) -> bool:
    try:
        return os.read(line, 1) == b""
    except BlockingIOError:
        return False


def _let_go(line: int, on_over: Callable[[], None]) -> None:
    if _is_over(line):
        on_over()
    os.close(line)
