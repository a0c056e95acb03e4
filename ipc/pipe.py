"""The only I/O on the pipe: a `Connection` on a non-blocking stream socket, driven by the running asyncio loop.

Plain asyncio rather than anyio or asyncio streams: this is the path of every event, a worker must stay small, and reading
straight into the decoder's buffer spares a copy.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from . import shared_memory
from .connection import MAX_FRAME, MAX_REQUESTS, Connection
from .deadlines import Deadlines
from .errors import (
    Code,
    ModvisorError,
    PipeBroken,
    PipeClosed,
    ProtocolError,
    RemoteProtocolError,
    RequestFailed,
)
from .messages import CANCEL, Message, Notification, Request, Response
from .shared_memory import Lent
from .spinning import Spinner

HIGH_WATER = 1024 * 1024
"""Bytes waiting to be written above which `Pipe.call` waits for the peer to read."""

TURN = 16
"""Requests and notifications taken in one turn of the loop. A request costs 20 to 60 µs with what it sets off, so a peer that
sends without end holds the loop for about a millisecond at a time; the rest waits for the next turn, and everybody else has
theirs between. Answers are not counted: there are no more of them than we asked for."""

TURN_BYTES = 1024 * 1024
"""Bytes taken from shared memory in one turn, and one message more: to make us copy them costs the peer nothing."""

FEW = 4
"""Requests without an answer, either way, up to which each message is sent at once: the peer has nothing else to do. With more
of them the messages of one turn of the loop leave together."""

RATE = 20_000.0
BURST = 20_000.0
"""What messages of no use (`Pipe.charge`) may cost per second while they last, and at once. A notification costs 1 and takes
5 µs, so a flood of them is a tenth of a supervisor's time. Above it reading pauses: the pipe fills, and the peer waits.

Whatever an honest peer has in its pipe is read within two seconds all the same, and its answer to a ping with it: it has at
most `MAX_REQUESTS` requests open, and gives each up once."""

PAUSE = 0.02
"""Seconds of one pause in reading; always this short, since the answers we wait for come over the same pipe: two peers that
read nothing until the other has answered would wait forever."""

LAST_BYTES = 1024 * 1024
LAST_MESSAGES = 1000
"""What is taken of a peer that has ended, of what lay in its pipe: its answers, and this many requests and notifications."""

_FOR_LARGE = 10  # times the patience for a small message: large bytes are copied twice on their way
_SHARED_KEPT = 1.0  # seconds that a shelf keeps its memory when it is not used, twice at most
_ONE_FD = socket.CMSG_LEN(4)  # a peer that sends more has them closed by the kernel
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

RequestHandler = Callable[[Request], None]
NotificationHandler = Callable[[Notification], None]
CloseHandler = Callable[[ModvisorError], None]


class Pipe:
    """Requests, answers and notifications with one peer.

    Reading is fair and bounded: at most `TURN` requests and notifications per turn of the loop, and messages of no use no
    faster than `RATE`. It never waits for writing: a peer that writes before it reads is served too.

    Handlers are called from the loop and must not block or raise; a request handler answers now or later with `respond` or
    `refuse`. ``on_close`` is called once, with the reason.

    Args:
        sock: a connected stream socket; the pipe owns it from here on.
        max_frame: cap on one message, bytes.
        max_requests: cap on unanswered requests, each way.
        max_buffer: cap on bytes waiting for a peer that does not read; above it the pipe breaks.
        spinner: waits awake for the answers to events.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_request: RequestHandler,
        on_notification: NotificationHandler,
        on_close: CloseHandler,
        max_frame: int = MAX_FRAME,
        max_requests: int = MAX_REQUESTS,
        max_buffer: int | None = None,
        spinner: Spinner | None = None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(max_frame=max_frame, max_requests=max_requests)
        self._on_request = on_request
        self._on_notification = on_notification
        self._on_close = on_close
        # Twice the largest message: one on its way, one whole answer behind it.
        self._max_buffer = 2 * max_frame + HIGH_WATER if max_buffer is None else max_buffer
        self._deadlines = Deadlines(self._loop)
        self._spinner = spinner
        self._unread: Iterator[Message] | None = None  # messages of the last read that are for the next turns
        self._next_turn: asyncio.Handle | None = None  # goes on with them; nothing is read before
        self._reading = True  # the socket is watched: whenever the pipe is open and not in a pause
        self._allowance = _Allowance(self._loop.time())
        self._pause = False  # wanted, before anything more is taken
        self._out: deque[memoryview | bytes] = deque()
        self.buffered = 0
        """Bytes the peer has not read yet."""
        self._corked = False  # something was written in this turn of the loop: gather what else it writes
        self._waiting_for_writable = False
        self._drain_waiters: deque[asyncio.Future[None]] = deque()
        self._lent: Lent | None = None
        self._shrinking: asyncio.TimerHandle | None = None
        self._closed: ModvisorError | None = None
        self._loop.add_reader(sock.fileno(), self._readable)

    # -- asking

    async def call(self, method: str, params: Any = None, timeout: float | None = None) -> Response:
        """Ask the peer and wait for its answer.

        Raises:
            RequestFailed: the peer answered with an error.
            TimeoutError: no answer within ``timeout`` seconds; the peer is told to stop.
            ChannelBusy, FrameTooLarge, Unserializable: nothing was sent.
            PipeBroken, PipeClosed: the pipe ended before the answer came.
        """
        if self.buffered > HIGH_WATER:
            async with asyncio.timeout(timeout):
                await self.writable()
        due = None if timeout is None else self._loop.time() + timeout
        return await self.finish(*self.begin(method, params, due))

    def begin(
        self, method: str, params: Any = None, due: float | None = None, *, has_large: bool = False
    ) -> tuple[int, asyncio.Future[Response]]:
        """The first half of `call`: send, without waiting. Pass what it returns to `finish`, whatever happens.

        If it raises, the peer has not seen the request, and never will.

        Args:
            due: loop time at which waiting for the answer ends.
            has_large: there are large bytes in ``params``, see `ipc.shared_memory`.
        """
        if self._closed is not None:
            raise _again(self._closed)
        future: asyncio.Future[Response] = self._loop.create_future()
        request_id, data = self._connection.request(method, params, future, has_large=has_large)
        self._begun(future, data, due)
        if has_large and self._spinner is not None:
            self._spinner.expect(_FOR_LARGE)
        return request_id, future

    def begin_event(self, packed: bytes, due: float) -> tuple[int, asyncio.Future[Response]]:
        """`begin` of an event that is packed already."""
        if self._closed is not None:
            raise _again(self._closed)
        future: asyncio.Future[Response] = self._loop.create_future()
        request_id, data = self._connection.event(packed, future)
        self._begun(future, data, due)
        if self._spinner is not None and self._connection.in_flight == 1:  # else it is expected already
            self._spinner.expect()
        return request_id, future

    def _begun(self, future: asyncio.Future[Response], data: bytes, due: float | None) -> None:
        self._write(data)
        if self._closed is not None:  # of this very write: the peer has got nothing of it, or no whole frame
            future.exception()  # seen
            raise _again(self._closed)
        if due is not None:
            self._deadlines.add(future, due)

    async def finish(self, request_id: int, future: asyncio.Future[Response]) -> Response:
        """The second half of `call`: wait for the answer."""
        try:
            response = await future
        except (asyncio.CancelledError, TimeoutError):
            self.give_up(request_id, future)
            raise
        if (error := response.error) is not None:
            raise RequestFailed(error["message"], code=error["code"], **keywords(error["details"]))
        return response

    def give_up(self, request_id: int, future: asyncio.Future[Response]) -> None:
        """Nobody waits for this answer any more: the peer is told, if it still owes it."""
        self._deadlines.remove(future)
        if self._connection.abandon(request_id):
            self.notify(CANCEL, {"id": request_id})

    async def request(self, method: str, params: Any = None, timeout: float | None = None) -> Any:
        """`call`, returning just the result."""
        return (await self.call(method, params, timeout)).result

    def notify(self, method: str, params: Any = None) -> None:
        """Tell the peer; dropped without a word when the pipe is closed."""
        if self._closed is None:
            self._write(self._connection.notify(method, params))

    # -- answering

    def respond(self, request_id: int, result: Any, *, has_large: bool = False) -> None:
        """Answer a request; ``has_large``: with large bytes, see `ipc.shared_memory`.

        Raises:
            FrameTooLarge, Unserializable: nothing was sent; the caller owes the peer a `refuse`.
        """
        if self._closed is None:
            self._write(self._connection.respond(request_id, result, has_large=has_large))
            if has_large and self._spinner is not None:
                self._spinner.expect(_FOR_LARGE)

    def refuse(self, request_id: int, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        """Answer a request with an error."""
        if self._closed is None:
            self._write(self._connection.refuse(request_id, code, message, details))

    @property
    def owed(self) -> int:
        """The peer's requests that were not answered yet."""
        return self._connection.owed

    @property
    def owed_weight(self) -> int:
        """About the bytes of memory these take up together."""
        return self._connection.owed_weight

    def lend(self) -> None:
        """Lay down large bytes from now on: the peer takes them."""
        if shared_memory.is_possible and self._closed is None:
            self._connection.lent = self._lent = Lent()

    def spin_with(self, spinner: Spinner) -> None:
        """Wait awake from now on, see the argument ``spinner``."""
        self._spinner = spinner

    # -- life

    @property
    def closed(self) -> ModvisorError | None:
        """Why the pipe ended, None while it is open."""
        return self._closed

    @property
    def in_flight(self) -> int:
        """Requests of ours without an answer."""
        return self._connection.in_flight

    async def writable(self) -> None:
        """Wait until the peer has read enough that at most `HIGH_WATER` bytes are waiting."""
        await self._drained(HIGH_WATER)

    async def flush(self) -> None:
        """Wait until everything written has been handed to the kernel (or the pipe ended)."""
        self._uncork()
        await self._drained(0)

    def close(self) -> None:
        """End the pipe at once; requests in flight raise `PipeClosed`. May be called again."""
        self._end(PipeClosed("the pipe was closed"))

    def close_after_reading(self) -> None:
        """Take what the peer had sent before it ended, then end the pipe: an answer on its way still counts.

        No more than lies in the pipe at this moment: a process that outlived the peer may write for ever.
        """
        most = LAST_MESSAGES
        left = 0 if self._closed is not None else min(_bytes_in(self._sock), LAST_BYTES)
        while self._closed is None and most > 0:
            if self._unread is not None:
                most = self._take_unread(most)
            elif left > 0 and (count := self._receive()):
                left -= count
            else:
                break
        self.close()

    def _end(self, reason: ModvisorError) -> None:
        if self._closed is not None:
            return
        self._closed = reason
        self._unread = None
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())
        if self._waiting_for_writable:
            self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._connection.borrowed.close()
        if self._lent is not None:
            self._lent.close()
        if self._shrinking is not None:
            self._shrinking.cancel()
        self._out.clear()
        self.buffered = 0
        self._deadlines.close()
        for future in self._connection.waiting():
            if not future.done():
                future.set_exception(_again(reason))
        self._wake_drain_waiters()
        self._on_close(reason)

    # -- reading

    def charge(self, cost: float = 1.0) -> None:
        """Count a message of the peer that was of no use, such as a request refused unseen: above `RATE`, reading pauses."""
        if self._allowance.spend(self._loop.time(), cost):
            self._pause = True

    def _readable(self) -> None:
        if self._next_turn is None and self._receive():
            if self._spinner is not None:
                self._spinner.came()
            self._take_turn()
            if self._spinner is not None and self._connection.in_flight:
                self._spinner.expect()

    def _go_on(self) -> None:
        self._next_turn = None
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)
        self._take_turn()

    def _take_turn(self) -> None:
        """Take what one turn of the loop allows; come back in the next, or after a pause, if something is left."""
        if self._unread is not None:
            self._take_unread(TURN)
        if self._closed is not None:
            return
        if self._pause:
            self._pause = self._reading = False
            self._loop.remove_reader(self._sock.fileno())
            self._next_turn = self._loop.call_later(PAUSE, self._go_on)
        elif self._unread is not None:
            self._next_turn = self._loop.call_soon(self._go_on)

    def _receive(self) -> int:
        """Read what is there into `_unread`; returns the bytes read: 0 if there were none or the pipe ended."""
        view = self._connection.frames.buffer()
        try:
            if shared_memory.is_possible:
                count, ancillary, _, _ = self._sock.recvmsg_into([view], _ONE_FD, _CLOSE_ON_EXEC)
                if ancillary:
                    self._connection.borrowed.use(int.from_bytes(ancillary[0][2][:4], sys.byteorder))
            else:
                count = self._sock.recv_into(view)
        except RemoteProtocolError as error:
            self._end(_broken_by(error))
            return 0
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._end(PipeBroken(f"the pipe broke: {error}"))
            return 0
        if count == 0:
            self._end(PipeBroken("the peer closed the pipe"))
            return 0
        self._unread = self._connection.received(count)
        return count

    def _take_unread(self, most: int) -> int:
        """Handle the messages that were read, ``most`` requests and notifications of them; returns how many were left of these.

        It stops early where a pause is due. `_unread` is None when nothing is left.
        """
        assert self._unread is not None
        try:
            for message in self._unread:
                if type(message) is Response:
                    waiter = message.waiter
                    message.waiter = None  # each in the other, they would wait for the collector
                    self._deadlines.remove(waiter)
                    if not waiter.done():
                        waiter.set_result(message)
                else:
                    self._take(message)
                    most -= 1
                    if most == 0 or self._pause or self._closed is not None:
                        return most
                if self._connection.taken > TURN_BYTES:
                    self._connection.taken = 0
                    return most
        except ProtocolError as error:
            self._end(_broken_by(error))
        self._unread = None
        return most

    def _take(self, message: Message) -> None:
        if type(message) is Request:
            self._on_request(message)
        elif type(message) is Notification:
            self.charge()
            self._on_notification(message)

    # -- writing

    def _write(self, data: bytes) -> None:
        """Send at once if this is the first of this turn and the socket is free, else gather and send together."""
        self._out.append(data)
        self.buffered += len(data)
        if self._lent is not None and self._lent.is_used and self._shrinking is None:
            self._shrinking = self._loop.call_later(_SHARED_KEPT, self._shrink)
        if not self._waiting_for_writable and not self._corked:
            self._corked = True
            self._loop.call_soon(self._uncork)
            if self._connection.in_flight <= FEW and self._connection.owed <= FEW:
                self._send()
        elif self.buffered > self._max_buffer:
            if not self._waiting_for_writable:
                self._send()
            if self.buffered > self._max_buffer:
                text = f"the peer does not read its pipe: {self.buffered} bytes are waiting for it"
                self._end(PipeBroken(text, code=Code.PROTOCOL_ERROR))

    def _shrink(self) -> None:
        self._shrinking = None
        if self._lent is not None and self._lent.shrink():
            self._shrinking = self._loop.call_later(_SHARED_KEPT, self._shrink)

    def _uncork(self) -> None:
        self._corked = False
        if self._out and not self._waiting_for_writable and self._closed is None:
            self._send()

    def _send(self) -> None:
        """Hand as much as the socket takes to the kernel; come back when it is writable again if something is left."""
        out = self._out
        try:
            while out:
                # Small messages leave in one call; a large one goes as it is, without a copy.
                chunk = out[0] if len(out) == 1 or len(out[0]) > 65536 else self._gather()
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
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._wake_drain_waiters()
        return None

    def _gather(self) -> bytes:
        """Replace the small messages at the head of the queue by one chunk of them."""
        out, parts, size = self._out, [], 0
        while out and size + len(out[0]) <= 262144:
            part = out.popleft()
            parts.append(part)
            size += len(part)
        chunk = b"".join(parts)
        out.appendleft(chunk)
        return chunk

    def _writable(self) -> None:
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


class _Allowance:
    """What messages of no use may still cost at once: `BURST`, used up by each, filled up by `RATE` per second."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = BURST
        self._at = now

    def spend(self, now: float, cost: float) -> bool:
        """Use up ``cost``; True if there was not as much left: it is time for a pause."""
        self._left = min(BURST, self._left + (now - self._at) * RATE) - cost
        self._at = now
        return self._left < 0.0


def _bytes_in(sock: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def _broken_by(error: ProtocolError) -> PipeBroken:
    broken = PipeBroken(f"the peer broke the protocol: {error}", code=error.code)
    broken.__cause__ = error
    return broken


def _again(reason: ModvisorError) -> ModvisorError:
    """A fresh exception per waiter: one object raised in several tasks would collect all their tracebacks."""
    fresh = type(reason)(str(reason), code=reason.code)
    fresh.__cause__ = reason.__cause__
    return fresh


def keywords(details: dict[str, Any]) -> dict[str, Any]:
    """Details of a stranger as keywords: only text keys, none that would name a parameter."""
    return {
        key: value for key, value in details.items() if isinstance(key, str) and key not in ("message", "code", "self")
    }
