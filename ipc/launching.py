"""What the supervisor, its guardian and the wardens of its workers say to one another (see ``worker/guardian/__main__.py``).

Over ``SOCK_SEQPACKET``, so that one datagram is one message and carries the descriptors that belong to it. Each is one msgpack
list whose first item names it. Pure: bytes in, messages out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from .errors import RemoteProtocolError
from .messages import pack, unpack

MAX_SIZE = 160 * 1024
"""Bytes of the largest message: an order with its environment. The kernel takes about 200 KiB in one datagram."""

ORDER_FDS = 4
"""Descriptors that come with an `Order`: the warden's socket, the worker's socket, its output, its dump file."""


@dataclass(frozen=True, slots=True)
class Order:
    """Supervisor to guardian: start a worker. `argv` gets the numbers of the worker's descriptors appended: socket, lifeline,
    dump file. Without one, the worker is forked from the guardian, which has imported all it needs; into its ``cgroup``
    (a folder, or nothing) if the system allows that."""

    argv: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    cgroup: bytes = b""

    @classmethod
    def of(
        cls, argv: list[str], env: dict[str, str], cwd: str | os.PathLike[str], cgroup: str | os.PathLike[str] = ""
    ) -> Order:
        """Text as the system has it: bytes, whatever their encoding."""
        variables = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        return cls([os.fsencode(argument) for argument in argv], variables, os.fsencode(cwd), os.fsencode(cgroup))


@dataclass(frozen=True, slots=True)
class Started:
    """Warden to supervisor: the worker runs. ``start_time`` is that of proc_pid_stat(5): with the pid it names one process.
    ``in_cgroup``: whether it began in that of its order."""

    pid: int
    warden: int
    start_time: int
    in_cgroup: bool = False


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Guardian or warden to supervisor: the worker could not be started, for the reason of an `OSError`."""

    errno: int
    message: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Guardian to supervisor: it has imported what it was to, but for these modules: by name, why not. Sent if it was to."""

    failures: dict[str, str]


@dataclass(frozen=True, slots=True)
class Signal:
    """Supervisor to warden: this signal to the worker's process group, or to the worker alone."""

    signum: int
    group: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """Supervisor to warden: end the whole tree, with the help of its cgroup (a folder) if it has one."""

    cgroup: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """Warden to supervisor: nothing of the tree is left.

    Attributes:
        status: of the worker, as wait(2) gives it.
        cpu_seconds: of all processes of the tree; ``max_rss``: bytes, of the largest of them.
    """

    status: int
    cpu_seconds: float
    max_rss: int


Message = Order | Imported | Started | NotStarted | Signal | Kill | Ended


def encode(message: Message) -> bytes:
    return pack([type(message).__name__, *(getattr(message, name) for name in message.__slots__)])


def decode(data: bytes) -> Message:
    """Raises `RemoteProtocolError` for anything else than one of the messages above."""
    match unpack(data):
        case ["Order", [*argv], dict(env), bytes(cwd), bytes(cgroup)]:
            return Order(argv, env, cwd, cgroup)
        case ["Started", int(pid), int(warden), int(start_time), bool(in_cgroup)]:
            return Started(pid, warden, start_time, in_cgroup)
        case ["Imported", dict(failures)]:
            return Imported({str(name): str(why) for name, why in failures.items()})
        case ["NotStarted", int(errno), str(message)]:
            return NotStarted(errno, message)
        case ["Signal", int(signum), bool(group)]:
            return Signal(signum, group)
        case ["Kill", bytes(cgroup)]:
            return Kill(cgroup)
        case ["Ended", int(status), float(cpu_seconds), int(max_rss)]:
            return Ended(status, cpu_seconds, max_rss)
    raise RemoteProtocolError("not a message between supervisor, guardian and warden")
