"""Ports that are free now, and stay so until a test uses them, or until it has seen that nobody answers there.

The kernel gives the ports that it chooses to connections too. A port of its range that was free a moment ago may be one end
of another test's connection, and then nobody can listen on it. So these come from below that range.
"""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_240
_EACH = 64  # ports between those of two processes with neighbouring pids

_tried = itertools.count()


def free_port() -> int:
    """Return a port on which nobody listens, another one each time."""
    count = _end() - _LOWEST
    for tried in itertools.islice(_tried, count):
        port = _LOWEST + (os.getpid() * _EACH + tried) % count
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port from {_LOWEST} to {_end()} is free")


def _end() -> int:
    """Return the first port of the kernel's own range; Linux begins with 32768, others with 49152."""
    try:
        return max(int(_RANGE.read_text().split()[0]), _LOWEST + _EACH)
    except FileNotFoundError:
        return 49_152
