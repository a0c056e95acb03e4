"""The messages of the WebSocket: bytes in, a map out, and back. Pure.

Every message is one map with a `type`, in msgpack (subprotocol `modvisor.msgpack.v1`).
"""

from __future__ import annotations

from typing import Any

import msgpack

from .errors import BadUse, RemoteProtocolError

SUBPROTOCOL = "modvisor.msgpack.v1"

FRAGMENT = 256 * 1024
"""Bytes of a WebSocket frame. A longer message goes in several, so that pings pass between them."""

LARGE = 1_000_000
"""Bytes. What is longer is no message: it goes over HTTP, piece by piece."""

CANNOT_TRAVEL = "cannot be sent: {}; use None, bool, int, float, str, bytes, list, dict, aware datetime"

Frame = dict[str, Any]

_packer = msgpack.Packer(datetime=True, autoreset=True)


def pack(frame: Frame) -> bytes:
    """Return the bytes of a message.

    Raises:
        BadUse: it holds a value that msgpack cannot carry.
    """
    try:
        return _packer.pack(frame)
    except (TypeError, ValueError, OverflowError, BufferError) as error:
        raise BadUse(CANNOT_TRAVEL.format(error)) from error


def unpack(data: bytes) -> Frame:
    """Return the message in the bytes.

    Raises:
        RemoteProtocolError: they hold none.
    """
    try:
        frame = msgpack.unpackb(data, timestamp=3, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"a message of the network is no msgpack: {error}") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise RemoteProtocolError("a message of the network is no map with a type")
    return frame
