"""The reading half of a pipe: fair turns, pauses for a flood, and what an ended peer has left.

A `Pipe` inherits this half. As an object of its own it would cost a further call for each event.

Reading is fair and bounded: at most `TURN` requests and notifications in a turn of the loop, and
useless messages no faster than `RATE`. It never waits for writing, so a peer that writes before it
reads is served too.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Callable, Iterator

from . import shared_memory
from .connection import TURN_BYTES, Connection
from .deadlines import Deadlines
from .errors import ModvisorError, PipeBroken, ProtocolError, RemoteProtocolError
from .messages import Message, Notification, Request
from .spinning import Spinner
from .usual import EventRequest

TURN = 16
"""Requests and notifications handled in one turn of the loop. A request costs 20 to 60 µs with what
it sets off, so a peer that sends without end holds the loop for about a millisecond at a time.
Everybody else has a turn between two such turns. Responses are not counted: there are no more of
them than we asked for."""

RATE = 20_000.0
BURST = 20_000.0
"""The cost of useless messages (see `PipeReader.charge`) that is allowed: `BURST` at once, then `RATE`
per second. A notification costs 1 and takes 5 µs, so a flood of them takes a tenth of the
supervisor's time. Above that, reading pauses: the pipe fills, and the peer waits.

An honest peer is still read within two seconds, and so is its answer to a ping. It has at most
`MAX_REQUESTS` open requests, and cancels each of them once."""

PAUSE = 0.02
"""Seconds of one pause in reading. It is always this short, because the responses that we wait for
come over the same pipe. Two peers that read nothing until the other has answered would wait
forever."""

LAST_BYTES = 1024 * 1024
LAST_MESSAGES = 1000
"""How much is read from the pipe of a peer that has ended: its responses, and this many requests
and notifications."""

LAST_STEPS = 32
"""Steps of a large message that are decoded then, all at once: a longer one is lost with its peer."""

_ONE_FD = socket.CMSG_LEN(4)  # the kernel closes what a peer sends beyond that
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

RequestHandler = Callable[[Request], None]
NotificationHandler = Callable[[Notification], None]


class PipeReader:
    """Reads messages from the socket and hands them to their handlers or waiters."""

    # Set by `Pipe`, shared with the writing half.
    _sock: socket.socket
    _loop: asyncio.AbstractEventLoop
    _connection: Connection
    _deadlines: Deadlines
    _spinner: Spinner | None
    _closed: ModvisorError | None

    def _start_reading(self, on_request: RequestHandler, on_notification: NotificationHandler) -> None:
        self._on_request = on_request
        self._on_notification = on_notification
        self._unread: Iterator[Message | None] | None = None  # read from the socket, not handled yet
        self._is_in_steps = False  # the last turn ended in the middle of a large message
        self._next_turn: asyncio.Handle | None = None  # handles `_unread`, before anything is read
        self._allowance = Allowance(self._loop.time())
        self._pause = False  # a pause is due, before the next message is handled
        self._reading = True  # the loop watches the socket: always, except in a pause
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def _stop_reading(self) -> None:
        self._unread = None
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _end(self, reason: ModvisorError) -> None:
        raise NotImplementedError

    def charge(self, cost: float = 1.0) -> None:
        """Count a useless message of the peer, such as a request refused unseen.

        Above `RATE`, reading pauses.
        """
        if self._allowance.spend(self._loop.time(), cost):
            self._pause = True

    def _readable(self) -> None:
        # Something is unread here only in a loop that a handler runs inside the loop.
        if self._next_turn is None and (self._unread is not None or self._receive()):
            if self._spinner is not None:
                self._spinner.came()
            self._take_turn()
            if self._spinner is not None and self._connection.is_expecting:
                self._spinner.expect()

    def _go_on(self) -> None:
        self._next_turn = None
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)
        self._take_turn()

    def _take_turn(self) -> None:
        """Handle what one turn allows. Schedule the rest for the next turn, or after a pause."""
        try:
            if self._unread is not None:
                self._handle_unread(TURN)
        finally:  # a handler must not raise; if it does, the messages behind its own are handled all the same
            if self._closed is None and self._next_turn is None:
                if self._pause:
                    self._pause = self._reading = False
                    self._loop.remove_reader(self._sock.fileno())
                    self._next_turn = self._loop.call_later(PAUSE, self._go_on)
                elif self._unread is not None:
                    self._next_turn = self._loop.call_soon(self._go_on)

    def _receive(self) -> int:
        """Read the socket once, into `_unread`.

        Returns:
            the count of bytes: 0 if none came or the pipe ended.
        """
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

    def _handle_unread(self, most: int) -> int:
        """Handle unread messages, at most ``most`` requests and notifications among them.

        Stops early when a pause is due, and after each step of a large message. `_unread` is None
        when no message is left.

        Returns:
            what is left of ``most``.
        """
        unread = self._unread
        assert unread is not None
        self._is_in_steps = False
        connection, on_request = self._connection, self._on_request
        try:
            for message in unread:
                if message is None:  # a large message is being decoded: others have their turn
                    self._is_in_steps = True
                    return most
                if type(message) is EventRequest or isinstance(message, Request):  # `type` alone is quicker
                    on_request(message)
                elif type(message) is Notification:
                    self.charge()
                    self._on_notification(message)
                most -= 1
                if most == 0 or self._pause or self._closed is not None:
                    return most
                if connection.copied > TURN_BYTES:
                    connection.copied = 0
                    return most
        except ProtocolError as error:
            self._end(_broken_by(error))
        except BaseException:
            if self._closed is None and getattr(unread, "gi_frame", None) is None:
                self._unread = self._connection.received(0)  # it raised itself, and has ended: go on behind
            raise
        if self._unread is unread:  # else a loop inside a handler has read on
            self._unread = None
        return most

    def _read_the_rest(self) -> None:
        """Handle what lies in the pipe at this moment, and no more.

        A process that outlived the peer may hold its end of the pipe and write forever.
        """
        most = LAST_MESSAGES
        left = 0 if self._closed is not None else min(_bytes_in(self._sock), LAST_BYTES)
        steps = LAST_STEPS
        while self._closed is None and most > 0 and steps > 0:
            if self._unread is not None:
                most = self._handle_unread(most)
                steps -= self._is_in_steps
            elif left > 0 and (count := self._receive()):
                left -= count
            else:
                break


class Allowance:
    """What useless messages may still cost now: `BURST` at most, refilled at `RATE` per second."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = BURST
        self._at = now

    def spend(self, now: float, cost: float) -> bool:
        """Subtract ``cost``. Return True if the allowance is overdrawn: a pause is due."""
        self._left = min(BURST, self._left + (now - self._at) * RATE) - cost
        self._at = now
        return self._left < 0.0


def _bytes_in(sock: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def _broken_by(error: ProtocolError) -> PipeBroken:
    broken = PipeBroken(f"the peer broke the protocol: {error}", code=error.code)
    broken.__cause__ = error
    return broken
