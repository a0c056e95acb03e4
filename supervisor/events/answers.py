"""Answers already given, so that a retry of an event gets the first answer and is not handled twice."""

from __future__ import annotations

import asyncio
from collections import deque

from ...ipc.errors import Code, Unserializable
from ...ipc.event import EventResponse, copy_data
from ...ipc.messages import pack, unpack
from ...ipc.shared_memory import has_large

Key = tuple[str | None, str]

Memory = bool | bytes
"""What is to be remembered of an answer: nothing, the answer, or the frame of the pipe that it came in."""

_BESIDES = 256  # bytes that an answer takes beside its own: the key and its place


class Answers:
    """Responses by (source, event_id), bounded in number and bytes; the oldest are forgotten first.

    They are kept packed, but for large bytes: as objects, tens of thousands of them made each full pass of Python's garbage
    collector a pause of 60 ms and more for every mod and agent of the network.

    Args:
        max_entries, max_bytes: seconds of a network under full load, minutes of a busy one; retries come within seconds.
    """

    def __init__(self, max_entries: int = 50_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        # Answers, and what is in flight: with what those who joined it wait for, or None while nobody has.
        self._entries: dict[Key, bytes | _Large | asyncio.Future[EventResponse | None] | None] = {}
        self._answered: deque[Key] = deque()  # the oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answered)

    async def repeated(self, key: Key, deadline: float) -> EventResponse | None:
        """The answer of the event with this key, waiting for it if it is in flight; None if it is to be handled after all.

        Args:
            deadline: loop time until which to wait; past it the answer is a failure ``timeout``.
        """
        while True:
            if key not in self._entries:
                return None
            entry = self._entries[key]
            if isinstance(entry, bytes):
                return _unpacked(entry)
            if isinstance(entry, _Large):
                return _copy(entry.response)
            if entry is None:  # made only when somebody really waits: most events are never repeated
                entry = self._entries[key] = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout_at(deadline):
                    response = await asyncio.shield(entry)
            except TimeoutError:
                text = "the first event of this id has no answer yet"
                return EventResponse.failure(Code.TIMEOUT, text)
            if response is not None:
                return _copy(response)
            # Its first sender gave up: whoever asks next is the first.

    def begins(self, key: Key) -> bool:
        """Note that the event with this key is in flight from now on; False if it is no new one: see `repeated`."""
        if key in self._entries:
            return False
        self._entries[key] = None
        return True

    def finish(self, key: Key, response: EventResponse | None, *, remember: Memory = False) -> None:
        """It was answered (None: its sender gave up)."""
        answer = remember if type(remember) is bytes else None
        if answer is None and remember and response is not None:
            answer = _kept(response)
        size = 0 if answer is None else len(answer) + _BESIDES
        if size > self._max_bytes:
            answer = None
        entry = self._entries.get(key)
        if isinstance(entry, (bytes, _Large)):  # it was answered before
            if answer is None:
                return
            self._bytes -= len(entry) + _BESIDES
        else:
            if entry is not None and not entry.done():
                entry.set_result(response)
            if answer is None:
                self._entries.pop(key, None)
                return
            self._answered.append(key)
        self._entries[key] = answer
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._answered) > self._max_entries:
            self._forget()

    def _forget(self) -> None:
        oldest = self._entries.pop(self._answered.popleft())
        assert isinstance(oldest, (bytes, _Large))
        self._bytes -= len(oldest) + _BESIDES


class _Large:
    """An answer with large bytes: they are few, and packing would copy them."""

    __slots__ = ("_size", "response")

    def __init__(self, response: EventResponse) -> None:
        rest = {key: value for key, value in response.data.items() if type(value) is not bytes}
        self._size = len(pack(rest)) + sum(len(value) for value in response.data.values() if type(value) is bytes)
        self.response = _copy(response)

    def __len__(self) -> int:
        return self._size


def _kept(response: EventResponse) -> bytes | _Large | None:
    """How a response is kept; None if it cannot be: no mod, and no delivery, says such a thing."""
    try:
        if has_large(response.data):
            return _Large(response)
        return pack((response.success, response.message, response.data, response.event_name))
    except Unserializable:
        return None


def _unpacked(answer: bytes) -> EventResponse:
    values = unpack(answer)
    if type(values[0]) is bool:
        return EventResponse(*values)
    return EventResponse.from_dict(values[3]["response"])  # it is a frame


def _copy(response: EventResponse) -> EventResponse:
    return EventResponse(response.success, response.message, copy_data(response.data), response.event_name)
