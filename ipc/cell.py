"""The cell of a worker: what its mod may reach, as the supervisor orders it.

`supervisor.cell` makes a `Cell` of what the files say, `worker.cell` confines the process to it. An
order carries the cell of a worker that is a program of its own, which is confined before it begins.
The `load` request carries the cell of a forked worker, in which no code of a mod has run before.
Each answers with a report: for each part of the cell the means that enforce it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .errors import RemoteProtocolError

OFF, DEFAULT, STRICT = PROFILES = ("off", "default", "strict")

ALL, HIDDEN, LISTED = FILES = ("all", "hidden", "listed")
"""Which files a mod sees: all that its user may read; all but `Cell.hidden`; the listed ones alone."""

PRIVILEGES, PROCESSES, USER, FOLDERS, NETWORK, EXEC, SYSCALLS = PARTS = (
    "privileges", "processes", "user", "files", "network", "exec", "syscalls",
)  # fmt: skip
"""The parts of a cell, in the order in which people read of them; the keys of a report."""

OWN_NAMESPACE = "user namespace"
"""The means by which a worker's processes are counted apart from others of its user."""

NOT = "not: "
"""Begins the means of a part that is ordered and cannot be enforced. The reason follows."""

RELAY_PORT = 3128
"""Where the network's relay listens in a mod's network namespace, on 127.0.0.1: the usual port of such a proxy."""

MAX_REPORT, MAX_MEANS = 20, 300  # entries, characters


@dataclass(frozen=True, slots=True)
class Cell:
    """What a worker is confined to. Without arguments: its user's rights, without capabilities.

    Attributes:
        profile: which of `PROFILES` it was made from.
        required: a part that cannot be enforced fails the start; otherwise the report says so.
        processes: the mod sees and signals its own processes alone, and shares no memory with
            others.
        files: one of `FILES`.
        hidden: folders and files that the mod must not see, unless `files` is `ALL`.
        storage: the mod's own folder.
        folder: the working folder; empty: that of the order.
        read, write: more folders and files that it may see. If `files` is `LISTED`, it sees these,
            its storage and a /tmp of its own.
        network: hosts that the mod reaches, through a relay; none if empty; None: the network of
            the machine.
        exec: whether the mod may start programs.
        syscalls: whether system calls beyond the usual ones are refused.
        user: uid and gid that the worker takes; -1: those of the network.
        tmp: bytes of its own /tmp; 0: the usual.
    """

    profile: str = OFF
    required: bool = False
    processes: bool = False
    files: str = ALL
    hidden: tuple[bytes, ...] = ()
    storage: bytes = b""
    folder: bytes = b""
    read: tuple[bytes, ...] = ()
    write: tuple[bytes, ...] = ()
    network: tuple[str, ...] | None = None
    exec: bool = True
    syscalls: bool = False
    user: int = -1
    tmp: int = 0

    def to_list(self) -> list[Any]:
        """Return it as plain data, for an order or a `load` request."""
        return [getattr(self, each.name) for each in fields(self)]

    def is_alike(self, other: Cell) -> bool:
        """Return whether both need the same namespaces."""
        return self._spaces() == other._spaces()

    def not_hidden(self, paths: Iterable[bytes]) -> list[bytes]:
        """Return which of these paths its mod still sees, though nothing says that it may."""
        if self.files != HIDDEN:
            return []
        shown = (self.storage, *self.read, *self.write)
        return [path for path in paths if path not in self.hidden and not any(_is_in(each, path) for each in shown)]

    def _spaces(self) -> tuple[bool, bool, bool]:
        return self.processes, self.files != ALL, self.network is not None

    @classmethod
    def from_list(cls, data: Any) -> Cell:
        """Build a cell from plain data; raise `RemoteProtocolError`."""
        match data:
            case [
                str(profile), bool(required), bool(processes), str(files), [*hidden], bytes(storage),
                bytes(folder), [*read], [*write], list() | tuple() | None as network, bool(exec), bool(syscalls),
                int(user), int(tmp),
            ] if profile in PROFILES and files in FILES:  # fmt: skip
                hosts = None if network is None else tuple(map(str, network))
                return cls(
                    profile, required, processes, files, _paths(hidden), storage, folder, _paths(read), _paths(write), hosts,
                    exec, syscalls, user, tmp,
                )  # fmt: skip
        raise RemoteProtocolError("not a cell")


def _is_in(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder + b"/")


def _paths(values: list[Any]) -> tuple[bytes, ...]:
    if not all(isinstance(value, bytes) for value in values):
        raise RemoteProtocolError("a cell's paths are bytes")
    return tuple(values)


def as_report(data: Any) -> dict[str, str]:
    """Return the pairs of text in a report. Only people read it, so others are dropped, not refused."""
    pairs = list(data.items())[:MAX_REPORT] if isinstance(data, Mapping) else []
    return {part[:64]: means[:MAX_MEANS] for part, means in pairs if isinstance(part, str) and isinstance(means, str)}


def missing(report: Mapping[str, str]) -> dict[str, str]:
    """Return the parts that are ordered and not enforced, each with the reason."""
    return {part: means.removeprefix(NOT) for part, means in report.items() if means.startswith(NOT)}
