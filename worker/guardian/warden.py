"""The warden of one worker: starts it, is told of its end, and sees to it that nothing of its tree is left.

Forked from the guardian, with some 1 MB of its own, it is the worker's parent and the *subreaper* of its tree: whatever the
worker starts and abandons, forked twice or with a session of its own, becomes a child of the warden. So the tree of a worker
is what lives below its warden, always and exactly; it cannot be mistaken for another's, nor lost when the worker dies.

Why not the worker itself as the subreaper: it would collect the zombies of every orphan, and none of them can be told from
a child that the mod started and still wants to wait for. Why not one process for all workers: it would have to guess whose
orphan it was given (session and environment can be shed), and its death would orphan every tree at once.

The warden ends the tree when the worker ends, when it is told to, and when its supervisor is gone: the socket ends, or the
supervisor's process does (a process that it forked may hold the socket open). When the warden itself is killed, the lifeline
does (`worker.lifeline`; it alone holds the write end), and the guardian kills what has left the worker's group.
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

from ...ipc.launching import MAX_SIZE, Ended, Kill, Message, NotStarted, Order, Signal, Started, decode, encode
from . import tree
from .clone import fork_into
from .forked import Forked
from .prctl import adopt_orphans, continue_with_parent, set_name

PATIENCE = 5.0
"""Seconds after which the end of a worker is reported though something of its tree cannot be killed (it waits for a dead
disk, or belongs to another user); the guardian goes on trying."""

_PASS = 0.01  # seconds in which what was killed has ended, as a rule; then we look again

# Made before the fork, as all that a warden need not make for itself: each page it writes to is its own from then on.
_SIGNALS = sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


def serve(order: Order, fds: list[int], supervisor: int) -> None:
    """Start the worker of ``order`` and watch over it until nothing of it is left.

    Args:
        fds: those of the order, see `ipc.orders`; closed here but the first.
        supervisor: pidfd of the supervisor, or -1.
    """
    set_name(b"modvisor-warden")
    adopt_orphans()
    continue_with_parent()
    control = socket.socket(fileno=fds[0])
    deaths = Deaths()
    lifeline, held = os.pipe()
    try:
        os.chdir(order.cwd)
        in_cgroup = False
        if order.argv:
            worker = _spawn(order, fds[1], lifeline, fds[2], fds[3])
        else:
            worker = fork_into(order.cgroup) if order.cgroup else None
            in_cgroup = worker is not None
            if worker is None:
                worker = os.fork()
        if not worker:
            forked = Forked(order, fds[1], lifeline, fds[2], fds[3])
            control.close()
            deaths.close()
            os.close(held)
            if supervisor >= 0:
                os.close(supervisor)
            raise forked
        os.chdir("/")  # who only waits keeps no disk busy
    except OSError as error:
        _send(control, refusal(error))
        return
    finally:
        for fd in (lifeline, *fds[1:]):
            os.close(fd)
    _send(control, Started(worker, os.getpid(), tree.start_time(worker), in_cgroup))
    _Warden(control, worker, supervisor, deaths).watch()
    os.close(held)


def _spawn(order: Order, sock: int, lifeline: int, output: int, dump: int) -> int:
    """The worker, in a session of its own, with every signal as a fresh process has it. Raises OSError."""
    for fd in (sock, lifeline, dump):
        os.set_inheritable(fd, True)
    return os.posix_spawn(
        order.argv[0],
        [*order.argv, *(str(fd) for fd in (sock, lifeline, dump))],
        order.env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_SIGNALS,
    )


class _Warden:
    def __init__(self, control: socket.socket, worker: int, supervisor: int, deaths: Deaths) -> None:
        self._control = control
        self._worker = worker
        self._supervisor = supervisor
        self._deaths = deaths
        self._status: int | None = None  # of the worker, once it is reaped

    def watch(self) -> None:
        """Until the worker ends, or has to."""
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
        """Of the supervisor; b"" when it has let go of us. If it had not read our last word, the kernel calls that a reset."""
        try:
            return self._control.recv(MAX_SIZE)
        except ConnectionResetError:
            return b""

    def _obey(self, message: Message) -> bool:
        """Whether the end has come. The worker is not reaped before it, so its number is its own."""
        match message:
            case Signal(signum, group):
                with suppress(ProcessLookupError):
                    (os.killpg if group else os.kill)(self._worker, signum)
            case Kill(cgroup):
                if cgroup:
                    with suppress(OSError), open(os.path.join(cgroup, b"cgroup.kill"), "wb", buffering=0) as file:
                        file.write(b"1")
                return True
        return False

    def _bury(self) -> bool:
        """Reap the orphans that have ended; whether the worker has."""
        self._deaths.forget()
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == self._worker:
                    return True
                os.waitpid(ended.si_pid, 0)
        return False

    def _end(self) -> None:
        """Kill the whole tree, reap it. The kernel says when nothing is left: there is nobody to wait for."""
        if self._reap_ended():  # as a rule: a mod that has left nothing behind
            return
        deadline, thorough = time.monotonic() + PATIENCE, False
        while self._status is None or time.monotonic() < deadline:
            tree.kill(lambda: tree.below(os.getpid(), thorough=thorough))  # noqa: B023 - called at once
            if self._reap_all(time.monotonic() + _PASS):
                return
            thorough = not thorough
        print(f"warden of {self._worker}: still there: {tree.below(os.getpid())}", file=sys.stderr)  # noqa: T201

    def _reap_all(self, deadline: float) -> bool:
        """Reap what ends; True when there is no child any more, False at the deadline."""
        while (left := deadline - time.monotonic()) > 0:
            self._deaths.forget()
            if self._reap_ended():
                return True
            self._deaths.wait(left)
        return False

    def _reap_ended(self) -> bool:
        """Those that have ended by now; True when no child is left. The kernel has given us all orphans before it says so."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._worker:
                    self._status = ended[1]
        except ChildProcessError:
            return True
        return False


class Deaths:
    """A descriptor that can be read when a child has ended, for `select.poll`: of SIGCHLD, for which `listen` has seen to."""

    @staticmethod
    def listen() -> None:
        """Have Python take notice of SIGCHLD, in this process and those forked from it."""
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)

    def __init__(self) -> None:
        self.fd, self._told = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._told, False)
        signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def forget(self) -> None:
        """Take note of those so far. Look for them afterwards, not before."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def wait(self, timeout: float) -> None:
        """Until a child ends, ``timeout`` seconds at most."""
        self._poll.poll(1000 * timeout)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._told)


def refusal(error: OSError) -> NotStarted:
    return NotStarted(
        error.errno or 0, f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error.strerror)
    )


def _send(control: socket.socket, message: Message) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the supervisor is gone; the next read says so
        control.send(encode(message))
