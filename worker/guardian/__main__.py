"""``python -m modvisor.worker.guardian FD PID [MODULE...]``: start the workers of the supervisor PID, as told on the socket FD.

A small process that does nothing but fork. For each order it forks a warden (see `warden`), which forks the worker (all
that a worker needs was imported here, once) or starts it under an interpreter of its own, is its parent, answers to the
supervisor over a socket of its own, and outlives the guardian: the guardian's death disturbs no worker, and the supervisor
starts another when it needs one. Forking from here costs a millisecond, and none of the supervisor's memory, descriptors, locks
and threads comes along.

It is the subreaper above the wardens: when a warden is killed, what the lifeline has not reached of its tree becomes a child of
the guardian. So any child of the guardian that is not a warden is left over from a dead one, and is killed.

It ends when its socket does, or the supervisor; not before its wardens, which have noticed the same and end their trees.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from array import array

from ...ipc.launching import MAX_SIZE, ORDER_FDS, Imported, Order, decode, encode
from ..signals import restore_defaults
from ..sources import installed_folders
from . import tree
from .forked import Forked, run
from .imports import import_all, import_common
from .prctl import adopt_orphans, continue_with_parent
from .warden import Deaths, refusal, serve

PATIENCE = 1.0
"""Seconds that wardens have to end their trees when the supervisor is gone; longer than one needs that can run at all."""

_PASS = 0.05  # seconds between two looks at what is left


class Guardian:
    """Forks wardens, reaps them, kills what dead ones left."""

    def __init__(self, control: socket.socket, supervisor: int) -> None:
        self._control = control
        self._supervisor = supervisor
        self._deaths = Deaths()
        self._wardens: set[int] = set()

    def serve(self) -> None:
        """Until the supervisor is gone, or has no more use for it."""
        poll = select.poll()
        for fd in (self._control.fileno(), self._deaths.fd, self._supervisor):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll(None if self._clean() else 1000 * _PASS):
                if fd == self._supervisor or (fd == self._control.fileno() and not self._take()):
                    return

    def _take(self) -> bool:
        """One order; False at the end."""
        data, fds = _receive(self._control)
        if not data:
            return False
        try:
            order = decode(data)
            assert isinstance(order, Order)
            self._fork(order, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, order: Order, fds: list[int]) -> None:
        try:
            warden = os.fork()
        except OSError as error:
            socket.socket(fileno=os.dup(fds[0])).send(encode(refusal(error)))
            return
        if warden:
            self._wardens.add(warden)
            return
        status = 1
        try:
            self._control.close()
            self._deaths.close()
            serve(order, fds, self._supervisor)
            status = 0
        except Forked:
            fds.clear()  # the warden has closed them
            raise
        except BaseException:  # noqa: BLE001 - whatever it is: a warden never returns into the guardian's loop
            traceback.print_exc()
        os._exit(status)

    def _clean(self) -> bool:
        """Reap, and kill what dead wardens left; whether nothing of the kind is there."""
        self._deaths.forget()
        try:
            while ended := os.waitpid(-1, os.WNOHANG)[0]:
                self._wardens.discard(ended)
        except ChildProcessError:
            return True
        if not self._left():
            return True
        tree.kill(lambda: [pid for root in self._left() for pid in (root, *tree.below(root))])
        return False

    def _left(self) -> list[int]:
        return [child for child in tree.children(os.getpid()) if child not in self._wardens]

    def end(self) -> None:
        """Wait for the wardens; what is left then is killed by us."""
        for warden in self._wardens:
            os.kill(warden, signal.SIGCONT)  # one that was stopped
        deadline = time.monotonic() + PATIENCE
        while not self._clean() or self._wardens:
            if time.monotonic() > deadline:
                for warden in self._wardens:
                    os.kill(warden, signal.SIGKILL)
            self._deaths.wait(_PASS)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """A message and the descriptors that came with it; closed on exec, which `socket.recv_fds` does not see to."""
    size = socket.CMSG_LEN(ORDER_FDS * array("i").itemsize)
    data, ancillary, _, _ = control.recvmsg(MAX_SIZE, size, socket.MSG_CMSG_CLOEXEC)
    fds = array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds.tolist()


def main(control: socket.socket, supervisor: int, modules: list[str]) -> None:
    """Serve the supervisor whose pid is ``supervisor``; workers find ``modules`` imported."""
    restore_defaults()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)  # a terminal's or a service manager's; the supervisor decides when we end
    Deaths.listen()
    os.chdir("/")
    adopt_orphans()
    continue_with_parent()
    watched = os.pidfd_open(supervisor) if os.getppid() == supervisor else -1
    if os.getppid() != supervisor:
        return  # it has died already
    import_common()
    if modules:
        control.send(encode(Imported(import_all(modules))))
    installed_folders()
    gc.collect()
    gc.freeze()  # the collector would touch, so copy, every page that a warden shares with us
    gc.disable()
    guardian = Guardian(control, watched)
    guardian.serve()
    guardian.end()


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all(number.isdigit() for number in sys.argv[1:3]):
        sys.exit(
            "usage: python -m modvisor.worker.guardian FD PID [MODULE...]   (started by modvisor, with a connected socket)"
        )
    os.set_inheritable(int(sys.argv[1]), False)
    try:
        main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3:])
    except Forked as fresh:
        forked = fresh
    else:
        sys.exit()
    run(forked)
