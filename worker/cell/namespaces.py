"""The namespaces of a cell, seen from the warden, which is the first process in them.

With a PID namespace the warden is its pid 1: the kernel ends all processes of the mod when it ends,
no signal from inside reaches it, and whatever the mod abandons becomes its child. The pids in there
are others than outside, so `Space` says how the supervisor knows a process.

A user without capabilities needs a user namespace to make the others. In it the worker has all of
them until it gives them up, and the processes of the mod are counted apart from the user's others.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from ...ipc.cell import ALL, OWN_NAMESPACE, USER, Cell
from .capabilities import leave_session_keyring
from .libc import INERT, MS_REC, MS_SLAVE, mount
from .refusal import NotEnforced, refused

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000

NAMES = {NEWUSER: "user", NEWNS: "mount", NEWPID: "PID", NEWIPC: "IPC", NEWNET: "network"}


def wanted(cell: Cell) -> int:
    """Return the flags of clone(2) for this cell."""
    flags = NEWUSER if os.geteuid() else 0
    if cell.processes:
        flags |= NEWPID | NEWIPC | NEWNS  # mounts, for a /proc that shows no others
    if cell.files != ALL:
        flags |= NEWNS
    return flags if cell.network is None else flags | NEWNET


def lesser(flags: int) -> list[int]:
    """Return what to ask for, one after the other, if a system refuses these flags."""
    without_processes = flags & ~(NEWPID | NEWIPC)
    return list(dict.fromkeys((flags, without_processes, flags & NEWUSER)))


class Space:
    """The namespaces that a warden was cloned into.

    Attributes:
        refused: why the system did not give all that was wanted; "" if it did.
    """

    def __init__(self, flags: int = 0, refused: str = "") -> None:
        self.flags = flags
        self.refused = refused
        self._ids = os.geteuid(), os.getegid()  # inside, they are nobody's until they are mapped
        self._proc = -1  # the /proc outside
        self._pid = 0

    @property
    def is_init(self) -> bool:
        """Whether the warden is pid 1 of a namespace."""
        return bool(self.flags & NEWPID)

    @property
    def is_roots(self) -> bool:
        """Whether root's files in there are those of the machine's root."""
        return not self.flags & NEWUSER and os.geteuid() == 0

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)

    def enter(self) -> None:
        """Make this process, cloned into the namespaces, at home in them. Raise `NotEnforced`."""
        if self.flags & NEWUSER:
            map_user(*self._ids)
        if self.flags & NEWNS:
            mount(b"", b"/", None, MS_REC | MS_SLAVE)  # later mounts of the machine arrive, ours do not leave
        if self.flags & NEWPID:
            self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._pid = int(os.readlink("self", dir_fd=self._proc))
            mount(b"proc", b"/proc", b"proc", INERT)
        if self.flags:
            leave_session_keyring()

    def need(self, flag: int) -> None:
        """Raise `NotEnforced` unless the process has a namespace of this kind."""
        if not self.flags & flag:
            raise NotEnforced(self.refused or f"no {NAMES[flag]} namespace was asked for")

    def own_processes(self) -> str:
        """Return what keeps the mod among its own processes. Raise `NotEnforced`."""
        self.need(NEWPID)
        return "PID and IPC namespaces"

    def leave_outside(self) -> None:
        """Close the view of what is outside, which a mod must not have."""
        if self._proc >= 0:
            os.close(self._proc)
            self._proc = -1

    def report(self) -> dict[str, str]:
        """Return what is in force of the cell when the worker begins."""
        return {USER: OWN_NAMESPACE} if self.flags & NEWUSER else {}

    @property
    def pid(self) -> int:
        """The pid of the warden outside."""
        return self._pid if self.is_init else os.getpid()

    def seen_from_outside(self, child: int) -> tuple[int, int]:
        """Return the pid of the warden's only child outside, and when it began (see `tree.start_time`)."""
        pid = self._only_child() if self.is_init else child
        stat = self._read(f"{pid}/stat") if self.is_init else _read_file(f"/proc/{pid}/stat")
        return pid, int(stat[stat.rindex(b")") + 2 :].split()[19]) if stat else 0

    def _only_child(self) -> int:
        if found := self._read(f"{self._pid}/task/{self._pid}/children").split():
            return int(found[0])
        parent = re.compile(rb"\) \S+ %d " % self._pid)
        for name in os.listdir(self._proc):  # a kernel without lists of children
            if name.isdecimal() and parent.search(self._read(f"{name}/stat")):
                return int(name)
        return 0

    def _read(self, path: str) -> bytes:
        return _read_file(path, self._proc)


def _read_file(path: str, folder: int | None = None) -> bytes:
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)
    return b""


def map_user(uid: int, gid: int) -> None:
    """Map this user into the user namespace that the process has just got. Raise `NotEnforced`.

    Some systems allow a new namespace and not to map the user into it.
    """
    _write("/proc/self/setgroups", "deny")  # else an unprivileged process may not map its group
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise refused(path, error.errno or 0) from None
