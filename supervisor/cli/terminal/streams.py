"""Standard input, output and error of the ``modvisor`` program, whatever they are connected to.

Three things must hold before the first command runs (`prepare`):

- Descriptors 0, 1 and 2 are open. Otherwise the next file or socket gets one of these numbers, and
  what is printed ends up in it.
- All text can be printed in every locale: characters that the encoding lacks are replaced.
- A failed write to stdout is a `CannotWrite`, which no other failure can be mistaken for. A failed
  write to stderr is ignored, since nobody is left to tell.

A command that fails to write has failed. A network has not: it goes on without output. So
`modvisor run` calls `detach`: from then on threads do the writing, and no write fails or blocks.
"""

from __future__ import annotations

import atexit
import errno
import io
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...runtime import open_missing_descriptors

MAX_UNWRITTEN = 1024 * 1024
"""Bytes that wait for a slow reader, per stream. What comes on top is lost, and counted."""

LAST_WORDS = 1.0
"""Seconds that the end of the program waits for what is not yet written."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_NAMES = {_STDOUT: "stdout", _STDERR: "stderr"}

logger = logging.getLogger("modvisor.run")


class CannotWrite(OSError):
    """A result could not be written to stdout."""


def prepare() -> None:
    """Make the standard streams usable. Call this before the program opens files or sockets."""
    missing = open_missing_descriptors()
    if _STDIN in missing:
        sys.stdin = sys.__stdin__ = open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115 - never closed
    sys.stdout = _text(sys.stdout, _STDOUT, "replace", _STDOUT in missing)
    sys.stderr = _text(sys.stderr, _STDERR, "backslashreplace", _STDERR in missing)


def detach(on_lost: Callable[[], None]) -> None:
    """Let threads write stdout and stderr from now on, so that no write fails or blocks.

    Args:
        on_lost: called for each message that could not be written, in any thread.
    """
    for stream in (sys.stdout, sys.stderr):
        sink = _sink_of(stream)
        if sink is not None:
            sink.outlet = Outlet(sink.fileno(), sink.name, on_lost)
            atexit.register(sink.close_outlet, stream)


def _text(stream: Any, fd: int, errors: str, missing: bool) -> Any:
    """Return a text stream over a `_Sink`; the given one if something else has replaced it already."""
    original = sys.__stdout__ if fd == _STDOUT else sys.__stderr__
    if stream is not original or (stream is None and not missing):
        return stream
    at_once = stream is not None and stream.write_through
    return io.TextIOWrapper(
        (_AtOnce if at_once else io.BufferedWriter)(_Sink(fd, raises=fd == _STDOUT)),
        encoding="utf-8" if stream is None else stream.encoding,
        errors=errors,
        line_buffering=stream is None or stream.line_buffering,
        write_through=at_once,
    )


def _sink_of(stream: Any) -> _Sink | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Sink) else None


class _AtOnce(io.BufferedWriter):
    """Keeps nothing back, as ``PYTHONUNBUFFERED`` asks: results and notes come in the order in which they are printed."""

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        self.flush()
        return written


class _Sink(io.RawIOBase):
    """The end of a standard stream: writes to its descriptor, or hands over to an `Outlet`.

    Args:
        raises: whether a failed write raises; otherwise it is ignored.
    """

    def __init__(self, fd: int, *, raises: bool) -> None:
        self.name = f"<{_NAMES.get(fd, fd)}>"
        self.outlet: Outlet | None = None
        self._fd = fd
        self._raises = raises

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.outlet is not None:
            self.outlet.put(bytes(data))
            return len(data)
        try:
            write_all(self._fd, data)
        except BrokenPipeError:  # ``modvisor events | head``
            if self._raises:
                raise
        except OSError as error:
            if self._raises:
                raise CannotWrite(error.errno, error.strerror) from None
        return len(data)

    def close_outlet(self, stream: Any) -> None:
        with suppress(ValueError):  # somebody has closed the stream
            stream.flush()
        if self.outlet is not None:
            self.outlet.close()


class Outlet:
    """Writes to a descriptor without ever blocking its caller. What cannot be written is lost, and counted.

    The reader may be slow, stopped (Ctrl-S) or gone, or the disk may be full. As long as the
    descriptor takes it, a message is written at once, so that stdout and stderr keep their order.
    What it does not take at once a thread writes. Later messages are tried again: a full disk is
    freed some day.

    Args:
        on_lost: called for each lost message.
    """

    def __init__(self, fd: int, name: str, on_lost: Callable[[], None]) -> None:
        self._fd = fd
        self._name = name
        self._on_lost = on_lost
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes that wait
        self._changed = threading.Condition(threading.Lock())
        self._lost = 0  # since the last message that was written
        self._torn = False  # whether only a part of the last message was written
        self._failing = False  # whether the last message was lost
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, data: bytes) -> None:
        """Write ``data`` now or soon. Never raises, never blocks."""
        with self._changed:
            if self._closed or self._size + len(data) > MAX_UNWRITTEN:
                self._lose()
                return
            rest = data if self._size else self._write(data, self._write_what_fits)
            if rest or (self._lost and not self._failing):  # the thread logs what was lost
                self._leave_to_thread(rest)

    def close(self) -> None:
        """Wait until all is written, `LAST_WORDS` at most. Later messages are lost."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, LAST_WORDS)
            self._closed = True

    def _leave_to_thread(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_waiting, name=f"modvisor-{self._name}", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _write_waiting(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting.popleft()
            self._write(data, self._write_all)
            with self._changed:
                self._size -= len(data)
                self._changed.notify_all()
            self._tell_lost()

    def _write(self, data: bytes, how: Callable[[bytes], bytes]) -> bytes:
        """Return what is left to write."""
        try:
            rest = how(b"\n" + data if self._torn else data)
        except OSError as error:
            self._torn = self._torn or getattr(error, "written", 0) > 0
            self._failing = True
            self._lose()
            return b""
        self._torn = self._failing = False
        return rest

    def _write_what_fits(self, data: bytes) -> bytes:
        """Write while that cannot block: a pipe that takes anything takes `PIPE_BUF` bytes."""
        rest = data
        while rest and any(event & select.POLLOUT for _, event in self._poll.poll(0)):
            try:
                rest = rest[os.write(self._fd, rest[: select.PIPE_BUF]) :]
            except BlockingIOError:
                break
            except OSError as error:
                raise _after(error, len(data) - len(rest)) from None
        return rest

    def _write_all(self, data: bytes) -> bytes:
        write_all(self._fd, data)
        return b""

    def _lose(self) -> None:
        self._lost += 1
        self._on_lost()

    def _tell_lost(self) -> None:
        """Log how many messages were lost, once the stream takes messages again."""
        if self._lost and not self._failing:
            lost, self._lost = self._lost, 0
            logger.warning("%d messages could not be written to %s", lost, self._name)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write ``data``, also to a pipe or terminal that some program made non-blocking.

    Raises:
        OSError: with the bytes that were written before as its attribute ``written``.
    """
    rest = memoryview(data).cast("B")
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _wait_writable(fd)
        except OSError as error:
            raise _after(error, len(data) - len(rest)) from None


def _after(error: OSError, written: int) -> OSError:
    error.written = written  # type: ignore[attr-defined]
    return error


def _wait_writable(fd: int) -> None:
    """Wait until ``fd`` takes more. Raises OSError if its other end is gone."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    for _, event in poll.poll():
        if event & (select.POLLERR | select.POLLNVAL) and not event & select.POLLOUT:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
