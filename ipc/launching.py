"""What the supervisor, its guardian and the wardens of its workers say to one another.

These messages go over ``SOCK_SEQPACKET``: one datagram is one message and carries the descriptors
that belong to it. A message is a msgpack list; its first item is the name of its class.
See ``worker/guardian/__main__.py`` for who sends what. Pure: bytes in, messages out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from .cell import Cell, as_report
from .errors import RemoteProtocolError
from .messages import pack, unpack

MAX_SIZE = 160 * 1024
"""Bytes of the largest message: an order with its environment. The kernel's cap on one datagram is
about 200 KiB."""

ORDER_FDS = 4
"""Descriptors that come with an `Order`: the warden's socket, the worker's socket, the worker's
output, the worker's dump file."""

AHEAD = "?"
"""In the guardian's command, before the name of a module that is imported if it can be: a mod of a
framework, or what hosts such mods."""

SUPERVISOR_NICE = -5
"""The niceness that the supervisor takes for itself where it may: three times the usual share of the
processor. The guardian gives it up, so that mods have the usual share."""


@dataclass(frozen=True, slots=True)
class Order:
    """Supervisor to guardian: start a worker.

    Attributes:
        argv: the worker's command. The warden appends the numbers of the worker's descriptors:
            socket, lifeline, dump file. If it is empty, the worker is forked from the guardian,
            which has imported all that a worker needs.
        cgroup: a folder; a forked worker begins in this cgroup if the system allows that. Empty:
            none.
        is_ahead: nobody waits for this worker yet, so a forked one may do ahead what a load would
            have it do.
        cell: what the worker is confined to. A forked worker gets only the namespaces of it; the
            rest comes with its `load`. None: nothing, not even its capabilities are dropped.
    """

    argv: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    cgroup: bytes = b""
    is_ahead: bool = False
    cell: Cell | None = None

    @classmethod
    def of(
        cls,
        argv: list[str],
        env: dict[str, str],
        cwd: str | os.PathLike[str],
        cgroup: str | os.PathLike[str] = "",
        *,
        is_ahead: bool = False,
        cell: Cell | None = None,
    ) -> Order:
        """Build an order from text, encoded as the system encodes it."""
        variables = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        words = [os.fsencode(argument) for argument in argv]
        return cls(words, variables, os.fsencode(cwd), os.fsencode(cgroup), is_ahead, cell)


@dataclass(frozen=True, slots=True)
class Started:
    """Warden to supervisor: the worker runs.

    Attributes:
        start_time: as in proc_pid_stat(5); together with the pid it names one process.
        in_cgroup: whether the worker began in the cgroup of its order.
        cell: the means of each part of the cell that is in force so far, see `ipc.cell`. A
            descriptor may come with the message: the socket on which the network's relay listens
            for the mod.
    """

    pid: int
    warden: int
    start_time: int
    in_cgroup: bool = False
    cell: dict[str, str] = field(default_factory=dict)


NOT_CONFINED = -1
"""`NotStarted.errno` if the host cannot enforce the worker's cell."""


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Guardian or warden to supervisor: starting the worker failed with this `OSError`."""

    errno: int
    message: str


@dataclass(frozen=True, slots=True)
class Importing:
    """Guardian to supervisor: it begins to import a module of its command."""

    name: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Guardian to supervisor: the modules of its command are imported. Sent only if there are any.

    Attributes:
        failures: the modules that could not be imported, each with the reason.
        threads: the modules whose import left threads, each with their names.
    """

    failures: dict[str, str]
    threads: dict[str, str]


@dataclass(frozen=True, slots=True)
class Signal:
    """Supervisor to warden: send a signal to the worker's process group, or to the worker alone."""

    signum: int
    group: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """Supervisor to warden: end the whole tree; through its cgroup (a folder) if it has one."""

    cgroup: bytes


@dataclass(frozen=True, slots=True)
class Hide:
    """Supervisor to warden: the mod must not see these files and folders from now on, either.

    To the guardian: watch their folders, since whoever replaces such a file uncovers it.
    """

    paths: list[bytes]


@dataclass(frozen=True, slots=True)
class Ended:
    """Warden to supervisor: no process of the tree is left.

    Attributes:
        status: the worker's, as wait(2) gives it.
        cpu_seconds: of all processes of the tree.
        max_rss: bytes, of the largest process of the tree.
    """

    status: int
    cpu_seconds: float
    max_rss: int


Message = Order | Importing | Imported | Started | NotStarted | Signal | Kill | Hide | Ended


def encode(message: Message) -> bytes:
    return pack([type(message).__name__, *(_plain(getattr(message, name)) for name in message.__slots__)])


def _plain(value: Any) -> Any:
    return value.to_list() if isinstance(value, Cell) else value


def decode(data: bytes) -> Message:
    """Return the message in one datagram; raise `RemoteProtocolError` for anything else."""
    match unpack(data):
        case ["Order", [*argv], dict(env), bytes(cwd), bytes(cgroup), bool(is_ahead), cell]:
            return Order(argv, env, cwd, cgroup, is_ahead, None if cell is None else Cell.from_list(cell))
        case ["Started", int(pid), int(warden), int(start_time), bool(in_cgroup), dict(cell)]:
            return Started(pid, warden, start_time, in_cgroup, as_report(cell))
        case ["Importing", str(name)]:
            return Importing(name)
        case ["Imported", dict(failures), dict(threads)]:
            return Imported(_texts(failures), _texts(threads))
        case ["NotStarted", int(errno), str(message)]:
            return NotStarted(errno, message)
        case ["Signal", int(signum), bool(group)]:
            return Signal(signum, group)
        case ["Kill", bytes(cgroup)]:
            return Kill(cgroup)
        case ["Hide", [*paths]] if all(isinstance(path, bytes) for path in paths):
            return Hide(paths)
        case ["Ended", int(status), float(cpu_seconds), int(max_rss)]:
            return Ended(status, cpu_seconds, max_rss)
    raise RemoteProtocolError("not a message between supervisor, guardian and warden")


def _texts(found: dict[object, object]) -> dict[str, str]:
    return {str(name): str(text) for name, text in found.items()}
