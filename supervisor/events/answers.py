"""Remembers answers, so that a retry of an event gets the first answer and is not handled twice."""

from __future__ import annotations

import asyncio
from collections import deque

from ...ipc.errors import Code, Unserializable
from ...ipc.event import EventResponse, copy_data
from ...ipc.messages import pack, unpack
from ...ipc.shared_memory import has_large

Key = tuple[str | None, str]

Memory = bool | bytes
"""What to remember of an answer: nothing (False), the answer (True), or the frame of the pipe that
it came in."""

_OVERHEAD = 256  # bytes that an entry takes beside the answer itself
_ROOM = 256  # of this many answers one is forgotten early: to forget one for each event costs more


class Answers:
    """Responses by (source, event_id), bounded in number and bytes. The oldest are evicted first.

    Responses are kept packed, except those with large bytes. As objects, tens of thousands of them
    made each full pass of Python's garbage collector a pause of 60 ms and more for the whole
    network.

    Args:
        max_entries: how many answers to remember at most. Both limits are worth seconds of a
            network under full load, and minutes of a busy one; retries come within seconds.
        max_bytes: how many bytes they may take together.
    """

    def __init__(self, max_entries: int = 50_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        # A key has its remembered answer or, while its event is in flight, a future that duplicates
        # wait for (the key itself until there is a duplicate: most events are never repeated).
        self._entries: dict[Key, bytes | _Large | asyncio.Future[EventResponse | None] | Key] = {}
        self._answered: deque[Key] = deque()  # in the order of their answers, the oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answered)

    async def repeated(self, key: Key, deadline: float) -> EventResponse | None:
        """Return a copy of the answer to the event with this key.

        Waits for it if the event is in flight.

        None: there is no answer, and the event must be handled after all.

        Args:
            deadline: loop time until which to wait. Past it the answer is a failure ``timeout``.
        """
        while True:
            if key not in self._entries:
                return None
            entry = self._entries[key]
            if isinstance(entry, bytes):
                return _unpacked(entry)
            if isinstance(entry, _Large):
                return _copy(entry.response)
            if isinstance(entry, tuple):
                entry = self._entries[key] = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout_at(deadline):
                    response = await asyncio.shield(entry)
            except TimeoutError:
                text = "timed out waiting for the answer to the first event with this id"
                return EventResponse.failure(Code.TIMEOUT, text)
            if response is not None:
                return _copy(response)
            # The first sender gave up: the next one to ask is the first.

    def begins(self, key: Key) -> bool:
        """Note that an event with this key, a tuple of its own, is in flight.

        Returns False if the key is known already: see `repeated`.
        """
        return self._entries.setdefault(key, key) is key

    def finish(self, key: Key, response: EventResponse | None, *, remember: Memory = False) -> None:
        """Note the answer to an event. ``response``: None if its sender gave up."""
        entries = self._entries
        answer = remember if type(remember) is bytes else self._fitting(response) if remember else None
        if (entry := entries.get(key)) is not key and entry is not None:
            if isinstance(entry, (bytes, _Large)):  # the event was answered before
                return self._replace(key, entry, answer)
            if isinstance(entry, asyncio.Future) and not entry.done():
                entry.set_result(response)
        if answer is None:
            entries.pop(key, None)
            return None
        entries[key] = answer
        self._answered.append(key)
        self._bytes = size = self._bytes + len(answer) + _OVERHEAD
        if size > self._max_bytes or len(self._answered) > self._max_entries:
            self._evict()
        return None

    def _fitting(self, response: EventResponse | None) -> bytes | _Large | None:
        """Return a response as it is stored. None: it is too large to be remembered."""
        answer = _stored(response)
        return None if answer is None or len(answer) + _OVERHEAD > self._max_bytes else answer

    def _replace(self, key: Key, former: bytes | _Large, answer: bytes | _Large | None) -> None:
        if answer is not None:
            self._entries[key] = answer
            self._bytes += len(answer) - len(former)
            if self._bytes > self._max_bytes:
                self._evict()

    def _evict(self) -> None:
        """Forget the oldest answers, until the others fit with a little room for the next ones."""
        entries, answered, size = self._entries, self._answered, self._bytes
        most, most_bytes = (limit - limit // _ROOM for limit in (self._max_entries, self._max_bytes))
        while size > most_bytes or len(answered) > most:
            oldest = entries.pop(answered.popleft())
            assert isinstance(oldest, (bytes, _Large))
            size -= len(oldest) + _OVERHEAD
        self._bytes = size


class _Large:
    """An answer with large bytes. There are few of them, and packing would copy the bytes."""

    __slots__ = ("_size", "response")

    def __init__(self, response: EventResponse) -> None:
        rest = {key: value for key, value in response.data.items() if type(value) is not bytes}
        self._size = len(pack(rest)) + sum(len(value) for value in response.data.values() if type(value) is bytes)
        self.response = _copy(response)

    def __len__(self) -> int:
        return self._size


def _stored(response: EventResponse | None) -> bytes | _Large | None:
    """Return a response as it is stored.

    None if it cannot be packed: no mod and no delivery gives such a response.
    """
    if response is None:
        return None
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
    return EventResponse.from_dict(values[3]["response"])  # a frame of the pipe


def _copy(response: EventResponse) -> EventResponse:
    return EventResponse(response.success, response.message, copy_data(response.data), response.event_name)
