"""One WebSocket: bytes in, messages to its session; messages of the session out.

`websockets` reads and writes the frames, this file what a network needs around them:

- What has come is looked through in small pieces, some in each turn of the loop. The next piece is
  read when nothing of the last one waits.
- A message is bounded, and counted with the bodies that are being read. A large one is decoded in a
  thread; what comes behind it waits.
- A client that says nothing is pinged, and then closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from ....ipc.errors import Code, ModvisorError
from ...config import HttpConfig
from ..agents.codec import Codec
from ..content.as_json import BadBody
from ..content.bodies import MAX_BODY, TooLarge
from ..requests.intake import LARGE_JSON, Intake
from ..wire.phase import Phase
from ..wire.protocol import HttpProtocol
from . import closing
from .outgoing import Outgoing

logger = logging.getLogger("modvisor.http")

# No keys of the network file: they say how long one turn of the loop is, and what one connection may hold.
AT_ONCE = 64  # frames in one turn of the loop
SLICE = 4096  # bytes that are looked through at once: 680 of the smallest frames, at about 10 µs each
MOST_UNTAKEN = 1024 * 1024  # bytes of answers that a client may not have read while it is listened to
MOST_QUEUED = 256 * 1024  # bytes of messages that wait for those before them
LINGER = 1.0  # seconds that a client has to answer the end, so that it can read why


class Session(Protocol):
    """What is done with the messages of one client; see `session`."""

    @property
    def in_flight(self) -> int:
        """How many events wait for their answers."""
        ...

    @property
    def is_greeted(self) -> bool:
        """Whether the client has said who it is."""
        ...

    @property
    def is_greeting(self) -> bool: ...
    def take(self, message: dict[str, Any]) -> None: ...
    def push(self) -> None: ...
    def closed(self) -> None: ...


class WebSocket:
    """A connection that has become a WebSocket.

    Args:
        limits: returns the limits in force.
        make_session: makes what takes the messages.

    Attributes:
        outgoing: sends messages.
        is_over: whether the connection ends, by the client or by us.
    """

    def __init__(
        self,
        http: HttpProtocol,
        protocol: ServerProtocol,
        codec: Codec,
        limits: Callable[[], HttpConfig],
        intake: Intake,
        make_session: Callable[[WebSocket], Session],
    ) -> None:
        self._http, self._protocol, self.codec = http, protocol, codec
        self._limits, self._intake = limits, intake
        self._loop = asyncio.get_running_loop()
        self.outgoing = Outgoing(http, protocol, is_text=codec.is_text)
        self._raw, self._message = bytearray(), bytearray()
        self._messages: deque[bytes] = deque()
        self._queued = 0  # bytes of them
        self._room = intake.open_room(is_stranger=True)
        self._is_decoding = self._is_scheduled = self._is_stopping = self._is_pinged = False
        self._gone = asyncio.Event()
        self.is_over = False
        self._heard = self._loop.time()
        self._session = make_session(self)
        self._timer = self._loop.call_later(self._limits().ws_ping or 60.0, self._watch)

    # -- what comes

    def received(self, data: bytes) -> None:
        self._heard, self._is_pinged = self._loop.time(), False
        self._raw += data
        if not self._is_scheduled:
            self.go_on()

    def go_on(self) -> None:
        """Look through what has come, as far as it can be dealt with now."""
        self._is_scheduled, left = False, AT_ONCE
        while left > 0:
            if self._messages and self._may_take():
                self._take(self._messages.popleft())
                left -= 1
            elif self._raw and self._may_read():
                left -= self._read()
            else:
                break
        else:
            self._is_scheduled = True
            self._loop.call_soon(self._http.in_turn, self.go_on)
        self._regulate()

    def _may_take(self) -> bool:
        """Return whether the next message can be dealt with. It waits for a hello, and for a place in flight."""
        session = self._session
        is_free = not (self.is_over or self._is_stopping or self._is_decoding or session.is_greeting)
        return is_free and session.in_flight < self._limits().ws_in_flight

    def _may_read(self) -> bool:
        if self.is_over:
            return True
        return self._queued <= MOST_QUEUED and self.outgoing.owed <= MOST_UNTAKEN

    def _regulate(self) -> None:
        """Give room back that is not needed, and read on from the client when all that came is looked through."""
        if (self._room.small or self._room.large) and not self._held:
            self._intake.close_room(self._room)
        flow = self._http.flow
        if self._raw:
            flow.pause_reading()
        elif flow.read_paused and not self._http.transport.is_closing():
            self._heard = self._loop.time()  # it was not listened to
            flow.resume_reading()

    def _read(self) -> int:
        """Look through the next slice. Return how many frames it had."""
        data = bytes(self._raw[:SLICE])
        del self._raw[:SLICE]
        self._protocol.receive_data(data)
        frames = self._protocol.events_received()
        if self.outgoing.flush() or self._protocol.state is not OPEN:
            self._take_last(frames)
            self._has_ended()
            return len(frames) + 1
        try:
            for frame in frames:
                self._add(frame)  # type: ignore[arg-type] # there is no HTTP request any more
            self._room.hold(self._held)
        except ModvisorError as error:
            self.end(closing.close_code(error.code), error.code, str(error))
        return len(frames) + 1

    def _take_last(self, frames: list[Any]) -> None:
        """Take what a client said right before it closed: it may be an ack, or an event."""
        if self._protocol.close_rcvd is None:
            return
        with suppress(ModvisorError):  # nobody would read why
            for frame in frames:
                self._add(frame)
        while self._messages and self._may_take():
            self._take(self._messages.popleft())

    @property
    def _held(self) -> int:
        """Bytes of the messages that are not taken."""
        return len(self._message) + len(self._protocol.reader.buffer) + self._queued

    def _add(self, frame: Frame) -> None:
        """Add a frame to the message that it belongs to."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            if (frame.opcode is Opcode.TEXT) is not self.codec.is_text:
                kind = "text" if self.codec.is_text else "binary"
                raise BadBody(f"expected {kind} messages, as the subprotocol {self.codec.name!r} has them")
        elif frame.opcode is not Opcode.CONT:
            return
        self._message += frame.data
        if frame.fin:
            self._messages.append(bytes(self._message))
            self._queued += len(self._message)
            self._http.answered += 1  # what the client is waited for begins anew
            self._message = bytearray()

    # -- whole messages

    def _take(self, data: bytes) -> None:
        if len(data) > LARGE_JSON:
            self._is_decoding = True
            self._http.do(self._take_large(data))
            return
        self._queued -= len(data)
        try:
            message = self._decoded(data)
        except ModvisorError as error:
            self._is_malformed(error, data)
        else:
            self._session.take(message)

    async def _take_large(self, data: bytes) -> None:
        try:
            message = await self._intake.in_thread(self._decoded, data)
        except ModvisorError as error:
            self._is_malformed(error, data)
        else:
            self._session.take(message)
        finally:
            self._queued -= len(data)
            self._is_decoding = False
            self.go_on()

    def _decoded(self, data: bytes | bytearray) -> dict[str, Any]:
        return self.codec.decode(data, self._limits().json_values)

    def _is_malformed(self, error: ModvisorError, data: bytes) -> None:
        code = closing.TOO_LARGE if isinstance(error, TooLarge) else closing.MALFORMED
        if self.codec.is_text and not _is_text(data):
            code = closing.NOT_TEXT
        self.end(code, error.code, str(error))

    # -- what goes

    def send(self, message: dict[str, Any]) -> None:
        self.outgoing.send(self.codec.encode(message))

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this in a task, which the end of the server waits for."""
        self._http.do(work)

    def resumed(self) -> None:
        """Go on: the client has taken what was sent."""
        self.outgoing.go_on()
        self._session.push()
        self.go_on()

    def know(self) -> None:
        """Note that the client has said who it is: it may send large messages."""
        self._room.is_stranger = False
        self._protocol.max_message_size = MAX_BODY

    # -- how long it may wait

    @property
    def phase(self) -> Phase:
        """What the connection waits for."""
        session = self._session
        if not session.is_greeted:
            return Phase.ANSWER if session.is_greeting else Phase.HEAD
        if self._message or self._protocol.reader.buffer:
            return Phase.BODY
        return Phase.ANSWER if session.in_flight or self._messages else Phase.IDLE

    def _watch(self) -> None:
        """Ping a client that has said nothing for long, and end the connection if it does not answer."""
        patience = self._limits().ws_ping
        now = self._loop.time()
        if patience is None or self._http.flow.read_paused:
            self._heard = now
        left = (patience or 60.0) - (now - self._heard)
        if left <= 0 and self._is_pinged:
            self.end(closing.TOO_SLOW, Code.TIMEOUT, f"the client has said nothing for {2 * (patience or 0):g} s")
            return
        if left <= 0:
            self._is_pinged, self._heard = True, now
            self._protocol.send_ping(b"")
            self.outgoing.flush()
            left = patience or 60.0
        self._timer = self._loop.call_later(left, self._watch)

    # -- the end

    def end(self, code: int, error: str | None = None, message: str = "") -> None:
        """Close the connection, and tell the client why. It may be called again."""
        if self.is_over:
            return
        if error is not None:
            self.outgoing.send_at_once(self.codec.encode({"type": "closing", "error": str(error), "message": message}))
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, message.encode()[:120].decode(errors="ignore"))
        self.outgoing.flush()
        self._has_ended()

    def _has_ended(self) -> None:
        if self._protocol.close_rcvd is not None:  # both sides have said it
            self._http.transport.close()
        elif self._protocol.eof_sent and self._http.transport.can_write_eof():
            self._http.transport.write_eof()
        if self.is_over:
            return
        self.is_over = True
        self._timer.cancel()
        self._session.closed()
        self._messages.clear()
        self._message = bytearray()
        self._intake.close_room(self._room)
        self._timer = self._loop.call_later(LINGER, self._http.transport.abort)

    def dismiss(self, status: int | None, code: str, message: str) -> None:
        """End, since the client is too slow (with a status) or one too many (without)."""
        if status is None:
            self.end(closing.TOO_MANY, Code.TOO_MANY, "the network needs the place of this connection")
        else:
            self.end(closing.TOO_SLOW, code, message)

    def stop(self, *, at_once: bool = False) -> None:
        """End when the events in flight are answered, or at once."""
        if not self._is_stopping:
            self._http.do(self._until_gone())
        self._is_stopping = True
        if at_once or not self._session.in_flight:
            self.end(closing.STOPPING, Code.NOT_RUNNING, "the network stops")

    async def _until_gone(self) -> None:
        await self._gone.wait()

    def answered(self) -> None:
        """Go on: an event in flight was answered."""
        if self._is_stopping:
            self.stop()
        elif self._messages or self._raw:
            self.go_on()

    def lost(self) -> None:
        """Note that the connection is gone."""
        self._gone.set()
        self.is_over = True
        self._timer.cancel()
        self._session.closed()
        self._intake.close_room(self._room)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
