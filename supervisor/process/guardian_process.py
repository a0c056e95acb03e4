"""The guardian as the supervisor holds it: one process, from which the workers are started.

See `worker.guardian` for what the process does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...ipc.errors import RemoteProtocolError
from ...ipc.launching import MAX_SIZE, Imported, Importing, decode
from .interpreters import worker_environment
from .process import Exit

logger = logging.getLogger("modvisor.guardian")

DEAF = 1.0
"""Seconds after which a guardian that must start a worker counts as stopped, and is continued."""

DEAD = 10.0
"""Seconds after which it is killed. Another guardian takes its place."""

GUARDIAN_END = 5.0
"""Seconds the guardian has to end. Its workers have ended before it is asked to."""

MAX_LINE = 16 * 1024
"""Bytes of a line that a guardian prints, and read at once; a longer line is split."""

ARENAS = "2"
"""Arenas of the C library's allocator in a forked worker, unless the supervisor's own MALLOC_ARENA_MAX says otherwise.

By default each thread makes one, with memory that no other thread gets. Python's threads take turns
anyway: with two arenas, a mod with many busy plain handlers takes a third less memory. The guardian
reads the variable when it starts; workers do not see it.
"""

IMPORTING = 60.0
"""Seconds the guardian has to import one module that is to be preloaded: `network.preload_timeout`."""


class GuardianProcess:
    """The guardian: its process, the socket that takes its orders, and what it complains of.

    Attributes:
        ended: resolves when the process has ended.
        deaf, dead: `DEAF` and `DEAD`, for tests to change.
    """

    def __init__(self, python: str, preload: tuple[str, ...] = (), preload_timeout: float = IMPORTING) -> None:
        self._loop = asyncio.get_running_loop()
        self._preload = preload
        self._preload_timeout = preload_timeout
        self._importing: str | None = None
        self._late: asyncio.TimerHandle | None = None  # for the import that is under way
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
                env={"MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", ARENAS), **worker_environment(os.environ)},
            )
            failed.callback(self._popen.wait)  # these run last to first
            failed.callback(self._popen.kill)
            assert self._popen.stderr is not None
            failed.callback(self._popen.stderr.close)
            self._pidfd = os.pidfd_open(self._popen.pid)
            failed.pop_all()
        self.pid = self._popen.pid
        self.deaf, self.dead = DEAF, DEAD
        self._stderr = self._popen.stderr
        self._begun = b""  # the beginning of an unfinished line
        self._may_have_children = bool(preload)  # imported modules may start processes, and so does every order
        self._sock.setblocking(False)
        os.set_blocking(self._stderr.fileno(), False)
        self._loop.add_reader(self._pidfd, self._died)
        self._loop.add_reader(self._stderr, self._log)
        if preload:
            self._loop.add_reader(self._sock, self._imports)
        else:
            self._imported.set_result({})

    async def imported(self) -> dict[str, str]:
        """Wait until ``preload`` is imported. Return the modules that failed, each with the reason.

        A guardian whose import of one module takes longer than ``preload_timeout`` is killed.
        """
        return await asyncio.shield(self._imported)

    def _imports(self) -> bool:
        """Note what the guardian says of its imports. Return whether it began with another one."""
        try:
            message = decode(self._sock.recv(MAX_SIZE))
        except BlockingIOError:
            return False
        except (OSError, RemoteProtocolError):  # it has died: `_died` reports that
            message = None
        if self._late is not None:
            self._late.cancel()
        if isinstance(message, Importing):
            self._importing = message.name
            self._late = self._loop.call_later(self._preload_timeout, self._import_hangs, message.name)
            return True
        self._loop.remove_reader(self._sock)
        if isinstance(message, Imported) and not self._imported.done():
            self._report(message)
            self._imported.set_result(message.failures)
        return False

    def _import_hangs(self, name: str) -> None:
        why = f"its import took more than {self._preload_timeout:g} s (network.preload_timeout)"
        self._report(Imported({name: why}, {}))
        self._imported.set_result({name: why})
        self.send(signal.SIGKILL)

    def _report(self, imported: Imported) -> None:
        for name, why in imported.failures.items():
            logger.error("network.preload: %r cannot be imported: %s", name, why)
        for name, names in imported.threads.items():
            logger.warning(
                "network.preload: the import of %r started threads (%s). Forked workers do not have them, so a mod that "
                "uses it may hang; take it out of the list, or give such mods 'launch: exec'", name, names,
            )  # fmt: skip

    async def order(self, data: bytes, fds: list[int]) -> bool:
        """Hand over an order. Return False if the guardian has died.

        Raises:
            OSError: the system cannot send the order.
        """
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
        """Expect something of the guardian, which a mod may have stopped: it runs as the same user.

        The guardian is continued now and after `deaf` seconds, and killed after `dead` seconds.
        """
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
        """Send the guardian a signal, unless it has ended."""
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
        """End the guardian. It first waits for its wardens and kills what they left behind.

        A guardian without children is killed at once, since it may be importing and notice late.
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
        while self._log():
            pass
        self._loop.remove_reader(self._stderr)
        self._stderr.close()
        while not self._imported.done() and self._sock.fileno() >= 0 and self._imports():
            pass  # its last word may be unread: the name of the import that ended it
        if self._late is not None:
            self._late.cancel()
        if not self._imported.done():
            over = self._preload if self._importing is None else (self._importing,)
            self._imported.set_result(dict.fromkeys(over, f"its import ended the process: {_ending(status)}"))
        if self._sock.fileno() >= 0:
            self._close()
            logger.warning(
                "the guardian (pid %d) has died: %s; its workers go on, and the next launch starts another guardian",
                self.pid, _ending(status),
            )  # fmt: skip
        self.ended.set_result(None)

    def _close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _log(self) -> bool:
        """Log what the guardian and its wardens complain of, line by line. Return whether there was any."""
        try:
            data = os.read(self._stderr.fileno(), MAX_LINE)
        except BlockingIOError:
            return False
        if not data:  # an imported module has closed it
            self._loop.remove_reader(self._stderr)
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > MAX_LINE or not data:
            lines, self._begun = [*lines, self._begun], b""
        for line in filter(None, lines):
            logger.error("%s", line.decode("utf-8", "replace"))
        return bool(data)


def _ending(status: int) -> Exit:
    return Exit(status, None) if status >= 0 else Exit(None, -status)
