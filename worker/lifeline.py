"""A worker dies with the process that started it, even if it is busy, stopped or ignores signals.

Its warden (or, without a guardian, its supervisor) holds the write end of a pipe and never writes.
When that process dies, the kernel closes the write end and sends SIGKILL to the worker's whole
process group, as set up here. Nothing in the worker needs to run for that. Linux only: elsewhere a
worker ends itself when its socket closes, if its loop still runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys


def hold(fd: int) -> None:
    """Kill this process group when the other end of the pipe ``fd`` is closed."""
    if sys.platform != "linux":
        return
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())  # negative: the group
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        gone = os.read(fd, 1) == b""
    except BlockingIOError:
        return  # the other end is open
    if gone:  # it was closed before the signal was set up
        os.kill(0, signal.SIGKILL)
