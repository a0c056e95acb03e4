"""Listening sockets, and a clear message when an address cannot be listened on."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ....ipc.errors import Code, ModvisorError

BACKLOG = 2048  # connections that the kernel holds until they are accepted; net.core.somaxconn bounds it
# Bytes of sockaddr_un.sun_path, the zero at its end included.
_SUN_PATH = 108 if sys.platform == "linux" else 104


class CannotListen(ModvisorError):
    """An address cannot be listened on. The message names the address and the next step."""

    code = Code.START_FAILED


async def tcp_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: an address or a name. If a name has several addresses, the first IPv4 one is used.
        port: 0 takes a free port.

    Raises:
        CannotListen: names host, port and the next step.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        return _listening(family, protocol, address)
    except OSError as error:
        raise CannotListen(f"cannot listen on {_name(host, port)}: {_advice(error, host, port)}") from None


def check_address(host: str, port: int) -> str | None:
    """Return why an address cannot be listened on, and the next step; None if it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        _listening(family, protocol, address).close()
    except OSError as error:
        return _advice(error, host, port)
    return None


class _Asking(socket.socket):
    """A listening socket that asks of each connection whether it is refused, and says so to those that are."""

    refuses: Callable[[socket.socket], bytes | None]

    def accept(self) -> tuple[socket.socket, Any]:
        accepted, address = super().accept()
        if (answer := self.refuses(accepted)) is None:
            return accepted, address
        with accepted, suppress(OSError):
            accepted.setblocking(False)
            accepted.send(answer)
        raise ConnectionAbortedError


def unix_socket(path: Path, refuses: Callable[[socket.socket], bytes | None] = lambda _: None) -> socket.socket:
    """Return a listening socket at `path` that only this user can reach.

    A socket that a dead process left there is replaced.

    Args:
        refuses: returns the answer for a process that is refused; None if it is not.

    Raises:
        CannotListen: names the path.
    """
    sock = _Asking(socket.AF_UNIX)
    sock.refuses = refuses
    try:
        _remove_stale(path)
        with reachable(path) as name:
            sock.bind(name)
        # Nobody can connect before `listen`, so others never have access.
        path.chmod(0o600)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise CannotListen(f"cannot listen on {path}: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Yield a name for `path` that is short enough to bind a unix socket to, or to connect to.

    The name is valid inside the block.

    Raises:
        CannotListen: the path is too long, and this system offers no shorter name for it.
    """
    if len(os.fsencode(path)) < _SUN_PATH:
        yield str(path)
        return
    if sys.platform != "linux":
        raise CannotListen(
            f"the path of the admin socket is too long: {path} has {len(os.fsencode(path))} bytes, the most is "
            f"{_SUN_PATH - 1}; give the network a shorter 'storage'"
        )
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _listening(family: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    # Name the protocol: asyncio would not take 0 for TCP and would leave Nagle's algorithm on. Each
    # answer is two writes, headers and body, and would wait 40 ms for the client's delayed ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        # Connections of the previous run may linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a dead process's socket. Its process is dead, since we own the state directory."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CannotListen(f"cannot listen on {path}: a file that is not a socket is there; move it away")
    except FileNotFoundError:
        return
    path.unlink(missing_ok=True)


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _advice(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return f"no address is known for {host!r}; correct 'host' in the network file"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"the address is in use; stop the program that listens there (`ss -ltnp 'sport = :{port}'` names it), "
                "or give the network another 'port' (0 takes a free one)"
            )
        case errno.EACCES:
            return f"permission denied; ports below {_first_free_port()} are for root; choose another 'port'"
        case errno.EADDRNOTAVAIL:
            return f"this machine has no address {host}; correct 'host' in the network file"
    return error.strerror or str(error)


def _first_free_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024
