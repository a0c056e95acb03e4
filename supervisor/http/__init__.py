"""Agents over TCP, the operator over a unix socket: turns requests into operations of the network.

May import: the rooms below it, `operations`, `ipc`. Its own rooms, from the ground up: `content`, `routes`, `wire`,
`door`, `access`, `requests`, `agents`, `websocket`, `probes.py`, `board`, `admin`, `embedded.py`, and `server.py`, which puts
them together. `documents.py` prints the OpenAPI documents.
Never: decides what a request does; checks its shape, passes it on, and writes the answer as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .door.sockets import CannotListen, check_address
    from .door.tls import BadCertificate, context_of
    from .server import Servers

__getattr__ = lazily(
    __name__,
    {"door.sockets": "CannotListen check_address", "door.tls": "BadCertificate context_of"},
    server="Servers",
)
