"""The log of a mod: bytes of its worker's output go in; stamped lines go to a file, memory and
listeners.

A worker may print without end, without line breaks, or bytes that are no text, and the disk may be
full. So everything here has a cap, and no failure of the file system stops the network.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from .lines import STANDS, LineSplitter, OutputLines
from .output import BYTE_RATE, READ_SIZE

MAX_KEPT = 512 * 1024
"""Characters kept in memory for `ModLog.tail`.

Without this cap, hundreds of mods with long lines would fill the supervisor's memory.
"""

_BLOCK = 64 * 1024  # bytes per read, backwards from the end of a file

_logger = logging.getLogger(__name__)

Listener = Callable[[str], None]


class ModLog:
    """The log of one mod: ``path``, and rotated files ``path.1`` (the latest) to ``path.N``.

    Every line reads ``2026-01-31T12:00:00.123Z text``, in UTC, on disk, in memory and for
    listeners. The file is opened for the first line, and again if it was removed. Use a log from
    one thread.

    Args:
        path: the file. A missing folder is made.
        max_bytes: the size at which a file is rotated. Only a single longer line exceeds it.
        backups: how many rotated files to keep beside the current one.
        keep_lines: how many lines to keep in memory; fewer if they are very long, see `MAX_KEPT`.
        clock: Unix seconds, for the stamps.
        mask: takes secrets out of text of one or more lines, before anybody sees it.

    Attributes:
        write_errors: how often writing failed. The lines of these times are in memory only.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        backups: int,
        keep_lines: int = 200,
        clock: Callable[[], float] = time.time,
        mask: Callable[[str], str] | None = None,
    ) -> None:
        self._mask = mask
        self.write_errors = 0
        self._splitter = LineSplitter()
        self._kept = _KeptLines(keep_lines)
        self._file = _RotatingFile(path, max_bytes, backups)
        self._listeners: dict[Listener, None] = {}  # a set that keeps its order
        self._clock = clock

    def lines_of_a_process(self, log_rate: int = BYTE_RATE) -> OutputLines:
        """Return what takes the output of one process. Two processes must not share a line.

        Args:
            log_rate: see `Launch`. A pause in reading is not taken for the end of a line.
        """
        return OutputLines(self._publish, STANDS + READ_SIZE / log_rate)

    def feed(self, data: bytes) -> None:
        """Take output that has no process of its own. Never raises: `write_errors` counts failures to write."""
        self._publish(self._splitter.feed(data))

    def tail(self, n: int) -> list[str]:
        """Return the last ``n`` lines in memory, oldest first."""
        return self._kept.last(n)

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener`` with each new line. It must not block.

        A listener that raises is removed.
        """
        self._listeners[listener] = None

    def remove_listener(self, listener: Listener) -> None:
        """Stop calling ``listener``. Does nothing if it was never added."""
        self._listeners.pop(listener, None)

    def close(self) -> None:
        """Take an unfinished line as it is and close the file, because the output has ended.

        The next incarnation may feed again.
        """
        self._publish(self._splitter.end())
        self._file.close()

    def _publish(self, texts: list[str]) -> None:
        if not texts:
            return
        if self._mask is not None:
            texts = self._mask("\n".join(texts)).split("\n")
        # One stamp and one join for all lines, and no copy of lines that memory would drop at once:
        # all mods pay for the CPU of one that floods its log.
        stamp = _stamp(self._clock()) + " "
        self._kept.extend([stamp + text for text in texts[-self._kept.count :]])
        try:
            self._file.write((stamp + ("\n" + stamp).join(texts) + "\n").encode())
        except OSError:
            self.write_errors += 1
        if self._listeners:
            lines = [stamp + text for text in texts]
            for listener in tuple(self._listeners):
                self._tell(listener, lines)

    def _tell(self, listener: Listener, lines: list[str]) -> None:
        try:
            for line in lines:
                if listener in self._listeners:  # a listener may remove itself or another one
                    listener(line)
        except Exception:  # a listener must not end the reading of what the mod prints
            _logger.exception("a listener of the log %s failed and is removed", self._file.path)
            self.remove_listener(listener)


def read_tail(path: Path, n: int) -> list[str]:
    """Return the last ``n`` lines on disk, oldest first, from ``path`` and its rotated files.

    Reads backwards from the end, no more than necessary. Returns [] if there is no such log.

    Raises:
        OSError: the log cannot be read.
    """
    lines: list[str] = []
    for file in _newest_first(path):
        wanted = n - len(lines)
        if wanted <= 0:
            break
        lines[:0] = _last_lines(file, wanted)
    return lines


class _KeptLines:
    """The last lines, limited in number and in characters."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._lines: deque[str] | tuple[()] = ()  # most mods print nothing, and an empty deque takes 700 bytes
        self._size = 0

    def extend(self, lines: list[str]) -> None:
        if isinstance(self._lines, tuple):
            self._lines = deque()
        for line in lines:
            self._lines.append(line)
            self._size += len(line)
            while len(self._lines) > self.count or self._size > MAX_KEPT:
                self._size -= len(self._lines.popleft())

    def last(self, n: int) -> list[str]:
        return list(self._lines)[-n:] if n > 0 else []


class _RotatingFile:
    """Appends whole lines.

    A full file becomes ``.1``, ``.1`` becomes ``.2``, and the oldest is dropped.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd: int | None = None

    def write(self, data: bytes) -> None:
        """Append ``data``, which ends with a line break, in one call if it fits into the file.

        After an OSError the file is closed and holds no partial line. The next write opens it
        again.
        """
        try:
            start = 0
            while start < len(data):
                start += self._write_what_fits(data, start)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):  # a delayed write error, too late to do anything about it
                os.close(fd)

    def _write_what_fits(self, data: bytes, start: int) -> int:
        """Write as many whole lines as fit.

        Return how many bytes that was, 0 if the file was rotated.
        """
        fd, size = self._open()
        room = max(0, self._max_bytes - size)
        end = len(data) if len(data) - start <= room else data.rfind(b"\n", start, start + room) + 1
        if end <= start and size > 0:
            self._rotate()
            return 0
        if end <= start:  # a line longer than a whole file gets a file of its own
            end = data.index(b"\n", start) + 1
        _write_all(fd, data[start:end] if end - start < len(data) else data, size)
        return end - start

    def _open(self) -> tuple[int, int]:
        """Return the file that the path names now, and its size.

        Opens it if we hold another one.
        """
        if self._fd is not None:
            held = os.fstat(self._fd)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if os.path.samestat(held, os.stat(self.path)):
                    return self._fd, held.st_size
            self.close()  # it was removed or renamed: nobody would find what we write there
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(self._fd, 0o600)  # output may be private, so close an older file that was open to all
        return self._fd, os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        self.close()
        for index in range(self._backups, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(_rotated(self.path, index - 1), _rotated(self.path, index))
        # Without backups this removes the file itself, else what an earlier, larger setting left
        # behind.
        index = self._backups + 1 if self._backups else 0
        with contextlib.suppress(FileNotFoundError):
            while True:
                os.unlink(_rotated(self.path, index))
                index += 1


def _write_all(fd: int, data: bytes, size: int) -> None:
    """Write everything, or nothing if the disk is full: half a line would merge with the next
    one.
    """
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, data[written:])
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, size)
        raise


def _rotated(path: Path, index: int) -> Path:
    return path.with_name(f"{path.name}.{index}") if index else path


def _newest_first(path: Path) -> Iterator[Path]:
    """Yield the files of a log, newest first.

    The first one may be missing: it was rotated, and then the disk was full. The rest have no gap.
    """
    if path.exists():
        yield path
    index = 1
    while (rotated := _rotated(path, index)).exists():
        yield rotated
        index += 1


def _last_lines(path: Path, n: int) -> list[str]:
    try:
        data = _read_end(path, n)
    except FileNotFoundError:  # it was rotated away meanwhile
        return []
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return [line.decode(errors="replace") for line in lines[-n:]]


def _read_end(path: Path, n: int) -> bytes:
    """Return the end of a file, with at least ``n`` whole lines if the file has as many."""
    blocks: list[bytes] = []
    breaks = 0
    with path.open("rb", buffering=0) as file:
        position = file.seek(0, os.SEEK_END)
        while position > 0 and breaks <= n:  # more than n, because the last line's own break counts too
            start = max(0, position - _BLOCK)
            file.seek(start)
            blocks.append(file.read(position - start))
            breaks += blocks[-1].count(b"\n")
            position = start
    return b"".join(reversed(blocks))


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
