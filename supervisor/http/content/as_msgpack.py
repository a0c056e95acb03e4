"""Plain data to msgpack and back, for agents that speak it. Pure.

Unlike JSON, it carries bytes, NaN and times as they are. What comes from agents holds text as keys at
the top, and no extension types but times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....ipc.errors import InvalidEvent, RemoteProtocolError
from ....ipc.event import MAX_DEPTH, check_depth
from ....ipc.messages import pack, unpack
from .as_json import BadBody
from .bodies import TooLarge

MEDIA_TYPE = "application/msgpack"


class Packed(bytes):
    """The body of an answer in msgpack. Any other is JSON."""


def media_type_of(headers: Mapping[str, str]) -> str:
    """Return as what the body of a request is declared; empty if it is not."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_packed(headers: Mapping[str, str]) -> bool:
    """Return whether the body of a request is declared as msgpack."""
    return media_type_of(headers) == MEDIA_TYPE


def wants_packed(headers: Mapping[str, str]) -> bool:
    """Return whether the answer should be msgpack. One that names no form gets JSON."""
    accepted = headers.get("accept", "")
    return MEDIA_TYPE in accepted and MEDIA_TYPE in (each.partition(";")[0].strip() for each in accepted.split(","))


def to_msgpack(value: Any) -> Packed:
    """Return `value` as msgpack; raises `Unserializable`, which names the first place that cannot be written."""
    return Packed(pack(value))


def list_header(count: int) -> bytes:
    """Return how a list of so many items begins in msgpack."""
    return b"\xdd" + count.to_bytes(4, "big")


def from_msgpack(body: bytes | bytearray, most: int) -> dict[str, Any]:
    """Return the map in a body; raises `BadBody` or `TooLarge`.

    Args:
        most: how many values it may hold: items of lists, and keys with their values.
    """
    try:
        data = unpack(body, _no_extension)
    except RemoteProtocolError as error:
        raise BadBody(f"the body is not msgpack: {error}") from None
    if type(data) is not dict or not all(type(key) is str for key in data):
        raise BadBody("the body must be a msgpack map whose keys are text")
    try:
        check_depth("the body", data)
    except InvalidEvent:
        raise BadBody(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    if len(body) > most and _values_in(data) > most:  # each takes a byte
        raise TooLarge(f"the body holds more than {most} values ('http.json_values')", limit=most)
    return data


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is unknown; send times as timestamps (type -1)")


def _values_in(data: dict[str, Any]) -> int:
    count, level = 0, [data]
    while level:
        inner: list[Any] = []
        for container in level:
            count += len(container)
            items = container.values() if type(container) is dict else container
            inner.extend(item for item in items if type(item) is dict or type(item) is list)
        level = inner
    return count
