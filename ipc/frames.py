"""Cuts a stream of bytes into frames: a big-endian 32-bit length and that many bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .errors import RemoteProtocolError

MAX_FRAME = 64 * 1024 * 1024
"""Default cap on one message, bytes: room for a payload of 16 MiB with overhead, small beside a
worker's memory limit."""

_READ = 256 * 1024  # bytes of one read, unless a larger frame is expected
_FIRST = 4 * 1024  # bytes of the first reads: pipes of mods that are hardly asked never need more
_ROOM = 4096  # bytes that `buffer` offers at least
_HEADER = struct.Struct(">I")


class FrameDecoder:
    """Cuts a stream of bytes into frames, copying each byte at most a constant number of times.

    Fill the view that `buffer` returns, tell `advance` how much was filled, and take all frames
    before the next `buffer`. The memory grows with what arrived, never with a length that was only
    announced.
    """

    __slots__ = ("_buffer", "_end", "_max_frame", "_start", "_was_full")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray(_FIRST)
        self._start = 0  # first byte not yet taken
        self._end = 0  # first byte not yet filled
        self._was_full = False  # the last read filled the buffer: more waits in the socket

    @property
    def pending(self) -> int:
        """Received bytes that are not yet a whole frame."""
        return self._end - self._start

    @property
    def capacity(self) -> int:
        """Bytes of memory in use: never much more than the largest frame."""
        return len(self._buffer)

    def buffer(self) -> memoryview:
        """Return where to put the next bytes; never empty."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > _READ:  # a large frame has passed: free its memory
                self._buffer = bytearray(_READ)
            elif self._was_full and len(self._buffer) < _READ:
                self._buffer = bytearray(4 * len(self._buffer))
        elif len(self._buffer) - self._end < _ROOM:
            self._make_room()
        return memoryview(self._buffer)[self._end :]

    def _make_room(self) -> None:
        held = self._end - self._start
        wanted = step = min(4 * len(self._buffer), _READ)
        if held >= 4:
            wanted = max(step, 4 + _HEADER.unpack_from(self._buffer, self._start)[0])
        # Grow with what really arrived, so that a length alone cannot make us allocate.
        # Doubling keeps the number of copies linear.
        size = min(wanted, max(2 * held, step))
        fresh = bytearray(max(size, held + _ROOM))
        fresh[:held] = memoryview(self._buffer)[self._start : self._end]
        self._buffer, self._start, self._end = fresh, 0, held

    def advance(self, count: int) -> Iterator[memoryview]:
        """Take ``count`` bytes just written to `buffer`, and yield every whole frame.

        A frame is valid until the next one is asked for.

        Raises:
            RemoteProtocolError: a frame longer than the cap is announced.
        """
        self._end = end = self._end + count
        self._was_full = end == len(self._buffer)
        view, at, most, announced = memoryview(self._buffer), self._start, self._max_frame, _HEADER.unpack_from
        while end - at >= 4:
            (length,) = announced(view, at)
            if length > most:
                raise RemoteProtocolError(f"frame of {length} bytes announced; the cap is {most}")
            begin = at + 4
            at = begin + length
            if at > end:
                return
            self._start = at
            yield view[begin:at]
