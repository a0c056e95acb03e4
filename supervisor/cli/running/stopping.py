"""``modvisor stop``: ask the network to end, and wait until its process is gone."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

from ..client.client import Client, peer_pid
from ..terminal.exits import CliError, ExitCode

POLL_INTERVAL = 0.05  # seconds between looks at a process, where there is no pidfd


def stop_network(client: Client, *, wait: float | None) -> int | None:
    """Ask the network to shut down; with ``wait`` seconds, return when its process has ended.

    Returns:
        The pid of the process that ended; None if it was not waited for, or is on another machine.

    Raises:
        CliError: no network, or NO_ANSWER if it still runs after ``wait`` seconds.
    """
    pid = _pid_of(client) if wait is not None else None
    ended = _watch(pid) if pid is not None else None
    client.post("/shutdown")
    if ended is None or wait is None:
        return None
    if not ended(wait):
        raise CliError(
            ExitCode.NO_ANSWER,
            f"the network of {client.target} (pid {pid}) is still stopping after {wait:g} seconds; "
            f"wait longer with --timeout, or end it with: kill -9 {pid}",
        )
    return pid


def _pid_of(client: Client) -> int | None:
    if client.target.socket is None:
        return None  # perhaps another machine's process
    pid = peer_pid(client.target.socket)
    return None if pid == os.getpid() else pid


def _watch(pid: int) -> Callable[[float], bool] | None:
    """Return a function that waits some seconds for the process to end; call this before the process is asked to end."""
    if not hasattr(os, "pidfd_open"):
        return lambda seconds: _poll(pid, seconds)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None

    def ended(seconds: float) -> bool:
        try:
            return bool(select.select([pidfd], [], [], seconds)[0])
        finally:
            os.close(pidfd)

    return ended


def _poll(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(POLL_INTERVAL)
    return False
