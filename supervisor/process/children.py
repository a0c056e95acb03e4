"""Workers as children of the supervisor, where there is no guardian (macOS).

The contract is the same, with fewer means: a worker's process group ends with it, but processes
that have left the group go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from .descriptors import reserve
from .interpreters import command_and_environment
from .launch import Launch
from .process import STACK_SIGNAL, DumpFile, Exit, Usage, WorkerProcess, no_more

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2) gives bytes there, KiB elsewhere


class ChildProcess(WorkerProcess):
    """A worker that is a child of the supervisor."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        sock: socket.socket,
        lifeline: int,
        dump: DumpFile,
        launch: Launch,
    ) -> None:
        assert popen.stdout is not None
        with popen.stdout as output:
            super().__init__(popen.pid, sock, os.dup(output.fileno()), dump, launch)
        self._popen = popen
        self._lifeline = lifeline
        try:
            self._watch_death()
        except OSError:  # no descriptor is left
            self._output.finish()
            raise

    def kill(self, signum: int = signal.SIGKILL, *, cgroup: str | None = None) -> None:
        if self.exited.done():
            return
        if cgroup is not None and signum == signal.SIGKILL:
            with suppress(OSError), open(os.path.join(cgroup, "cgroup.kill"), "wb", buffering=0) as file:
                file.write(b"1")
        _signal_group(self.pid, signum)

    def dump_stacks(self) -> None:
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, STACK_SIGNAL)

    # -- death: known by pidfd, not by end of file, since a grandchild can hold every pipe open

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
        # Until the zombie is reaped, its pid cannot belong to another process.
        _signal_group(self.pid, signal.SIGKILL)
        os.close(self._lifeline)
        self._finish(self._reap())

    def _reap(self) -> Exit:
        try:
            _, status, used = os.wait4(self.pid, 0)
        except ChildProcessError:  # other code in this process has reaped all its children
            self._popen.returncode = 0
            return Exit(None, None)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        return Exit.of(status, Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * _RSS_UNIT))


class ExecLauncher:
    """Starts a fresh interpreter for each worker.

    Args:
        cwd: the workers' working directory.
        python: the interpreter. It must be able to import ``modvisor.worker``.
    """

    def __init__(self, cwd: Path, python: str = sys.executable) -> None:
        self._cwd = cwd
        self._python = python
        self._running: set[ChildProcess] = set()
        self._is_closed = False

    async def start(self) -> None:
        """Do nothing: there is nothing to prepare."""

    async def launch(self, launch: Launch) -> ChildProcess:
        if self._is_closed:
            raise no_more()
        process = reserve.with_spare(lambda: self._launch(launch))
        self._running.add(process)
        process.exited.add_done_callback(lambda _exit: self._running.discard(process))
        return process

    def _launch(self, launch: Launch) -> ChildProcess:
        command, environment = command_and_environment(self._python, launch.python)
        with ExitStack() as ours, ExitStack() as theirs:
            sock, far = socket.socketpair()
            ours.callback(sock.close)
            theirs.callback(far.close)
            lifeline, held = os.pipe()  # see worker.lifeline: the worker dies when our end closes
            ours.callback(os.close, held)
            theirs.callback(os.close, lifeline)
            dump = DumpFile()
            ours.callback(dump.close)
            fds = [far.fileno(), lifeline, dump.fd]
            popen = subprocess.Popen(
                [*command, *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=fds,
                start_new_session=True,
                cwd=self._cwd,
                env=environment,
            )
            ours.callback(popen.wait)  # these run last to first
            ours.callback(popen.kill)
            process = ChildProcess(popen, sock, held, dump, launch)
            ours.pop_all()
        return process

    @property
    def roots(self) -> frozenset[int]:
        return frozenset(each.pid for each in self._running)

    async def close(self) -> None:
        """Kill the workers that still run, and wait until they are gone. No other one is started."""
        self._is_closed = True
        running = list(self._running)
        for process in running:
            process.kill()
        await asyncio.gather(*(asyncio.shield(process.exited) for process in running))


def _signal_group(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group is gone; on macOS also: only zombies are left
        os.killpg(pid, signum)
