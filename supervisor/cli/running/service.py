"""Tell the service manager how the network is: systemd, by sd_notify(3).

The protocol is a datagram of lines to the socket that ``NOTIFY_SOCKET`` names. It is spoken here,
since a package for it would bring no more than these lines. Without the variable nothing is sent.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import anyio

logger = logging.getLogger("modvisor.run")

STATUS_EVERY = 5.0
"""Seconds between two looks at the mods, for the line that `systemctl status` shows."""


class ServiceManager:
    """The service manager of this process, if it has one.

    Attributes:
        watchdog: seconds within which it wants a sign of life; None if it does not watch.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Take the variables out of the environment: no process of a mod may speak for the network."""
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self.watchdog = _watchdog(environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", ""))
        self._status = ""
        self._failed = False

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        """Say that the file is read again. `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=stopping")

    async def keep_told(self, network: Any) -> None:
        """Send signs of life and a status until cancelled. A loop that hangs sends none."""
        if self._address is None:
            return
        if self.watchdog is not None:
            faulthandler.enable()  # the watchdog ends a hanging network with SIGABRT: say where it hung
        pause = STATUS_EVERY if self.watchdog is None else min(STATUS_EVERY, self.watchdog / 3)
        while True:
            self._tell("WATCHDOG=1")
            self._tell_status(_status(network))
            await anyio.sleep(pause)

    def _tell_status(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._tell(f"STATUS={status}")

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                logger.warning("the service manager cannot be told %s: %s", lines[0], error)
            self._failed = True
        else:
            self._failed = False


def _address(given: str) -> str | None:
    """Return the address of the socket; an ``@`` begins a name that is no file."""
    if not given.startswith(("/", "@")):
        return None
    return "\0" + given[1:] if given.startswith("@") else given


def _watchdog(micros: str, pid: str) -> float | None:
    with suppress(ValueError):
        if int(micros) > 0 and (not pid or int(pid) == os.getpid()):
            return int(micros) / 1e6
    return None


def _status(network: Any) -> str:
    states = {mod_id: mod["state"] for mod_id, mod in network.get_loaded_mods().items()}
    away = [f"{mod_id} is {state}" for mod_id, state in states.items() if state != "ready"]
    ready = f"{len(states) - len(away)} of {len(states)} mods ready"
    return "; ".join([ready, *away[:5], *([f"and {len(away) - 5} more"] if len(away) > 5 else [])])
