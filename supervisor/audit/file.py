"""The audit on disk: lines at the end of `audit.jsonl`, and older files beside it.

A full file gets the number of its last line as its name, and a new one begins. When there are too many,
the oldest is removed; a line says so first, by which a verification knows that nobody else did it.

Everything here blocks: call it from a thread. One thread at a time uses a file.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ..on_disk import sync
from .actors import Actor
from .chain import START, Head, Line, chained, checked, seal
from .records import GAP, REMOVED, Record, record

logger = logging.getLogger("modvisor.audit")

CURRENT = "audit.jsonl"
_READ = 64 * 1024  # bytes that are read at a time to find the last line
_BY = Actor("audit")


def audit_files(folder: Path) -> list[Path]:
    """Return the files of an audit, the oldest first."""
    older = sorted(folder.glob("audit-*.jsonl"))
    current = folder / CURRENT
    return [*older, current] if current.exists() else older


class AuditFile:
    """Adds lines to an audit.

    Args:
        most_bytes: of one file.
        most_files: older files that are kept.
    """

    def __init__(self, folder: Path, key: bytes, *, most_bytes: int, most_files: int) -> None:
        self._folder = folder
        self._path = folder / CURRENT
        self._key = key
        self._most_bytes = most_bytes
        self._most_files = most_files
        self._descriptor: int | None = None
        self._head: Head | None = None
        self._sound: tuple[int, int] | None = None  # inode of the current file, and how long it should be
        self._first: list[Record] = []  # what the next lines must say before any other

    def resume(self, sealed: tuple[int, bytes] | None) -> None:
        """Find the line to go on behind.

        Args:
            sealed: number and seal of the newest line, as the journal knows them.

        Raises:
            OSError: the files cannot be read.
        """
        head, unreadable = self._newest()
        known = 0 if sealed is None else sealed[0]
        number = max(head.number + unreadable, known)
        if number > head.number:
            logger.error("lines %d to %d of the audit in %s are missing or changed; 'modvisor audit verify' says more",
                         head.number + 1, number, self._folder)  # fmt: skip
            self._first.append(record(_BY, GAP, None, "failed", {"from": head.number + 1, "to": number}))
        self._head = Head(number, head.mac)

    def prepare(self) -> None:
        """Open the file to write to. Raises OSError."""
        self._opened()

    def append(self, records: Iterable[Record]) -> None:
        """Write records. They survive the end of the process; `sync` makes them survive a power failure.

        Raises:
            OSError: nothing of them is kept.
        """
        assert self._head is not None
        descriptor = self._opened()
        if os.fstat(descriptor).st_size >= self._most_bytes:
            self._rotate(descriptor)
            descriptor = self._opened()
        self._write(descriptor, [*self._first, *records])
        self._first = []

    def sync(self) -> tuple[Head, bytes]:
        """Sync the file to the disk. Return the newest line and its seal. Raises OSError."""
        assert self._head is not None
        if self._descriptor is not None:
            os.fsync(self._descriptor)
        return self._head, seal(self._key, self._head)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, descriptor: int, records: Iterable[Record]) -> None:
        assert self._head is not None
        head, lines = self._head, list[bytes]()
        for each in records:
            line, head = chained(self._key, each, head)
            lines.append(line)
        size = os.fstat(descriptor).st_size
        try:
            left = memoryview(b"".join(lines))
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            self._sound = os.fstat(descriptor).st_ino, size
            self.close()  # the next try opens the file again, and removes what does not count
            raise
        self._head = head

    # -- the file at hand

    def _opened(self) -> int:
        """Return the descriptor of the current file, which somebody may have removed or replaced."""
        if self._descriptor is not None and _is_same(self._descriptor, self._path):
            return self._descriptor
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileExistsError(f"{self._path} is no file")
            self._mend(descriptor)
            if not os.fstat(descriptor).st_size:  # it may be new
                sync(self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return descriptor

    def _mend(self, descriptor: int) -> None:
        """End the last line, or remove what is no whole line: a power failure may have torn it."""
        status, sound = os.fstat(descriptor), self._sound
        if sound is not None and sound[0] == status.st_ino and sound[1] < status.st_size:
            os.ftruncate(descriptor, sound[1])
        size = os.fstat(descriptor).st_size
        torn = _tail(descriptor, size).rpartition(b"\n")[2]
        if not torn:
            return
        if len(torn) == _READ or checked(self._key, torn) is not None:
            os.write(descriptor, b"\n")
            return
        os.ftruncate(descriptor, size - len(torn))
        text = torn[:200].decode("ascii", "replace")
        self._first.append(record(_BY, "audit.torn", None, "ok", {"bytes": len(torn), "text": text}))

    def _rotate(self, descriptor: int) -> None:
        """Put the full file aside, and remove the oldest ones."""
        assert self._head is not None
        older = sorted(self._folder.glob("audit-*.jsonl"))
        surplus = older[: max(0, len(older) + 1 - self._most_files)]
        until = self._last_number(surplus[-1]) if surplus else None
        if until is None:
            surplus = []
        else:
            self._write(descriptor, [record(_BY, REMOVED, None, "ok", {"until": until})])
        os.fsync(descriptor)
        self._path.rename(self._folder / _name(self._head.number))
        self.close()
        for each in surplus:
            each.unlink(missing_ok=True)
        sync(self._folder)

    def _last_number(self, path: Path) -> int | None:
        """Return the number of the last line of an older file; None if it has another name than we gave it."""
        last, behind = _last_line(self._key, path)
        if last is not None and not behind and path.name == _name(last.number):
            return last.number
        logger.error("%s is not removed, although there are too many: it is not as the network left it", path)
        return None

    def _newest(self) -> tuple[Head, int]:
        """Return the head of the files, and how many lines behind it were not written with the key."""
        unreadable = 0
        for path in reversed(audit_files(self._folder)):
            last, behind = _last_line(self._key, path)
            unreadable += behind
            if last is not None:
                return last.head, unreadable
        return Head(0, START), unreadable


def _name(number: int) -> str:
    """Return the name of a full file, whose last line has this number."""
    return f"audit-{number:012d}.jsonl"


def _last_line(key: bytes, path: Path) -> tuple[Line | None, int]:
    """Return the last line of a file that was written with the key, and how many are behind it.

    A torn end is no line.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        found, behind, wanted = None, 0, _READ
        while found is None:
            lines = _tail(descriptor, size, wanted).split(b"\n")
            torn = lines.pop()
            if wanted < size:
                lines = lines[1:]  # it begins before what was read
            found = checked(key, torn) if torn else None
            if found is None:
                found, behind = _last_sound(key, lines)
            if found is None and wanted >= size:
                break
            wanted *= 4
        return found, behind
    finally:
        os.close(descriptor)


def _last_sound(key: bytes, lines: list[bytes]) -> tuple[Line | None, int]:
    """Return the last of these lines that was written with the key, and how many are behind it."""
    for behind, line in enumerate(reversed(lines)):
        if (found := checked(key, line)) is not None:
            return found, behind
    return None, len(lines)


def _tail(descriptor: int, size: int, length: int = _READ) -> bytes:
    length = min(length, size)
    return os.pread(descriptor, length, size - length)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        there, ours = path.lstat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
