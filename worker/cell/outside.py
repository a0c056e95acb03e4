"""The only way out of a mod's network namespace: a socket on which the network's relay listens.

In the namespace there is a loopback device and no other, so nothing in it reaches the machine, its
neighbours or the internet, by any protocol. If the mod may reach some hosts, the warden makes a
listening socket there, and hands it to the supervisor: a socket stays in the namespace in which it
was made. The relay (`supervisor.cell.relay`) accepts on it, and connects from outside.
"""

from __future__ import annotations

import fcntl
import socket
import struct

from ...ipc.cell import NETWORK, NOT, RELAY_PORT, Cell
from .namespaces import NEWNET, Space
from .refusal import NotEnforced, refused

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_REQUEST = struct.Struct("16sH22x")  # struct ifreq: name, flags


def open_way(cell: Cell | None, space: Space) -> tuple[dict[str, str], int]:
    """Make the network namespace of this process usable. Return the report, and the socket or -1.

    Call it when the namespace has been entered, while this process may still configure it.

    Raises:
        NotEnforced: the system refuses it, and the cell requires it.
    """
    if cell is None or cell.network is None:
        return {}, -1
    try:
        space.need(NEWNET)
        _start_loopback()
        if not cell.network:
            return {NETWORK: "network namespace"}, -1
        return {NETWORK: "network namespace with a relay"}, _listen()
    except (NotEnforced, OSError) as error:
        why = error if isinstance(error, NotEnforced) else refused("network namespace", error.errno or 0)
        if cell.required:
            raise NotEnforced(f"{NETWORK}: {why}") from None
        return {NETWORK: f"{NOT}{why}"}, -1


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        found = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _REQUEST.pack(b"lo", 0))
        _, flags = _REQUEST.unpack(found)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _REQUEST.pack(b"lo", flags | _IFF_UP))


def _listen() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        listener.bind(("127.0.0.1", RELAY_PORT))
        listener.listen(socket.SOMAXCONN)
        return listener.detach()
