"""A running worker as the supervisor holds it, and how it ended: one contract for all launchers."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass

from ...ipc.errors import Code, ModvisorError
from .launch import Launch
from .output import WorkerOutput

STACK_SIGNAL = signal.SIGUSR2
"""The signal on which a worker writes the stack of every thread (`worker.crash` sets that up)."""

DUMP_SIZE = 256 * 1024
"""Bytes of stack dumps kept of one worker: faulthandler's 100 frames of 25 threads.

A mod can fill them, and not exceed them.
"""

_BEGINNING = 4096
"""Bytes of a dump that are read first. All of an empty one is 64 pages of zeros, at a millisecond for each worker."""

_QUIET = 0.03  # seconds without growth after which a dump counts as complete
_LOOK = 0.005  # seconds between two looks at a dump: a file does not report that it grew


@dataclass(frozen=True, slots=True)
class Usage:
    """What a worker used, with the processes that it started, as far as the system counts them.

    Attributes:
        cpu_seconds: of all its processes together.
        max_rss: bytes of the largest process. Without a guardian it is at least the supervisor's
            own size, because Linux counts what a process held before it became another program.
    """

    cpu_seconds: float
    max_rss: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by an exit code or by a signal; the other is None.

    Both are None if unknown.
    """

    code: int | None
    signal: int | None
    usage: Usage | None = None

    @classmethod
    def of(cls, status: int, usage: Usage | None = None) -> Exit:
        """Return the exit for a status of wait(2)."""
        code = os.waitstatus_to_exitcode(status)
        return cls(code, None, usage) if code >= 0 else cls(None, -code, usage)

    @property
    def clean(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        if self.signal is None:
            return "an unknown exit status" if self.code is None else f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(self.signal).name}"
        except ValueError:
            return f"signal {self.signal}"


_STOPPED_BY = {b"T": "a signal (SIGSTOP, SIGTSTP)", b"t": "a debugger"}
_CANNOT_RUN = frozenset({*_STOPPED_BY, b"Z", b"X", *([b""] if sys.platform == "linux" else [])})


class DumpFile:
    """Where a worker's faulthandler writes: shared memory of a fixed size, or else an unlinked
    file.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create("modvisor-dump", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.fd, DUMP_SIZE)
            seals = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        else:
            with tempfile.TemporaryFile() as file:
                self.fd = os.dup(file.fileno())

    def read(self) -> str:
        data = os.pread(self.fd, _BEGINNING, 0)
        if len(data) == _BEGINNING and b"\0" not in data:  # seldom: most workers end without a dump
            data = os.pread(self.fd, DUMP_SIZE, 0)
        return data.partition(b"\0")[0].decode("utf-8", "replace")

    def close(self) -> None:
        os.close(self.fd)


class WorkerProcess(ABC):
    """A running worker: its pid, our end of its pipe, the output it writes, and the future of its
    exit.

    Attributes:
        sock: our end of the pipe; the code that takes it closes it.
        in_cgroup: whether it was started in the cgroup of its `Launch`.
        is_forked: whether it is confined to its cell by its `load`; else it was before it began.
        cell: the means of each part of its cell that is in force, see `ipc.cell`.
        relay_socket: where the mod knocks that reaches hosts through the relay; the code that takes
            it closes it. None: it has no such place.
        exited: resolves once, after its whole tree was killed and it was reaped. Without a guardian
            only its process group is killed.
    """

    def __init__(
        self,
        pid: int,
        sock: socket.socket,
        output: int,
        dump: DumpFile,
        launch: Launch,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.pid = pid
        self.sock = sock
        self.in_cgroup = False
        self.is_forked = False
        self.cell: dict[str, str] = {}
        self.relay_socket: socket.socket | None = None
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._output = WorkerOutput(output, launch.on_output, launch.log_rate)
        self._on_output, self._on_end = launch.on_output, launch.on_end
        self._dump: DumpFile | None = dump
        self._last_dump = ""

    @abstractmethod
    def kill(self, signum: int = signal.SIGKILL, *, cgroup: str | None = None) -> None:
        """End the whole tree; or send another signal to the worker's process group.

        Does nothing for a worker that has ended.

        Args:
            cgroup: the folder of the worker's cgroup, for SIGKILL by its ``cgroup.kill``.
        """

    @abstractmethod
    def dump_stacks(self) -> None:
        """Have the worker, not its children, write the stacks of its threads for `stack_dump`."""

    def stack_dump(self) -> str:
        """Return what faulthandler has written so far, also for a fatal error; "" if nothing.

        Works for a worker that has ended, too.
        """
        return self._last_dump if self._dump is None else self._dump.read()

    async def dumped(self, timeout: float) -> str:
        """Dump the stacks and wait until they are written, ``timeout`` seconds at most.

        A stopped worker writes nothing.
        """
        before = self.stack_dump()
        self.dump_stacks()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while (dump := self.stack_dump()) == before and not self.exited.done():  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK)
                last = ""
                while last != dump:
                    last = dump
                    await asyncio.sleep(_QUIET)
                    dump = self.stack_dump()
        return self.stack_dump()

    def stopped_by(self) -> str | None:
        """Return what has stopped the process (its state is T or t); None if it runs, or nobody knows."""
        return _STOPPED_BY.get(self._state())

    def can_run(self) -> bool:
        """Return whether the process has neither ended nor been stopped, as far as the system says."""
        return not self.exited.done() and self._state() not in _CANNOT_RUN

    def _state(self) -> bytes:
        """Return the state of proc_pid_stat(5), such as b"S"; b"" if there is no such process or no ``/proc``."""
        try:
            fd = os.open(f"/proc/{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            stat = os.read(fd, 1024)
        except OSError:  # it ended in between
            return b""
        finally:
            os.close(fd)
        return stat[stat.rindex(b")") + 2 :][:1]

    async def become(self, launch: Launch) -> None:
        """Be the worker of ``launch`` from now on: its output goes there. Nothing is started."""
        self._on_output, self._on_end = launch.on_output, launch.on_end
        self._output.hand_over(launch.on_output, launch.log_rate)

    async def next_output(self) -> None:
        """Wait until the worker, or a process that it started, has printed something more."""
        await self._output.next()

    def _finish(self, exit: Exit) -> None:
        """Read what an ended worker left. Its stacks follow its last output, where people look."""
        if self._dump is None:
            return
        self._output.finish()
        self._last_dump = self._dump.read()
        self._dump.close()
        self._dump = None
        if self._last_dump:
            self._on_output(f"\n{self._last_dump}".encode())
        self._on_end()
        if not self.exited.done():
            self.exited.set_result(exit)


def no_more() -> ModvisorError:
    """Return the failure of a launch that comes after the launcher was closed."""
    return ModvisorError("the network stops, and starts no worker any more", code=Code.NOT_RUNNING)
