"""From a fork of the guardian to a worker: of all that guardian and warden hold, what they imported is left.

The fork happens deep in the warden's code. `Forked` carries the worker out of it, so that every frame ends and lets go of
what it held, to where a program begins: its end is that of any Python program, with exit handlers and buffers written.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ...ipc.launching import Order
from .. import crash, lifeline
from ..serve import main
from ..signals import restore_defaults
from ..sources import own_modules
from .ending import leave
from .prctl import set_name

_COMMAND = b"python\0-P\0-m\0modvisor.worker\0"
"""What the list of processes shows, as of a worker that was not forked."""


class Forked(BaseException):
    """Raised in the forked process, and caught where it began.

    Args:
        sock, lifeline, output, dump: descriptors of this process alone.
    """

    def __init__(self, order: Order, sock: int, lifeline: int, output: int, dump: int) -> None:
        super().__init__()
        self.order = order
        self.sock, self.lifeline, self.output, self.dump = (
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (sock, lifeline, output, dump)
        )


def run(forked: Forked) -> NoReturn:
    """Be the worker that was ordered, until its end."""
    order, sock, pipe, dump = forked.order, forked.sock, forked.lifeline, forked.dump
    os.setsid()
    _stdio(forked.output)
    restore_defaults()
    os.environb.clear()
    os.environb.update(order.env)
    sys.argv[:] = ["modvisor.worker"]
    set_name(b"modvisor-worker")
    with suppress(OSError, ValueError):
        _show(_COMMAND)
    lifeline.hold(pipe)
    crash.install(dump)
    gc.enable()
    leave(main(socket.socket(fileno=sock)), own_modules)


def _stdio(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, standard in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, standard)
    for fd in (null, output):
        os.close(fd)
    # The former ones have been told what they write to: the guardian's.
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115 - for good
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115


def _show(command: bytes) -> None:
    """Write over the arguments that this process, or rather the guardian, was started with."""
    stat = Path("/proc/self/stat").read_bytes()
    begin, end = map(int, stat[stat.rindex(b")") + 2 :].split()[45:47])
    if end - begin > len(command):
        ctypes.memmove(begin, command.ljust(end - begin, b"\0"), end - begin)
