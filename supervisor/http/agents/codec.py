"""Events and the messages of a WebSocket as bytes and back, in JSON or msgpack. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ....ipc.event import Event
from ....ipc.messages import pack
from ..content.as_json import from_json, to_json
from ..content.as_msgpack import from_msgpack, list_header, to_msgpack
from ..content.json_bounds import JsonBounds, is_within
from .openagents import event_to

PACKED, TEXTUAL = "modvisor.msgpack.v1", "modvisor.json.v1"
"""The subprotocols: maps in msgpack as binary messages, or in JSON as text messages."""


class Codec(Protocol):
    """One of the two forms of a message.

    Attributes:
        name: of its subprotocol.
        is_text: whether its messages are text messages.
    """

    name: str
    is_text: bool

    def encode(self, value: Any) -> bytes:
        """Return plain data as bytes; raises `Unserializable`."""
        ...

    def decode(self, data: bytes | bytearray, most: int) -> dict[str, Any]:
        """Return the map in a message that holds at most so many values; raises `BadBody` or `TooLarge`."""
        ...

    def events(self, items: Sequence[bytes]) -> bytes:
        """Return the message with these items, which `item` made."""
        ...

    def item(self, cursor: str, key: str, encoded: bytes) -> bytes:
        """Return a map with a cursor, and a value that is encoded already."""
        ...


class Json:
    name, is_text = TEXTUAL, True

    def encode(self, value: Any) -> bytes:
        return to_json(value)

    def decode(self, data: bytes | bytearray, most: int) -> dict[str, Any]:
        if not is_within(data, most):
            JsonBounds(most).feed(data)
        return from_json(data, is_shallow=True)

    def item(self, cursor: str, key: str, encoded: bytes) -> bytes:
        return b'{"cursor":"%b","%b":%b}' % (cursor.encode(), key.encode(), encoded)

    def events(self, items: Sequence[bytes]) -> bytes:
        return b'{"type":"events","events":[%b]}' % b",".join(items)


class Msgpack:
    name, is_text = PACKED, False
    _ITEM = b"\x82" + pack("cursor")  # a map of two keys
    _EVENTS = b"\x82" + pack("type") + pack("events") + pack("events")

    def encode(self, value: Any) -> bytes:
        return to_msgpack(value)

    def decode(self, data: bytes | bytearray, most: int) -> dict[str, Any]:
        return from_msgpack(data, most)

    def item(self, cursor: str, key: str, encoded: bytes) -> bytes:
        return b"".join((self._ITEM, pack(cursor), pack(key), encoded))

    def events(self, items: Sequence[bytes]) -> bytes:
        return b"".join((self._EVENTS, list_header(len(items)), *items))


JSON, MSGPACK = Json(), Msgpack()
CODECS: dict[str, Codec] = {codec.name: codec for codec in (MSGPACK, JSON)}


class Encodings:
    """Events as bytes, so that one that many agents get is encoded once.

    It holds the newest, at most `_MOST` of them and `_MOST_BYTES`.
    """

    _MOST, _MOST_BYTES = 256, 4 * 1024 * 1024

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], tuple[Event, bytes]] = {}
        self._size = 0

    def of(self, event: Event, codec: Codec) -> bytes:
        """Return the event as agents get it.

        Raises:
            ModvisorError, ValueError, OverflowError: it cannot be written.
        """
        key = id(event), codec.name
        if (held := self._held.get(key)) is not None:
            return held[1]
        encoded = codec.encode(event_to(event))
        self._held[key] = event, encoded
        self._size += len(encoded)
        while self._held and (len(self._held) > self._MOST or self._size > self._MOST_BYTES):
            self._size -= len(self._held.pop(next(iter(self._held)))[1])
        return encoded
