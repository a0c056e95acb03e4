"""Start a worker, know the moment it ends, end it with everything it started."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

STACK_SIGNAL = signal.SIGUSR2
"""On which a worker writes the stack of every thread (`worker.crash` sets that up)."""

READ_SIZE = 4096
"""Bytes of output read in one turn of the loop: a page, which is what a full pipe must give up before it takes more; with
lines of one character it takes 0.1 ms to log."""

BYTE_RATE = 256 * 1024
LINE_RATE = 5000
"""Bytes and lines of a worker's output that are read per second, while it lasts: about 1 % of the supervisor's time. A
mod that prints more waits for its pipe, so it loses no output, and the other mods do not wait for it."""

BURST = 4.0
"""Seconds of `BYTE_RATE` and `LINE_RATE` (1 MB, 20,000 lines) that a worker may print at once, without being slowed down."""

LAST_OUTPUT = 1024 * 1024
"""Bytes read regardless of the budget: as many as an unprivileged process can have in a pipe."""

DUMP_SIZE = 64 * 1024
"""Bytes read for a stack dump, beyond what is in the pipe before it. A mod that goes on printing after its dump gets no more:
its own lines would drive the dump out of the log."""

_SHORTEST_PAUSE = 0.05  # seconds; several reads in a row cost less than a timer for each

# What a worker inherits of the supervisor's environment: enough to run Python, nothing that may hold a secret.
_INHERITED = frozenset({
    "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LOGNAME", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "TEMP", "TERM", "TMP", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
})  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "PYTHON")


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: an exit code or a signal number, the other is None."""

    code: int | None
    signal: int | None
    usage = None

    @property
    def clean(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(self.signal).name}"
        except ValueError:
            return f"signal {self.signal}"


class WorkerProcess:
    """A running worker: its pid, our end of its pipe, the output it writes, and the future of its exit.

    Attributes:
        sock: our end of the pipe; whoever takes it closes it.
        exited: resolves once, the moment the kernel says so, after everything left in its process group was killed.
    """

    def __init__(
        self, popen: subprocess.Popen[bytes], sock: socket.socket, lifeline: int, on_output: Callable[[bytes], None]
    ) -> None:
        self._popen = popen
        self._lifeline = lifeline
        self._loop = asyncio.get_running_loop()
        self.pid = popen.pid
        self.sock = sock
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        assert popen.stdout is not None
        self._output = _Output(popen.stdout, on_output)
        self._watch_death()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the worker and its whole process group; a worker that has ended is left in peace."""
        if not self.exited.done():
            _signal_group(self.pid, signum)

    def dump_stacks(self) -> None:
        """Have the worker itself (not what it started) write the stacks of its threads into its output."""
        if not self.exited.done():
            self._output.hurry()  # where the pipe is full, the dump must wait for room in it
            with suppress(ProcessLookupError):
                os.kill(self.pid, STACK_SIGNAL)

    def stack_dump(self):
        return ""

    async def next_output(self) -> None:
        """Wait until the worker (or what it started) has written something more."""
        await self._output.next()

    # -- death: known by pidfd, not by end of file (a grandchild can hold every pipe open)

    def _watch_death(self) -> None:
        if hasattr(os, "pidfd_open"):
            pidfd = os.pidfd_open(self.pid)
            self._loop.add_reader(pidfd, self._died, pidfd)
        else:  # macOS: a thread waits without reaping, so that the process group id stays ours until `_died`
            threading.Thread(target=self._wait_elsewhere, name=f"wait-{self.pid}", daemon=True).start()

    def _wait_elsewhere(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._loop.call_soon_threadsafe(self._died, None)

    def _died(self, pidfd: int | None) -> None:
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        # Before the zombie is reaped its number cannot be anybody else's.
        _signal_group(self.pid, signal.SIGKILL)
        status = self._popen.wait()
        os.close(self._lifeline)
        self._output.finish()
        if not self.exited.done():
            self.exited.set_result(Exit(status, None) if status >= 0 else Exit(None, -status))


class _Output:
    """Our end of the pipe a worker prints into: read within a budget, closed once.

    While the budget is used up nobody reads: the pipe fills, and whoever prints into it waits.
    """

    def __init__(self, pipe: IO[bytes], on_data: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._fd = pipe.fileno()
        self._on_data = on_data
        self._budget = _Budget(self._loop.time())
        self._pause: asyncio.TimerHandle | None = None
        self._next: asyncio.Future[None] | None = None
        os.set_blocking(self._fd, False)
        self._loop.add_reader(self._fd, self._readable)

    async def next(self) -> None:
        """Wait until something more was read."""
        self._next = self._loop.create_future()
        await self._next

    def hurry(self) -> None:
        """Read on at once, whatever was printed before: what is in the pipe, and a stack dump after it."""
        if self._pipe.closed:
            return
        self._budget.grant(min(_bytes_in(self._fd), LAST_OUTPUT) + DUMP_SIZE)
        if self._pause is not None:
            self._pause.cancel()
            self._resume()

    def finish(self) -> None:
        """The worker has ended: read what it left, then close.

        No more than is in the pipe at this moment: a process that outlived the worker may print for ever. It gets SIGPIPE.
        """
        left = 0 if self._pipe.closed else min(_bytes_in(self._fd), LAST_OUTPUT)
        while left > 0 and (data := self._read(min(left, READ_SIZE))):
            left -= len(data)
        self._close()

    def _readable(self) -> None:
        data = self._read(READ_SIZE)  # one read a turn: a mod that floods its log must not hold the loop
        if data is None:
            return
        if not data:
            self._close()
        elif pause := self._budget.spend(self._loop.time(), data):
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(pause, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._readable)

    def _read(self, size: int) -> bytes | None:
        """Read and pass on; b"" at the end, None if there is nothing at the moment."""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if data:
            self._on_data(data)
            if self._next is not None and not self._next.done():
                self._next.set_result(None)
        return data

    def _close(self) -> None:
        if self._pipe.closed:  # its number may be somebody else's by now
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        else:
            self._loop.remove_reader(self._fd)
        self._pipe.close()


class _Budget:
    """When a worker's output may be read: time and what was read in, a pause out.

    Counted in seconds: a read uses up those in which `BYTE_RATE` or `LINE_RATE`, whichever takes longer, allows as much.
    """

    def __init__(self, now: float) -> None:
        self._left = BURST
        self._at = now
        self._granted = 0

    def spend(self, now: float, data: bytes) -> float:
        """Count ``data``, which was read at ``now``; returns how many seconds not to read, 0.0 if there is no need."""
        self._left = min(BURST, self._left + now - self._at)
        self._at = now
        if self._granted > 0:
            self._granted -= len(data)
            return 0.0
        self._left -= max(len(data) / BYTE_RATE, data.count(b"\n") / LINE_RATE)
        return 0.0 if self._left > 0 else max(_SHORTEST_PAUSE, -self._left)

    def grant(self, size: int) -> None:
        """Let the next ``size`` bytes pass uncounted."""
        self._granted = size


class Launcher(Protocol):
    """Starts workers; one contract, however the process comes to be."""

    def launch(self, on_output: Callable[[bytes], None]) -> WorkerProcess:
        """Start a worker. Raises OSError when the system has no process, descriptor or memory left."""
        ...


class ExecLauncher:
    """A fresh interpreter per worker.

    Args:
        cwd: the workers' working directory.
        python: the interpreter; it must be able to import ``modvisor.worker``.
    """

    def __init__(self, cwd: Path, python: str = sys.executable) -> None:
        self._cwd = cwd
        self._python = python

    async def start(self): ...
    async def close(self): ...
    async def launch(self, on_output: Callable[[bytes], None], *, log_rate=BYTE_RATE) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        lifeline, held = os.pipe()  # see worker.lifeline: the worker dies when our end closes
        try:
            popen = subprocess.Popen(
                # -P: neither the working directory nor a stray modvisor/ in it decides what the worker runs
                [self._python, "-P", "-m", "modvisor.worker", str(theirs.fileno()), str(lifeline)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), lifeline],
                start_new_session=True,
                cwd=self._cwd,
                env=worker_environment(os.environ),
            )
        except BaseException:
            ours.close()
            os.close(held)
            raise
        finally:
            theirs.close()
            os.close(lifeline)
        return WorkerProcess(popen, ours, held, on_output)


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that workers inherit. A mod's own ``env`` reaches it over the pipe, and nobody else."""
    return {
        name: value for name, value in environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def _signal_group(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone; or (macOS) only zombies are left
        os.killpg(pid, signum)


def _bytes_in(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def make_launcher(cwd):
    return ExecLauncher(cwd)
