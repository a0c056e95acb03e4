"""The warden of one worker: starts it, sees its end, and leaves no process of its tree behind.

The warden is forked from the guardian, with some 1 MB of its own. It is the worker's parent and the
*subreaper* of its tree: every process that the worker starts and abandons becomes a child of the
warden, even if it was forked twice or has a session of its own. So the tree of a worker is exactly
what lives below its warden. It cannot be mistaken for another tree, nor lost when the worker dies.

Why is the worker not its own subreaper? It would collect the zombies of all orphans, and could not
tell them from children that the mod started and still waits for. Why not one process for all
workers? It would have to guess whose orphan it got (a process can change its session and its
environment), and its death would orphan every tree at once.

The warden ends the tree when the worker ends, when the supervisor says so, and when the supervisor
is gone: the socket ends, or the supervisor's process (a process that it forked may still hold the
socket open). When the warden itself is killed, the lifeline kills the worker's group
(`worker.lifeline`; the warden alone holds the write end). The guardian kills the rest.

In a cell (`worker.cell`) the warden is the first process of a PID namespace. Then the kernel does
all that: it gives the warden every orphan, and ends the tree with it.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from ...ipc.launching import (
    MAX_SIZE,
    NOT_CONFINED,
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
from .. import confining
from ..cell import overlays
from ..cell.apply import confine
from ..cell.files import Files
from ..cell.namespaces import Space
from ..cell.outside import open_way
from ..cell.refusal import NotEnforced
from . import program, tree
from .clone import adopt_orphans, continue_with_parent, fork_into, set_name
from .forked import Forked

PATIENCE = 5.0
"""Seconds after which the end of a worker is reported even if a process of its tree cannot be
killed (it waits for a dead disk, or belongs to another user). The guardian goes on trying."""

_PASS = 0.01  # seconds between two looks; killed processes usually end within


def serve(order: Order, fds: list[int], supervisor: int, space: Space) -> None:
    """Start the worker of ``order``, and watch over it until no process of its tree is left.

    Args:
        fds: the descriptors of the order, see `ipc.launching`. All but the first are closed here.
        supervisor: pidfd of the supervisor, or -1.
        space: the namespaces that this process was cloned into.
    """
    set_name(b"modvisor-warden")
    continue_with_parent()
    control = socket.socket(fileno=fds[0])
    deaths = Deaths()
    lifeline, held = os.pipe()
    way = -1
    try:
        space.enter()
        outside, way = open_way(order.cell, space)
        if not space.is_init:  # otherwise the kernel gives it the orphans anyway
            adopt_orphans()
        files = Files(order.cell, space, is_ahead=order.is_ahead)
        confining.by(lambda cell: confine(cell, files))
        os.chdir(order.cwd)
        in_cgroup, report = False, space.report() | outside
        if order.argv:
            files.make()
            worker, confined = program.begin(order, fds[1], lifeline, fds[2], fds[3], files)
            report |= confined
        else:
            worker = fork_into(order.cgroup) if order.cgroup else None
            in_cgroup = worker is not None
            if worker is None:
                worker = os.fork()
        if not worker:
            forked = Forked(order.is_ahead, fds[1], lifeline, fds[2], fds[3])
            control.close()
            deaths.close()
            os.close(held)
            space.leave_outside()
            files.leave_telling()
            if way >= 0:
                os.close(way)  # the mod could accept its own connections on it
            if supervisor >= 0:
                os.close(supervisor)
            raise forked
        os.chdir("/")  # the warden must not keep a file system busy
    except (OSError, NotEnforced, program.NotBegun) as error:
        _send(control, not_started(error))
        control.close()
        return
    finally:
        for fd in (lifeline, *fds[1:]):
            os.close(fd)
    pid, start_time = space.seen_from_outside(worker)
    space.leave_outside()
    _send(control, Started(pid, space.pid, start_time, in_cgroup, report), way)
    files.make()
    files.leave_waiting()
    _Warden(control, worker, supervisor, deaths, files).watch()
    control.close()
    os.close(held)


class _Warden:
    def __init__(self, control: socket.socket, worker: int, supervisor: int, deaths: Deaths, files: Files) -> None:
        self._files = files
        self._control = control
        self._worker = worker
        self._supervisor = supervisor
        self._deaths = deaths
        self._status: int | None = None  # the worker's, once it is reaped

    def watch(self) -> None:
        """Wait until the worker ends or has to end, then end its tree and report."""
        poll = select.poll()
        for fd in (self._control.fileno(), self._deaths.fd, self._supervisor):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ending = False
        while not ending:
            for fd, _ in poll.poll():
                if fd == self._deaths.fd:
                    ending = self._bury() or ending
                elif fd == self._supervisor:
                    return self._end()
                elif fd == self._control.fileno():
                    data = self._next_word()
                    if not data:
                        return self._end()
                    ending = self._obey(decode(data)) or ending
        self._end()
        if self._status is not None:
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            _send(self._control, Ended(self._status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))

    def _next_word(self) -> bytes:
        """Return the supervisor's next message; b"" at the end of the socket."""
        try:
            return self._control.recv(MAX_SIZE)
        except ConnectionResetError:  # closed before it had read our last message
            return b""

    def _obey(self, message: Message) -> bool:
        """Carry out a message. Return whether the tree has to end.

        The worker is not reaped before that, so its pid is still its own.
        """
        match message:
            case Signal(signum, group):
                with suppress(ProcessLookupError):
                    (os.killpg if group else os.kill)(self._worker, signum)
            case Kill(cgroup):
                if cgroup:
                    with suppress(OSError), open(os.path.join(cgroup, b"cgroup.kill"), "wb", buffering=0) as file:
                        file.write(b"1")
                return True
            case Hide(paths):
                self._files.hide(paths)
        return False

    def _bury(self) -> bool:
        """Reap ended orphans. Return whether the worker has ended, which is not reaped here."""
        if signal.SIGHUP in self._deaths.forget():
            overlays.refresh()
            self._files.hide()
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == self._worker:
                    return True
                os.waitpid(ended.si_pid, 0)
        return False

    def _end(self) -> None:
        """Kill and reap the whole tree. Nothing is left when there is no child to wait for."""
        if self._reap_ended():  # usually the mod has left nothing behind
            return
        deadline, thorough = time.monotonic() + PATIENCE, False
        while self._status is None or time.monotonic() < deadline:
            self._kill(thorough)
            if self._reap_all(time.monotonic() + _PASS):
                return
            thorough = not thorough
        with suppress(OSError):  # the guardian's end closes its stderr
            print(f"warden of {self._worker}: still there: {tree.below(os.getpid())}", file=sys.stderr)  # noqa: T201

    def _kill(self, thorough: bool) -> None:
        """Kill what lives below this process: in a PID namespace of its own, by one call that no fork escapes."""
        if not self._files.space.is_init:
            tree.kill(lambda: tree.below(os.getpid(), thorough=thorough))
            return
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)

    def _reap_all(self, deadline: float) -> bool:
        """Reap what ends. Return True when no child is left, False at the deadline."""
        while (left := deadline - time.monotonic()) > 0:
            self._deaths.forget()
            if self._reap_ended():
                return True
            self._deaths.wait(left)
        return False

    def _reap_ended(self) -> bool:
        """Reap what has ended. Return True when no child is left: by then no orphan is, either."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._worker:
                    self._status = ended[1]
        except ChildProcessError:
            return True
        return False


class Deaths:
    """A descriptor for `select.poll`, readable when a child has ended. Call `listen` first."""

    @staticmethod
    def listen() -> None:
        """Handle SIGCHLD and SIGHUP in Python, in this process and those forked from it.

        SIGHUP is the guardian's word to wardens, see `arrivals`. That of a terminal does no harm.
        """
        for signum in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(signum, lambda _signum, _frame: None)

    def __init__(self) -> None:
        self.fd, self._told = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._told, False)
        signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def forget(self) -> bytes:
        """Forget the deaths so far. Reap after this call, not before: no death must be missed.

        Returns:
            the signals that have come.
        """
        with suppress(BlockingIOError):
            return os.read(self.fd, 4096)
        return b""

    def wait(self, timeout: float) -> None:
        """Wait until a child ends, at most ``timeout`` seconds."""
        self._poll.poll(1000 * timeout)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._told)


def not_started(error: OSError | NotEnforced | program.NotBegun) -> NotStarted:
    if isinstance(error, NotEnforced):
        return NotStarted(NOT_CONFINED, str(error))
    if isinstance(error, program.NotBegun):
        return NotStarted(error.errno, error.text)
    return NotStarted(
        error.errno or 0, f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error.strerror)
    )


def _send(control: socket.socket, message: Message, passed: int = -1) -> None:
    """Send a message, and a descriptor with it, which is closed here."""
    with suppress(BrokenPipeError, ConnectionResetError):  # the supervisor is gone
        socket.send_fds(control, [encode(message)], [passed] if passed >= 0 else [])
    if passed >= 0:
        os.close(passed)
