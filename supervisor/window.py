"""Answers already given, so that a retry of an event gets the first answer and is not handled twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from ..ipc.errors import Code, Unserializable
from ..ipc.event import EventResponse, copy_data
from ..ipc.messages import pack, unpack
from ..ipc.shelf import has_large

Key = tuple[str | None, str]

Memory = bool | bytes
"""What is to be remembered of an answer: nothing, the answer, or the frame of the pipe that it came in."""

_BESIDES = 256  # bytes that an answer takes beside its own: the key and its place


class AnswerWindow:
    """Responses by (source, event_id), bounded in number and bytes; the oldest are forgotten first.

    They are kept packed, but for large bytes: as objects, tens of thousands of them made each full pass of Python's garbage
    collector a pause of 60 ms and more for every mod and agent of the network.

    Args:
        max_entries, max_bytes: seconds of a network under full load, minutes of a busy one; retries come within seconds.
    """

    def __init__(self, max_entries: int = 50_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Key, bytes | _Large] = OrderedDict()
        self._bytes = 0
        self._open: dict[Key, asyncio.Future[EventResponse | None] | None] = {}

    def __len__(self) -> int:
        return len(self._answers)

    async def repeated(self, key: Key, deadline: float) -> EventResponse | None:
        """The answer of the event with this key, waiting for it if it is in flight; None if it is to be handled after all.

        Args:
            deadline: loop time until which to wait; past it the answer is a failure ``timeout``.
        """
        while True:
            remembered = self._answers.get(key)
            if remembered is not None:
                return _copy(remembered.response) if isinstance(remembered, _Large) else _unpacked(remembered)
            if key not in self._open:
                return None
            future = self._open[key]
            if future is None:  # made only when somebody really waits: most events are never repeated
                future = self._open[key] = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout_at(deadline):
                    response = await asyncio.shield(future)
            except TimeoutError:
                text = "the first event of this id has no answer yet"
                return EventResponse.failure(Code.TIMEOUT, text)
            if response is not None:
                return _copy(response)
            # Its first sender gave up: whoever asks next is the first.

    def begins(self, key: Key) -> bool:
        """Note that the event with this key is in flight from now on; False if it is no new one: see `repeated`."""
        if key in self._open or key in self._answers:
            return False
        self._open[key] = None
        return True

    def finish(self, key: Key, response: EventResponse | None, *, remember: Memory = False) -> None:
        """It was answered (None: its sender gave up)."""
        future = self._open.pop(key, None)
        if future is not None and not future.done():
            future.set_result(response)
        if response is not None and remember:
            self._remember(key, response, remember)

    def _remember(self, key: Key, response: EventResponse, remember: Memory) -> None:
        if type(remember) is bytes:
            answer = remember
        else:
            try:
                answer = _Large(response) if has_large(response.data) else _packed(response)
            except Unserializable:  # no mod, and no delivery, says such a thing
                return
        if _weight(answer) > self._max_bytes:
            return
        if (former := self._answers.pop(key, None)) is not None:
            self._bytes -= _weight(former)
        self._answers[key] = answer
        self._bytes += _weight(answer)
        while len(self._answers) > self._max_entries or self._bytes > self._max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= _weight(oldest)


class _Large:
    """An answer with large bytes: they are few, and packing would copy them."""

    __slots__ = ("_size", "response")

    def __init__(self, response: EventResponse) -> None:
        rest = {key: value for key, value in response.data.items() if type(value) is not bytes}
        self._size = len(pack(rest)) + sum(len(value) for value in response.data.values() if type(value) is bytes)
        self.response = _copy(response)

    def __len__(self) -> int:
        return self._size


def _packed(response: EventResponse) -> bytes:
    return pack((response.success, response.message, response.data, response.event_name))


def _unpacked(answer: bytes) -> EventResponse:
    values = unpack(answer)
    if type(values[0]) is bool:
        return EventResponse(*values)
    return EventResponse.from_dict(values[3]["response"])  # it is a frame


def _weight(answer: bytes | _Large) -> int:
    return len(answer) + _BESIDES


def _copy(response: EventResponse) -> EventResponse:
    return EventResponse(response.success, response.message, copy_data(response.data), response.event_name)
