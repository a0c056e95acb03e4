"""The protocol without I/O: bytes in, messages out; messages in, bytes out.

A frame is a big-endian 32-bit length and that many bytes of msgpack (see `modvisor.ipc.messages`).
The length comes first for three reasons: an oversized frame is refused before a byte of it is
stored, a large frame is read straight into a buffer of its size, and the end of a message is known
even if it cannot be decoded.

A `Connection` never blocks, sleeps or touches a socket: a `Pipe` does. Tests connect two ends in
memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import msgpack

from .errors import FrameTooLarge, LocalProtocolError, PipeBusy, RemoteProtocolError, Unserializable
from .frames import MAX_FRAME, FrameDecoder
from .messages import (
    LARGE,
    LENT_BYTES,
    MAX_UNPACKED,
    NOTIFICATION,
    REQUEST,
    RESPONSE,
    Message,
    Request,
    Response,
    decode,
    pack,
    packed_weight,
    shaped,
    weight,
)
from .scanning import SCANNED, scan
from .shared_memory import BEGIN, LARGE_BYTES, Borrowed, Lent
from .stepwise import STEPWISE, StepwiseDecoder
from .usual import (
    ANSWER_AT,
    ANSWER_FRAME,
    ANSWER_REST,
    ANSWER_START,
    EVENT_AT,
    EVENT_FRAME,
    EVENT_REST,
    EVENT_START,
    NOT_USUAL,
    PASSED_FRAME,
    PASSED_REST,
    PASSED_SIZE,
    Answer,
    EventRequest,
    SentEvent,
    read_in_supervisor,
    read_in_worker,
)

MAX_REQUESTS = 10_000
"""Default cap on unanswered requests, each way: a silent peer must not fill our memory."""

TURN_BYTES = 1024 * 1024
"""Bytes copied from shared memory in one turn of the loop, and one message more. Without this cap a
peer could make us copy without end, at no cost of its own."""

_KEPT = 16 * 1024  # up to this size a response keeps its frame, to be remembered by it
_WEIGHED = 512  # bytes of a request from which on its values are weighed; a smaller one is light
_HEADER = struct.Struct(">I")
_PLACE = struct.Struct(">QQ")  # of lent bytes: where they begin, how many they are
_REST = 64 * 1024  # cap on a message without its lent bytes
_header, _event_frame, _answer_frame, _passed_frame = (
    each.pack for each in (_HEADER, EVENT_FRAME, ANSWER_FRAME, PASSED_FRAME)
)


class _Abandoned:
    """Replaces a waiter that gave up: it gets no response."""

    def done(self) -> bool:
        return True


_ABANDONED = _Abandoned()


class Connection:
    """One end of the pipe: numbers requests, counts unanswered ones, checks what the peer sends.

    Once the peer has broken the rules, nothing passes any more in either direction: receiving
    raises the same reason again, and sending is a mistake on our side.

    Args:
        max_frame: cap on one message in bytes, each way.
        max_requests: cap on unanswered requests, each way.
        takes_events: the peer asks about events.

    Attributes:
        next_id: the id of our next request.
        due: until when each waiter waits. An answered one is taken out.
    """

    def __init__(
        self, *, max_frame: int = MAX_FRAME, max_requests: int = MAX_REQUESTS, takes_events: bool = False
    ) -> None:
        self.max_frame = max_frame
        self.max_requests = max_requests
        self._takes_events = takes_events
        self._read: Callable[[memoryview], Any] = read_in_worker if takes_events else read_in_supervisor
        self.frames = FrameDecoder(max_frame)
        self.next_id = 0
        self._asked: dict[int, Any] = {}  # our unanswered requests, each with its waiter
        self.due: dict[Any, float] = {}
        self._to_answer: dict[int, int] = {}  # the peer's unanswered requests, each with its weight
        self._weight = 0  # sum of these weights
        self._broken: RemoteProtocolError | None = None
        self.borrowed = Borrowed(is_trusted=takes_events)  # whoever asks about events is the core
        self.lent: Lent | None = None  # where we lend large bytes, if the peer borrows
        self._size_to_check = min(max_frame + 1, LARGE)
        self._borrowing = 0  # bytes that the message being decoded has borrowed so far
        self.copied = 0  # bytes borrowed by all messages; the reader resets it

    @property
    def in_flight(self) -> int:
        """Our unanswered requests, abandoned ones included."""
        return len(self._asked)

    @property
    def is_expecting(self) -> bool:
        """Whether the peer is to send something soon: a response, or the next event."""
        return bool(self._asked) or (self._takes_events and not self._to_answer)

    @property
    def owed(self) -> int:
        """The peer's unanswered requests."""
        return len(self._to_answer)

    @property
    def owed_weight(self) -> int:
        """The approximate bytes of memory that the peer's unanswered requests take up."""
        return self._weight

    # -- messages in, bytes out

    def request(self, method: str, params: Any, waiter: Any = None, *, has_large: bool = False) -> tuple[int, bytes]:
        """Frame a request. Return its id and the bytes.

        Args:
            waiter: the future of the response; None: `received` yields it.
            has_large: ``params`` holds large bytes, see `ipc.shared_memory`.

        Raises:
            PipeBusy: `max_requests` requests are unanswered.
            FrameTooLarge, Unserializable: nothing was counted or sent.
        """
        if len(self._asked) >= self.max_requests:
            raise self._busy()
        request_id = self.next_id
        data = self._frame([REQUEST, request_id, method, params], has_large)
        self.next_id += 1
        self._asked[request_id] = waiter
        return request_id, data

    def event(self, packed: bytes, waiter: Any = None) -> tuple[int, bytes]:
        """Frame an `EVENT` request. The event is packed already, perhaps for several targets."""
        asked, request_id, size = self._asked, self.next_id, EVENT_AT + len(packed)
        if len(asked) >= self.max_requests:
            raise self._busy()
        if self._broken is not None:
            raise self._useless()
        if size >= self._size_to_check:
            self._check_size(size, lambda: packed_weight(packed))
        self.next_id = request_id + 1
        asked[request_id] = waiter
        return request_id, _event_frame(size, EVENT_START, request_id, EVENT_REST) + packed

    def answer(self, request_id: int, response: dict[str, Any]) -> bytes:
        """Frame the answer to an event: as `respond` with ``{"response": response}``, in one step."""
        try:
            body = pack(response)
        except Unserializable:  # raised again, naming the place
            return self.respond(request_id, {"response": response})
        size = ANSWER_AT + len(body)
        if self._broken is not None:
            raise self._useless()
        if size >= self._size_to_check:
            self._check_size(size, lambda: weight(response))
        return self._answered(request_id, _answer_frame(size, ANSWER_START, request_id, ANSWER_REST) + body)

    def passed(self, request_id: int) -> bytes:
        """Frame the answer to an event that is passed on: as `respond` with None, in one step."""
        if self._broken is not None:
            raise self._useless()
        return self._answered(request_id, _passed_frame(PASSED_SIZE, ANSWER_START, request_id, PASSED_REST))

    def respond(self, request_id: int, result: Any, *, has_large: bool = False) -> bytes:
        """Frame the answer to a request of the peer."""
        return self._answered(request_id, self._frame([RESPONSE, request_id, None, result], has_large))

    def refuse(self, request_id: int, code: str, message: str, details: dict[str, Any] | None = None) -> bytes:
        """Frame an error as the answer to a request of the peer."""
        error = {"code": str(code), "message": message, "details": details or {}}
        return self._answered(request_id, self._frame([RESPONSE, request_id, error, None]))

    def notify(self, method: str, params: Any) -> bytes:
        """Frame a notification."""
        return self._frame([NOTIFICATION, method, params])

    def abandon(self, request_id: int, late: Any = _ABANDONED) -> bool:
        """Drop the response to this request when it comes, or give it to the waiter ``late``.

        Returns True if it was still due.
        """
        if request_id in self._asked:
            self._asked[request_id] = late
            return True
        return False

    def waiting(self) -> list[Any]:
        """Return the waiters of unanswered requests, in the order of the requests."""
        return [waiter for waiter in self._asked.values() if waiter is not _ABANDONED]

    # -- bytes in, messages out

    def received(self, count: int) -> Iterator[Message | None]:
        """Check the messages that end in the ``count`` bytes just put into `frames`.

        Yields requests, notifications, and answers for which nobody waits. Every other answer
        is handed to its waiter. A large message is decoded in steps: between two of them, None is
        yielded, and others may be served before the next is asked for. So it is when `TURN_BYTES`
        were copied.

        Raises:
            RemoteProtocolError: the peer broke the rules, now or earlier.
        """
        if self._broken is not None:
            raise RemoteProtocolError(f"the connection is of no further use: {self._broken}")
        read, asked, due = self._read, self._asked, self.due
        try:
            for frame in self.frames.advance(count):
                size = len(frame)
                try:
                    message = read(frame) if size < STEPWISE else None
                except NOT_USUAL:
                    message = None
                if type(message) is Answer:
                    message.frame = bytes(frame) if size <= _KEPT else None
                elif type(message) is EventRequest:
                    self._accept(message.id, size)
                    yield message
                    continue
                else:
                    if type(message) is SentEvent:
                        event = message.params.event
                        self._accept(message.id, size if size < _WEIGHED else max(size, weight(event.payload)))
                    elif message is None:
                        message = yield from self._unusual(frame)
                    if not isinstance(message, Response):
                        yield message
                        continue
                try:
                    waiter = asked.pop(message.id)
                except KeyError:
                    raise RemoteProtocolError(f"answer to request {message.id}, which is not open") from None
                if waiter is None:
                    yield message
                    continue
                due.pop(waiter, None)
                if not waiter.done():
                    waiter.set_result(message)
                if self.copied > TURN_BYTES:
                    self.copied = 0
                    yield None
        except RemoteProtocolError as error:
            self._broken = error
            raise

    def _unusual(self, frame: memoryview) -> Generator[None, None, Message]:
        """Decode a frame of any form, a large one in steps. The generator returns the message."""
        size, heavy = len(frame), None
        if size < STEPWISE:
            if size in SCANNED:
                scan(frame)
            message = decode(frame, self._borrow)
        else:
            decoder = StepwiseDecoder(frame, self._borrow)
            yield from decoder.steps()
            message, heavy = shaped(decoder.value), size + decoder.weight
        if self._borrowing:
            size += self._borrowing
            self.copied += self._borrowing
            self._borrowing = 0
            self.borrowed.give_back()
        if type(message) is Response:
            message.frame = bytes(frame) if size <= _KEPT else None
        elif type(message) is Request:
            if heavy is None:
                heavy = size if size < _WEIGHED else max(size, weight(message.params))
            self._accept(message.id, heavy)
        return message

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """Do as `received` for bytes in memory, of any length. Return the messages."""
        messages: list[Message] = []
        view = memoryview(data)
        while view:
            room = self.frames.buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            messages.extend(message for message in self.received(count) if message is not None)
            view = view[count:]
        return messages

    def _accept(self, request_id: int, heavy: int) -> None:
        to_answer = self._to_answer
        if request_id in to_answer:
            raise RemoteProtocolError(f"request id {request_id} is used twice")
        if len(to_answer) >= self.max_requests:
            raise RemoteProtocolError(f"{len(to_answer)} requests are unanswered; the cap is {self.max_requests}")
        to_answer[request_id] = heavy
        self._weight += heavy

    def _answered(self, request_id: int, data: bytes) -> bytes:
        """Note that a request of the peer is answered by this frame."""
        try:
            self._weight -= self._to_answer.pop(request_id)
        except KeyError:
            raise LocalProtocolError(f"request {request_id} is not open: answered already, or never asked") from None
        return data

    def _borrow(self, code: int, data: bytes) -> Any:
        """Return what a msgpack extension type stands for: lent bytes, if it is our type."""
        if code != LENT_BYTES:
            return msgpack.ExtType(code, data)
        if len(data) != _PLACE.size:
            raise RemoteProtocolError(f"a place in shared memory of {len(data)} bytes; expected {_PLACE.size}")
        at, length = _PLACE.unpack(data)
        if self._borrowing + length > self.max_frame:
            raise RemoteProtocolError(f"a message with {self._borrowing + length} bytes; the cap is {self.max_frame}")
        value = self.borrowed.read(at, length)
        self._borrowing += length
        return value

    def _frame(self, message: list[Any], has_large: bool = False) -> bytes:
        if self._broken is not None:
            raise self._useless()
        if has_large and self.lent is not None:
            parts: list[bytes] = []
            rest = [*message[:-1], _split_off(message[-1], parts, BEGIN)[0]]
            if 0 < sum(map(len, parts)) <= self.max_frame - 2 * _REST:
                with suppress(Unserializable):  # raised again below, naming the place in the data
                    body = pack(rest)
                    if len(body) <= _REST and self.lent.lend(parts):
                        return _HEADER.pack(len(body)) + body
        try:
            body = pack(message)
        except Unserializable:
            pack(message[-1])  # names the place in the params or the result, not in the frame
            raise
        if len(body) >= self._size_to_check:
            self._check_size(len(body), lambda: weight(message[-1]))
        return _header(len(body)) + body

    def _check_size(self, size: int, weigh: Callable[[], int]) -> None:
        """Raise `FrameTooLarge` for a message that the peer would refuse, ending the connection."""
        if size > self.max_frame:
            raise FrameTooLarge(f"message of {size} bytes; the cap is {self.max_frame}")
        if size >= LARGE and (heavy := weigh()) > MAX_UNPACKED:
            raise FrameTooLarge(
                f"message of {size} bytes, whose values take up {heavy} bytes of memory; the cap is {MAX_UNPACKED}"
            )

    def _busy(self) -> PipeBusy:
        return PipeBusy(f"{len(self._asked)} requests are unanswered; the cap is {self.max_requests}")

    def _useless(self) -> LocalProtocolError:
        return LocalProtocolError(f"the peer broke the protocol, nothing can be sent to it: {self._broken}")


def _split_off(value: Any, parts: list[bytes], at: int) -> tuple[Any, int]:
    """Move the large bytes of plain data to ``parts``, to be lent from ``at`` on.

    Returns:
        the data with a place for each of them, and where the next ones are to begin.
    """
    if type(value) is not dict:
        return value, at
    rest = {}
    for key, item in value.items():
        if type(item) is dict:
            rest[key], at = _split_off(item, parts, at)
        elif type(item) is bytes and len(item) >= LARGE_BYTES:
            parts.append(item)
            rest[key] = msgpack.ExtType(LENT_BYTES, _PLACE.pack(at, len(item)))
            at += len(item)
        else:
            rest[key] = item
    return rest, at
