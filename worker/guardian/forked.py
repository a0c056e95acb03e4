"""From a fork of the guardian to a worker, and the end of that worker.

**The beginning.** The fork happens deep in the warden's code. `Forked` is raised in the child and
carries it to the top of the program. So every frame of guardian and warden ends and releases what
it held, and only what they have imported is left.

**The end.** Finalizing the interpreter would touch every object that was imported before the fork,
so copy nearly all of the memory that is shared with the guardian: some 9 ms and 8 MB, just before
all of it is freed. `leave` skips that, and does all that anybody could miss. It waits for threads,
runs exit handlers, ends the mod's own objects (with their ``__del__``) and writes files.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import socket
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from .. import crash, lifeline, stdio
from ..endings import end_objects_at_exit, run_exit_handlers
from ..serve import main
from ..signals import handled, restore_defaults
from ..sources import own_modules
from .clone import libc, set_name
from .rehearsal import rehearse

_COMMAND = b"python\0-P\0-m\0modvisor.worker\0"
"""What the list of processes shows: the command of a worker that was not forked."""


class Forked(BaseException):
    """Raised in the forked process, caught at the top of the program.

    Args:
        is_ahead: see `Order`.
        sock, lifeline, output, dump: descriptors. The fork keeps duplicates of its own.
    """

    def __init__(self, is_ahead: bool, sock: int, lifeline: int, output: int, dump: int) -> None:
        super().__init__()
        self.is_ahead = is_ahead
        self.sock, self.lifeline, self.output, self.dump = (
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (sock, lifeline, output, dump)
        )


def run(forked: Forked) -> NoReturn:
    """Be a worker, until its end. The guardian has set the variables of its order."""
    sock, pipe, dump = forked.sock, forked.lifeline, forked.dump
    signals, place = of_the_guardian()
    os.setsid()
    _redirect(forked.output)
    restore_defaults(signals)
    sys.argv[:] = ["modvisor.worker"]
    set_name(b"modvisor-worker")
    _show(_COMMAND, *place)
    lifeline.hold(pipe)
    crash.install(dump)
    end_objects_at_exit(own_modules)
    gc.enable()
    if forked.is_ahead:
        rehearse(rounds=1)
    leave(main(socket.socket(fileno=sock)))


def _redirect(output: int) -> None:
    """Read from /dev/null, and write to ``output``."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, standard in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, standard)
    for fd in (null, output):
        os.close(fd)
    # The inherited stream objects know the guardian's output: whether it is a terminal, say.
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115 - never closed
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115


@lru_cache(maxsize=1)  # the guardian fills it, before workers are forked
def of_the_guardian() -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return what a worker inherits and undoes: the signals handled, and where the arguments begin and end."""
    place = 0, 0
    with suppress(OSError, ValueError):
        stat = Path("/proc/self/stat").read_bytes()
        begin, end = map(int, stat[stat.rindex(b")") + 2 :].split()[45:47])
        place = begin, end
    return handled(), place


def _show(command: bytes, begin: int, end: int) -> None:
    """Overwrite the arguments that the guardian was started with, which this process inherited."""
    if end - begin > len(command):
        ctypes.memmove(begin, command.ljust(end - begin, b"\0"), end - begin)


# -- the end


def leave(status: int) -> NoReturn:
    """End this process: a forked worker, or the guardian. With daemon threads, leave the ordinary way, which ends them."""
    run_exit_handlers()
    if len(sys._current_frames()) > 1:
        sys.exit(status)
    stdio.flush()
    # Not os._exit: libraries in C have buffers and exit handlers of their own.
    # PyDLL keeps the interpreter's lock, so no other Python thread runs meanwhile.
    libc.exit(status)
    raise AssertionError("exit(3) returned")
