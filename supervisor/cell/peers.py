"""Who is at the other end of the operator's socket: the kernel says, and a mod's process is refused.

A mod that sees the socket (its cell hides it, unless its sandbox is loose) has the rights of the
network's user, so the rights of the file do not keep it out. Its processes are known by any of
these: the guardian, a warden or a worker is among their ancestors; they are in a cgroup of this
network; they are in a PID or user namespace below ours. In doubt a process is refused.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..process import is_shortage, reserve

_SO_PEERPIDFD = 77  # Linux 6.5
_NS_GET_PARENT = 0xB702
_UCRED = struct.Struct("3i")
_MOST = 64  # ancestors, and namespaces above one another
_FIRST_USER_NAMESPACE = 0xEFFFFFFD


class Peers:
    """Tells processes of mods from others.

    Args:
        roots: returns the pids of the guardian, the wardens and the workers.
        groups: returns the folder of the network's cgroups; None: it has none.
    """

    def __init__(self, roots: Callable[[], Collection[int]], groups: Callable[[], Path | None]) -> None:
        self._roots = roots
        self._groups = groups

    def refusal(self, connection: socket.socket) -> str | None:
        """Return why the process at the other end of a unix socket is refused; None if it is not."""
        if sys.platform != "linux":
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, user, _ = _UCRED.unpack(credentials)
        if pid == 0 or (user == 0 and os.geteuid() != 0):  # it is outside of our PID namespace; no mod is root then
            return None
        return reserve.with_spare(lambda: self._examine(connection, pid))

    def _examine(self, connection: socket.socket, pid: int) -> str | None:
        with _held(connection, pid) as is_alive:
            reason = self._reason(pid)
            return reason if is_alive() else "the process that connected has ended"

    def _reason(self, pid: int) -> str | None:
        try:
            if self._is_below_a_root(pid):
                return "it is a process of a mod"
            groups = self._groups()
            if groups is not None and f"/{groups.name}/" in f"{Path(f'/proc/{pid}/cgroup').read_text().strip()}/":
                return "it is in a cgroup of a mod"
            if any(_is_inside(pid, kind) for kind in ("pid", "user")):
                return "it is in a namespace of its own, as mods are"
        except (OSError, ValueError) as error:
            if is_shortage(error):
                raise
            if isinstance(error, PermissionError) and _namespace("self", "user") != _FIRST_USER_NAMESPACE:
                return None  # it is above our own user namespace
            return "nobody knows whose process it is"
        return None

    def _is_below_a_root(self, pid: int) -> bool:
        roots = self._roots()
        for _ in range(_MOST):
            if pid in roots:
                return True
            if pid <= 1 or pid == os.getpid():
                return False
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            pid = int(stat[stat.rindex(b")") + 2 :].split()[1])
        return True


@contextmanager
def _held(connection: socket.socket, pid: int) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether the process that connected still lives. While it does, no other has its pid."""
    fd = -1
    try:
        with suppress(OSError):  # an older kernel: the pid may have passed to another process before now
            fd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        if fd < 0:
            fd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        yield lambda: not poll.poll(0)
    except ProcessLookupError:
        yield lambda: False
    finally:
        if fd >= 0:
            os.close(fd)


def _is_inside(pid: int, kind: str) -> bool:
    """Return whether a process is in a namespace below ours."""
    ours = _namespace("self", kind)
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for depth in range(_MOST):
            if os.fstat(fd).st_ino == ours:
                return depth > 0
            above = fcntl.ioctl(fd, _NS_GET_PARENT)
            os.close(fd)
            fd = above
    except PermissionError:  # there is none above it that we may see: it is not below ours
        return False
    finally:
        os.close(fd)
    return True


def _namespace(process: str, kind: str) -> int:
    return os.stat(f"/proc/{process}/ns/{kind}").st_ino
