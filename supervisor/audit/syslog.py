"""Tells the system's log the newest line of the audit, so that the network is not the only one that keeps it."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

logger = logging.getLogger("modvisor.audit")

_NOTICE_OF_AUTHORITY = 10 * 8 + 5  # facility authpriv, severity notice


def tell_syslog(path: Path, text: str) -> None:
    """Send a message to the socket of the system's log. A failure is logged: the file holds all."""
    message = f"<{_NOTICE_OF_AUTHORITY}>modvisor[{os.getpid()}]: {text}".encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as log:
            log.settimeout(1.0)
            log.connect(os.fspath(path))
            log.send(message)
    except OSError as error:
        logger.error("the system's log at %s was not told of the audit: %s", path, error)
