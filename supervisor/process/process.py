"""A running worker as its supervisor holds it, and how it ended; one contract, however it was started."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass

from .launch import Launch
from .output import Output

STACK_SIGNAL = signal.SIGUSR2
"""On which a worker writes the stack of every thread (`worker.crash` sets that up)."""

DUMP_SIZE = 256 * 1024
"""Bytes of stack dumps kept of one worker: faulthandler's 100 frames of 25 threads; a mod can fill it, not exceed it."""

_QUIET = 0.03  # seconds in which a dump must not grow to be taken for whole
_LOOK = 0.005  # seconds between two looks at it: a file tells nobody that it grew


@dataclass(frozen=True, slots=True)
class Usage:
    """What a worker used, with all it started as far as the system counts it.

    Attributes:
        cpu_seconds: of all its processes together.
        max_rss: bytes, of the largest of them. Without a guardian no less than the supervisor's own size: Linux counts the
            memory that a process had before it became another program.
    """

    cpu_seconds: float
    max_rss: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: an exit code or a signal number, the other is None; both are if nobody could tell."""

    code: int | None
    signal: int | None
    usage: Usage | None = None

    @classmethod
    def of(cls, status: int, usage: Usage | None = None) -> Exit:
        """From a status as wait(2) gives it."""
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


class DumpFile:
    """Where a worker's faulthandler writes: shared memory of a fixed size, or an unlinked file where there is none."""

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
        data = os.pread(self.fd, DUMP_SIZE, 0)
        return data.partition(b"\0")[0].decode("utf-8", "replace")

    def close(self) -> None:
        os.close(self.fd)


class WorkerProcess(ABC):
    """A running worker: its pid, our end of its pipe, the output it writes, and the future of its exit.

    Attributes:
        sock: our end of the pipe; whoever takes it closes it.
        in_cgroup: whether it began in the cgroup that was asked for.
        exited: resolves once, after everything of its tree was killed (without a guardian: of its process group) and it
            was reaped.
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
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._output = Output(output, launch.on_output, launch.log_rate)
        self._on_output = launch.on_output
        self._dump: DumpFile | None = dump
        self._last_dump = ""

    @abstractmethod
    def kill(self, signum: int = signal.SIGKILL, *, cgroup: str | None = None) -> None:
        """SIGKILL: end the whole tree, by its cgroup's ``cgroup.kill`` too if that folder is given. Another signal: send it
        to the worker's process group. A worker that has ended is left in peace."""

    @abstractmethod
    def dump_stacks(self) -> None:
        """Have the worker itself (not what it started) write the stacks of its threads where `stack_dump` reads."""

    def stack_dump(self) -> str:
        """What faulthandler has written so far, for a fatal error too; "" if nothing. Also when the worker has ended."""
        return self._last_dump if self._dump is None else self._dump.read()

    async def dumped(self, timeout: float) -> str:
        """`dump_stacks`, and wait ``timeout`` seconds at most until it is written. A stopped worker writes nothing."""
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

    async def next_output(self) -> None:
        """Wait until the worker (or what it started) has written something more."""
        await self._output.next()

    def _finish(self, exit: Exit) -> None:
        """It has ended: read what it left, its stacks at the end of its output, where people look."""
        if self._dump is None:
            return
        self._output.finish()
        self._last_dump = self._dump.read()
        self._dump.close()
        self._dump = None
        if self._last_dump:
            self._on_output(f"\n{self._last_dump}".encode())
        if not self.exited.done():
            self.exited.set_result(exit)
