"""Agents over TCP, the operator over a unix socket: turns requests into operations of the network.

May import: the rooms below it, `operations`, `ipc`.
Never: decides what a request does; checks its shape, passes it on, and writes the answer as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .server import Servers
    from .sockets import CannotListen, check_address
    from .tls import BadCertificate, context_of

__getattr__ = lazily(
    __name__,
    server="Servers",
    sockets="CannotListen check_address",
    tls="BadCertificate context_of",
)
