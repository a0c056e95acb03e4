"""A worker does not outlive the one who started it, whatever it is doing: spinning, stopped, or deaf to signals.

Its warden (or, without a guardian, its supervisor) holds the write end of a pipe and never writes. When it dies, however it
dies, the kernel closes that end and sends SIGKILL to the worker's whole process group, as asked for here: nothing in the worker
needs to run for that. Linux only; elsewhere a worker ends itself when its socket closes, if its loop still runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys


def hold(fd: int) -> None:
    """Tie this process group's life to the other end of the pipe whose read end is ``fd``."""
    if sys.platform != "linux":
        return
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())  # negative: the group
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        gone = os.read(fd, 1) == b""
    except BlockingIOError:
        return  # alive
    if gone:  # it died before we asked for the signal
        os.kill(0, signal.SIGKILL)
