"""Start a worker, know the moment it ends, end it with everything it started."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

STACK_SIGNAL = signal.SIGUSR2
"""On which a worker writes the stack of every thread (`worker.crash` sets that up)."""

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
        self._on_output = on_output
        self.pid = popen.pid
        self.sock = sock
        self._next_output: asyncio.Future[None] | None = None
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        assert popen.stdout is not None
        self._output = popen.stdout.fileno()
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read_output)
        self._watch_death()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the worker and its whole process group; a worker that has ended is left in peace."""
        if not self.exited.done():
            _signal_group(self.pid, signum)

    def dump_stacks(self) -> None:
        """Have the worker itself (not what it started) write the stacks of its threads into its output."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, STACK_SIGNAL)

    async def next_output(self) -> None:
        """Wait until the worker (or what it started) has written something more."""
        self._next_output = self._loop.create_future()
        await self._next_output

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
        self._read_output(last=True)
        if not self.exited.done():
            self.exited.set_result(Exit(status, None) if status >= 0 else Exit(None, -status))

    # -- output

    def _read_output(self, last: bool = False) -> None:
        while True:
            try:
                data = os.read(self._output, 65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                last = True
                break
            self._on_output(data)
            if self._next_output is not None and not self._next_output.done():
                self._next_output.set_result(None)
            if not last:  # one read a turn: a mod that floods its log must not hold the loop
                return
        if last and self._popen.stdout is not None and not self._popen.stdout.closed:
            self._loop.remove_reader(self._output)
            self._popen.stdout.close()


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

    def launch(self, on_output: Callable[[bytes], None]) -> WorkerProcess:
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
