"""The protocol without I/O: bytes in, messages out; messages in, bytes out.

A frame is a big-endian 32-bit length and that many bytes of msgpack (see `modvisor.ipc.messages`). The length comes first
so that an oversized frame is refused before a byte of it is stored, a large one is read straight into a buffer of its
size, and a message that fails to decode is known by its borders.

A `Connection` never blocks, sleeps or touches a socket: `Channel` does, and tests connect two ends in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgpack

from .errors import ChannelBusy, FrameTooLarge, LocalProtocolError, RemoteProtocolError, Unserializable
from .messages import (
    LAID,
    LARGE,
    MAX_UNPACKED,
    NOTIFICATION,
    REQUEST,
    RESPONSE,
    Message,
    Request,
    Response,
    decode,
    pack,
    unpack,
    weight,
)
from .shared_memory import BEGIN, LARGE_BYTES, Borrowed, Lent

MAX_FRAME = 64 * 1024 * 1024
"""Default cap on one message: room for a 16 MiB payload with overhead, small beside a worker's memory limit."""

MAX_REQUESTS = 10_000
"""Default cap on requests without an answer, each way: a peer that never answers must not fill our memory."""

_READ = 256 * 1024  # what one read takes at most while no larger frame is expected
_FIRST = 16 * 1024  # what the first reads take: many pipes never need more
_ROOM = 4096  # what `buffer` offers at least
_KEPT = 16 * 1024  # bytes of an answer that may be remembered as it came
_SCANNED = range(1024, 64 * 1024)  # bytes of the frames that are looked through before they are decoded
_WEIGHED = 512  # bytes of a request from which on its values are weighed; what a smaller one holds is small as well
_HEADER = struct.Struct(">I")
_PLACE = struct.Struct(">QQ")  # where in shared memory, how many bytes
_LIFTED = 64 * 1024  # bytes that may be left of a message without its large bytes
_ABANDONED = object()  # in the place of a waiter that does not wait any more

# What stands before an event in the frame of its request, [0, id, "event", {"event": …}], the length included.
_EVENT_HEAD = struct.Struct(">I3sQ13s")
_EVENT_START, _EVENT_REST = b"\x94\x00\xcf", b"\xa5event\x81\xa5event"


class FrameDecoder:
    """Cuts a stream of bytes into frames, copying each byte at most a constant number of times.

    Fill the view that `buffer` returns, tell `advance` how much was filled, take the frames: all of them before the next
    `buffer`. It holds at most `capacity` bytes, and grows with what arrived, never with a length that was only announced.
    """

    __slots__ = ("_buffer", "_end", "_max_frame", "_start", "_was_full")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray(_FIRST)
        self._start = 0  # first byte not yet taken
        self._end = 0  # first byte not yet filled
        self._was_full = False  # the last read filled it: there is more to be read at once

    @property
    def pending(self) -> int:
        """Bytes received that are not yet a whole frame."""
        return self._end - self._start

    @property
    def capacity(self) -> int:
        """Bytes of memory it takes up: never more than one frame of the largest size and a little."""
        return len(self._buffer)

    def buffer(self) -> memoryview:
        """Where to put the next bytes; never empty."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > _READ:  # a large frame has passed: give its memory back
                self._buffer = bytearray(_READ)
            elif self._was_full and len(self._buffer) < _READ:
                self._buffer = bytearray(4 * len(self._buffer))
        elif len(self._buffer) - self._end < _ROOM:
            self._make_room()
        return memoryview(self._buffer)[self._end :]

    def _make_room(self) -> None:
        held = self._end - self._start
        wanted = _READ
        if held >= 4:
            wanted = max(_READ, 4 + _HEADER.unpack_from(self._buffer, self._start)[0])
        # Grow with what really arrived, so that a length alone cannot make us allocate; doubling keeps the copies linear.
        size = min(wanted, max(2 * held, _READ))
        fresh = bytearray(max(size, held + _ROOM))
        fresh[:held] = memoryview(self._buffer)[self._start : self._end]
        self._buffer, self._start, self._end = fresh, 0, held

    def advance(self, count: int) -> Iterator[memoryview]:
        """Take ``count`` bytes just written to `buffer`; yield every whole frame, valid until the next one is asked for.

        Raises:
            RemoteProtocolError: a frame longer than the cap is announced.
        """
        self._end += count
        self._was_full = self._end == len(self._buffer)
        view = memoryview(self._buffer)
        while self._end - self._start >= 4:
            (length,) = _HEADER.unpack_from(view, self._start)
            if length > self._max_frame:
                raise RemoteProtocolError(f"frame of {length} bytes announced; the cap is {self._max_frame}")
            begin = self._start + 4
            if self._end - begin < length:
                return
            self._start = begin + length
            yield view[begin : self._start]


class Connection:
    """One end of the pipe: numbers requests, keeps count of what is unanswered, checks what the peer sends.

    When the peer has broken the rules nothing passes any more, in either direction: what it says further is refused with the
    same reason, and to send to it is our own mistake.

    Args:
        max_frame: bytes of one message, in either direction.
        max_requests: requests waiting for an answer, in either direction.
    """

    def __init__(self, *, max_frame: int = MAX_FRAME, max_requests: int = MAX_REQUESTS) -> None:
        self.max_frame = max_frame
        self.max_requests = max_requests
        self.frames = FrameDecoder(max_frame)
        self._next_id = 0
        self._asked: dict[int, Any] = {}  # our requests without an answer, and who waits for it
        self._to_answer: dict[int, int] = {}  # the peer's requests that we owe an answer, and what each weighs
        self._weight = 0  # of these together
        self._broken: RemoteProtocolError | None = None
        self.borrowed = Borrowed()
        self.lent: Lent | None = None  # where large bytes are laid down, if the peer takes them from there
        self._taken = 0  # bytes of the message being decoded that the peer had laid down
        self.taken = 0  # of all messages so far; for the caller to set back
        self._scanner = msgpack.Unpacker(read_size=1024)

    @property
    def in_flight(self) -> int:
        """Our requests that the peer has not answered yet, abandoned ones included."""
        return len(self._asked)

    @property
    def owed(self) -> int:
        """Requests of the peer that we have not answered yet."""
        return len(self._to_answer)

    @property
    def owed_weight(self) -> int:
        """About the bytes of memory that these take up together."""
        return self._weight

    # -- messages in, bytes out

    def request(self, method: str, params: Any, waiter: Any = None, *, has_large: bool = False) -> tuple[int, bytes]:
        """Frame a request; returns its id and the bytes.

        Args:
            waiter: who waits for the answer: it comes back as the `Response.waiter`.
            has_large: there are large bytes in ``params``, see `ipc.shared_memory`.

        Raises:
            ChannelBusy: `max_requests` are unanswered.
            FrameTooLarge, Unserializable: nothing was counted or sent.
        """
        if len(self._asked) >= self.max_requests:
            raise self._busy()
        request_id = self._next_id
        data = self._frame([REQUEST, request_id, method, params], has_large)
        self._next_id += 1
        self._asked[request_id] = waiter
        return request_id, data

    def event(self, packed: bytes, waiter: Any = None) -> tuple[int, bytes]:
        """`request` of the method `EVENT`, whose event is packed already: for one target or for several."""
        if len(self._asked) >= self.max_requests:
            raise self._busy()
        if self._broken is not None:
            raise self._useless()
        size = _EVENT_HEAD.size - _HEADER.size + len(packed)
        if size > self.max_frame or size >= LARGE:
            self._check_size(size, lambda: unpack(packed))
        request_id = self._next_id
        self._next_id += 1
        self._asked[request_id] = waiter
        return request_id, _EVENT_HEAD.pack(size, _EVENT_START, request_id, _EVENT_REST) + packed

    def respond(self, request_id: int, result: Any, *, has_large: bool = False) -> bytes:
        """Frame the answer to a request of the peer."""
        return self._answer(request_id, [RESPONSE, request_id, None, result], has_large)

    def refuse(self, request_id: int, code: str, message: str, details: dict[str, Any] | None = None) -> bytes:
        """Frame an error as the answer to a request of the peer."""
        error = {"code": str(code), "message": message, "details": details or {}}
        return self._answer(request_id, [RESPONSE, request_id, error, None])

    def notify(self, method: str, params: Any) -> bytes:
        """Frame a notification."""
        return self._frame([NOTIFICATION, method, params])

    def abandon(self, request_id: int) -> bool:
        """Nobody waits for this answer any more; it is dropped when it comes. True if it was still due."""
        if request_id in self._asked:
            self._asked[request_id] = _ABANDONED
            return True
        return False

    def waiting(self) -> list[Any]:
        """Who waits for an answer, in the order of their requests."""
        return [waiter for waiter in self._asked.values() if waiter is not _ABANDONED]

    # -- bytes in, messages out

    def received(self, count: int) -> Iterator[Message]:
        """The messages completed by ``count`` bytes just put into ``frames.buffer()``, checked against the rules.

        Raises:
            RemoteProtocolError: the connection is of no further use.
        """
        if self._broken is not None:
            raise RemoteProtocolError(f"the connection is of no further use: {self._broken}")
        try:
            for frame in self.frames.advance(count):
                size = len(frame)
                if size in _SCANNED:
                    self._scan(frame)
                message = decode(frame, self._take_laid)
                if self._taken:
                    size += self._taken
                    self.taken += self._taken
                    self._taken = 0
                    self.borrowed.clear()
                if type(message) is Response:
                    waiter = self._asked.pop(message.id, self)
                    if waiter is self:
                        raise RemoteProtocolError(f"answer to request {message.id}, which is not open")
                    if waiter is _ABANDONED:
                        continue
                    message.waiter, message.size = waiter, size
                    if size <= _KEPT:
                        message.frame = bytes(frame)
                elif type(message) is Request:
                    self._accept(message, size)
                yield message
        except RemoteProtocolError as error:
            self._broken = error
            raise

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """`received` for bytes that are at hand already; of any length."""
        messages: list[Message] = []
        view = memoryview(data)
        while view:
            room = self.frames.buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            messages.extend(self.received(count))
            view = view[count:]
        return messages

    def _scan(self, frame: memoryview) -> None:
        """See that a frame is one whole value before any of it is built.

        A list may announce as many items as its frame has bytes, and a thousand of them within each other bring none: 12 MB
        of memory for 4 kB of frame. In a larger frame so long a list is memory that nobody touches, which costs nothing; a
        smaller one, and it is the last of its peer, costs less than looking through all of them.
        """
        try:
            self._scanner.feed(frame)
            self._scanner.skip()
        except (ValueError, msgpack.UnpackException) as error:
            raise RemoteProtocolError(
                f"frame of {len(frame)} bytes is not a msgpack value: {error or type(error).__name__}"
            ) from None

    def _accept(self, request: Request, size: int) -> None:
        if request.id in self._to_answer:
            raise RemoteProtocolError(f"request id {request.id} is used twice")
        if len(self._to_answer) >= self.max_requests:
            raise RemoteProtocolError(
                f"{len(self._to_answer)} requests await our answer; the cap is {self.max_requests}"
            )
        heavy = size if size < _WEIGHED else max(size, weight(request.params))
        self._to_answer[request.id] = heavy
        self._weight += heavy

    def _answer(self, request_id: int, message: list[Any], has_large: bool = False) -> bytes:
        if request_id not in self._to_answer:
            raise LocalProtocolError(f"request {request_id} is not open: answered already, or never asked")
        data = self._frame(message, has_large)
        self._weight -= self._to_answer.pop(request_id)
        return data

    def _take_laid(self, code: int, data: bytes) -> Any:
        """What an extension type of a message stands for: bytes that the peer has laid down, if it is ours."""
        if code != LAID:
            return msgpack.ExtType(code, data)
        if len(data) != _PLACE.size:
            raise RemoteProtocolError(f"a place in shared memory of {len(data)} bytes; expected {_PLACE.size}")
        at, length = _PLACE.unpack(data)
        if self._taken + length > self.max_frame:
            raise RemoteProtocolError(f"a message with {self._taken + length} bytes; the cap is {self.max_frame}")
        value = self.borrowed.take(at, length)
        self._taken += length
        return value

    def _frame(self, message: list[Any], has_large: bool = False) -> bytes:
        if self._broken is not None:
            raise self._useless()
        if has_large and self.lent is not None:
            parts: list[bytes] = []
            lifted = [*message[:-1], _lift(message[-1], parts, BEGIN)[0]]
            if 0 < sum(map(len, parts)) <= self.max_frame - 2 * _LIFTED:
                with suppress(Unserializable):  # said below, with its place
                    body = pack(lifted)
                    if len(body) <= _LIFTED and self.lent.lend(parts):
                        return _HEADER.pack(len(body)) + body
        try:
            body = pack(message)
        except Unserializable:
            pack(message[-1])  # says the place within the params or the result, not within the frame
            raise
        if len(body) > self.max_frame or len(body) >= LARGE:
            self._check_size(len(body), lambda: message[-1])
        return _HEADER.pack(len(body)) + body

    def _check_size(self, size: int, value: Callable[[], Any]) -> None:
        """Raise `FrameTooLarge` for a message that the peer would refuse, and us with it."""
        if size > self.max_frame:
            raise FrameTooLarge(f"message of {size} bytes; the cap is {self.max_frame}")
        if size >= LARGE and (heavy := weight(value())) > MAX_UNPACKED:
            raise FrameTooLarge(
                f"message of {size} bytes, whose values take up {heavy} bytes of memory; the cap is {MAX_UNPACKED}"
            )

    def _busy(self) -> ChannelBusy:
        return ChannelBusy(f"{len(self._asked)} requests are unanswered; the cap is {self.max_requests}")

    def _useless(self) -> LocalProtocolError:
        return LocalProtocolError(f"the peer broke the protocol, nothing can be sent to it: {self._broken}")


def _lift(value: Any, parts: list[bytes], at: int) -> tuple[Any, int]:
    """Plain data with places in the stead of its large bytes, which go to ``parts``; and where the next one lies."""
    kind = type(value)
    if kind is bytes and len(value) >= LARGE_BYTES:
        parts.append(value)
        return msgpack.ExtType(LAID, _PLACE.pack(at, len(value))), at + len(value)
    if kind is dict:
        lifted = {}
        for key, item in value.items():
            lifted[key], at = _lift(item, parts, at)
        return lifted, at
    return value, at
