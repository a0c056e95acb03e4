"""The writing half of a pipe: batches, backpressure, and descriptors of shared memory.

A `Pipe` inherits this half. As an object of its own it would cost a further call for each event.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from . import shared_memory
from .connection import Connection
from .errors import Code, ModvisorError, PipeBroken
from .shared_memory import Lent

HIGH_WATER = 1024 * 1024
"""Unread bytes above which a sender waits for the peer, see `PipeWriter.writable`."""

FEW = 4
"""Up to this many unanswered requests, in either direction, each message is sent at once: the peer
has nothing else to do. Above it, all messages of one turn of the loop leave together. So do the
answers to requests that came together, from the second on."""

_COPIED = 64 * 1024  # larger messages are sent alone, without being copied into a batch
_BATCH = 256 * 1024  # bytes of the largest batch
_MEMORY_KEPT = 1.0  # seconds after which unused shared memory is freed, twice that at most


class PipeWriter:
    """Writes frames to the socket. Never waits; `writable` and `flush` do."""

    # Set by `Pipe`, shared with the reading half.
    _sock: socket.socket
    _loop: asyncio.AbstractEventLoop
    _connection: Connection
    _closed: ModvisorError | None

    buffered: int
    """Bytes that the peer has not read yet."""

    def _start_writing(self, max_buffer: int) -> None:
        self.buffered = 0
        self._max_buffer = max_buffer
        self._out: deque[memoryview | bytes] = deque()
        self._corked = False  # what is written waits for the end of the turn
        self._waiting_for_writable = False
        self._drain_waiters: deque[asyncio.Future[None]] = deque()
        self._lent: Lent | None = None
        self._shrinking: asyncio.TimerHandle | None = None

    def _stop_writing(self) -> None:
        if self._waiting_for_writable:
            self._loop.remove_writer(self._sock.fileno())
        if self._lent is not None:
            self._lent.close()
        if self._shrinking is not None:
            self._shrinking.cancel()
        self._out.clear()
        self.buffered = 0

    def _end(self, reason: ModvisorError) -> None:
        raise NotImplementedError

    def lend(self) -> None:
        """Send large bytes through shared memory from now on: the peer has said that it borrows."""
        if shared_memory.is_possible and self._closed is None:
            self._connection.lent = self._lent = Lent()

    async def writable(self) -> None:
        """Wait until the peer has read so much that at most `HIGH_WATER` bytes are left."""
        await self._drained(HIGH_WATER)

    async def flush(self) -> None:
        """Wait until the kernel has taken everything written, or the pipe has ended."""
        self._uncork()
        await self._drained(0)

    def _write(self, data: bytes) -> None:
        """Send a frame at once if the peer has little else to do. If not, batch it."""
        self._out.append(data)
        self.buffered += len(data)
        if self._corked or self._waiting_for_writable:
            if self.buffered > self._max_buffer:
                self._relieve()
        else:
            if self._connection.in_flight <= FEW and self._connection.owed <= FEW:
                self._send()
                if not self._connection.frames.pending:  # no further request was read with this one
                    return
            self._cork()

    def _cork(self) -> None:
        """Batch what is written in the rest of this turn of the loop."""
        if not self._corked and self._closed is None:
            self._corked = True
            self._loop.call_soon(self._uncork)

    def _uncork(self) -> None:
        self._corked = False
        if self._out and not self._waiting_for_writable and self._closed is None:
            self._send()

    def _relieve(self) -> None:
        """Send what the kernel takes. End the pipe if more than the cap is still waiting."""
        if not self._waiting_for_writable:
            self._send()
        if self.buffered > self._max_buffer:
            text = f"the peer does not read its pipe: {self.buffered} bytes are waiting for it"
            self._end(PipeBroken(text, code=Code.PROTOCOL_ERROR))

    def _send(self) -> None:
        """Give the kernel as much as it takes, and the rest when it takes more."""
        out = self._out
        try:
            while out:
                chunk = out[0] if len(out) == 1 or len(out[0]) > _COPIED else self._batch()
                if self._lent is not None and self._lent.to_send >= 0:
                    sent = socket.send_fds(self._sock, [chunk], [self._lent.to_send])
                    self._lent.to_send = -1
                else:
                    sent = self._sock.send(chunk)
                self.buffered -= sent
                if sent < len(chunk):
                    out[0] = memoryview(chunk)[sent:]
                else:
                    out.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            return self._end(PipeBroken(f"the pipe broke: {error}"))
        if out and not self._waiting_for_writable:
            self._waiting_for_writable = True
            self._loop.add_writer(self._sock.fileno(), self._can_write)
        self._wake_drain_waiters()
        return None

    def _batch(self) -> bytes:
        """Join the small messages at the head of the queue. The batch replaces them there."""
        out, parts, size = self._out, [], 0
        if self.buffered <= _BATCH:
            chunk = b"".join(out)
            out.clear()
            out.append(chunk)
            return chunk
        while out and size + len(out[0]) <= _BATCH:
            part = out.popleft()
            parts.append(part)
            size += len(part)
        chunk = b"".join(parts)
        out.appendleft(chunk)
        return chunk

    def _can_write(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._waiting_for_writable = False
        self._send()

    async def _drained(self, mark: int) -> None:
        while self.buffered > mark and self._closed is None:
            waiter = self._loop.create_future()
            self._drain_waiters.append(waiter)
            await waiter

    def _wake_drain_waiters(self) -> None:
        while self._drain_waiters:
            waiter = self._drain_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _watch_lent(self) -> None:
        """Free the shared memory when it has not been used for a while."""
        if self._lent is not None and self._lent.is_used and self._shrinking is None and self._closed is None:
            self._shrinking = self._loop.call_later(_MEMORY_KEPT, self._shrink)

    def _shrink(self) -> None:
        self._shrinking = None
        if self._lent is not None and self._lent.shrink():
            self._shrinking = self._loop.call_later(_MEMORY_KEPT, self._shrink)
