"""The messages of the pipe: msgpack-rpc shapes, the methods of each side, the protocol's version.

    request       [0, id, method, params]
    response      [1, id, error, result]      error: null or {"code", "message", "details"}
    notification  [2, method, params]

``params`` is one map (or null). Ids are unsigned and count up per side. ``docs/protocol.md``
describes every method, for authors of workers in other languages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from .errors import RemoteProtocolError, Unserializable
from .record import Record, record

PROTOCOL = 1
"""To be raised by a change that a peer of the previous version would not understand."""

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2

LENT_BYTES = 1
"""The msgpack extension type that stands for bytes in shared memory, see `ipc.shared_memory`."""

# The supervisor asks a worker.
LOAD = "load"  # import, instantiate, configure, initialize -> manifest
ACTIVATE = "activate"  # open exclusive resources, start serving
DEACTIVATE = "deactivate"  # close them again; another `activate` may follow
EVENT = "event"  # {"event": …} -> None | {"response": …} | {"event": …}
OBSERVE = "observe"  # {"events": [event, …]}: copies for observers; answered when all are handled
NOTIFY = "notify"  # {"events": [event, …]}: for every matching handler, whose answers are dropped
PING = "ping"  # answered from the mod's own event loop
GET_STATE = "get_state"
SHOW_STATE = "show_state"  # -> what the mod's get_state() says to people and programs
SET_STATE = "set_state"  # {"state": …, "from_version": …}
PART = "part"  # {"states": […], "from_version": …, "count": n} -> n states, merged and split
SNAPSHOT = "snapshot"  # -> the sources the mod runs on, see worker.sources
SHUTDOWN = "shutdown"  # call the mod's shutdown(), then end the worker
DEPENDENCY = "dependency"  # notification {"mod_id", "what"}: news of a mod that it requires or uses
CHANGES = "changes"  # notification {"changes": [[kind, …], …]}: of what it holds a mirror of

# A worker tells or asks the supervisor.
HELLO = "hello"  # notification, the first frame of a worker
CONFINED = "confined"  # notification {"cell": {part: means}}, before any code of the mod runs; see `ipc.cell`
SEND_EVENT = "send_event"  # {"event": …, "cause": id of the request being handled} -> response
CHECKPOINT = "checkpoint"  # {"state": …, "version": text} -> null, once it is saved
FILES = "files"  # {"do": "put" | "get" | "list" | "drop", "name": …, "data": bytes} -> see `mods.context.ModFiles`
QUERY = "query"  # {"what": "agents" | "channels" | "members" | "groups", …}
CHANNEL = "channel"  # {"do": "join" | "leave" | "close", "channel": …, "agent_id": …} -> null
MIRROR = "mirror"  # -> null, after notifications of this name with all agents, groups and channels

# Either side.
CANCEL = "cancel"  # notification {"id": request id}: the response is no longer wanted


@record
class Request(Record):
    """A request.

    Attributes:
        params: a map or None; of an event that was read in one pass, a record (see `usual`).
    """

    id: int
    method: str
    params: Any


@record
class Response(Record):
    """A response.

    Attributes:
        result: a value; of an event's answer that was read in one pass, a record (see `usual`).
        frame: the frame itself, if it is small.
    """

    id: int
    error: dict[str, Any] | None
    result: Any
    frame: bytes | None = None


class Notification(NamedTuple):
    method: str
    params: Any


Message = Request | Response | Notification

# Bound here, because a mod may replace the functions of the module.
_packer = msgpack.Packer(datetime=True, autoreset=True)
_unpackb = msgpack.unpackb


def pack(value: Any) -> bytes:
    """Return ``value`` as msgpack bytes.

    Aware datetimes travel as msgpack timestamps (UTC), NaN and infinities as floats.

    Raises:
        Unserializable: names the first place in ``value`` that msgpack cannot carry.
    """
    try:
        return _packer.pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        _packer.reset()
        place, reason = _culprit(value, "", 0) or ("value", str(error))
        raise Unserializable(f"{place}: {reason}") from None
    except BaseException:  # out of memory, or a method of a subclass of dict or list raised
        _packer.reset()  # what it had packed would precede the next message
        raise


MAX_UNPACKED = 256 * 1024 * 1024
"""Cap on the memory for the containers of one frame, bytes by `container_weight`: four times the
largest frame. An empty list in a list is one byte on the wire and a hundred bytes in memory.
Without the cap, the largest frame could grow to 6 GB."""

LARGE = MAX_UNPACKED // 104
"""Bytes of a frame from which on it is weighed, since it can exceed `MAX_UNPACKED`: one byte of a
frame is at most 104 bytes of memory (a list in a list)."""


def container_weight(container: Any) -> int:
    """Return about how many bytes a list or dict takes up, numbers and short texts included."""
    return 64 + (120 if type(container) is dict else 40) * len(container)


def weight(value: Any) -> int:
    """Return about how many bytes plain data takes up: its containers, texts and bytes."""
    total, level = 0, [value]
    while level:
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str or kind is bytes:
                total += len(item)
            elif kind is dict or kind is list or kind is tuple:
                total += container_weight(item)
                items = item.values() if kind is dict else item
                # Skip a list of a million numbers at once.
                if not _WEIGHTY.isdisjoint(map(type, items)):
                    inner.extend(items)
        level = inner
    return total


_WEIGHTY = frozenset({dict, list, tuple, str, bytes})


class Scales:
    """Weighs each complete container of a frame. Raises ValueError above `MAX_UNPACKED`."""

    def __init__(self) -> None:
        self.weight = 0

    def hooks(self) -> dict[str, Any]:
        """Return the arguments by which msgpack asks us.

        A list is weighed when it is complete, so its length is limited, too.
        """
        return {
            "list_hook": self._put,
            "object_hook": self._put,
            "max_array_len": MAX_UNPACKED // 40,
            "max_map_len": MAX_UNPACKED // 120,
        }

    def _put(self, container: Any) -> Any:
        self.weight += container_weight(container)
        if self.weight > MAX_UNPACKED:
            raise ValueError(f"its values take up more than {MAX_UNPACKED} bytes of memory")
        return container


def unpack(frame: bytes | bytearray | memoryview, ext_hook: Callable[[int, bytes], Any] = msgpack.ExtType) -> Any:
    """Return the value in one frame.

    Raises:
        RemoteProtocolError: it is not exactly one msgpack value, or one that is too heavy.
    """
    try:
        if len(frame) < LARGE:
            return _unpackb(frame, timestamp=3, strict_map_key=False, use_list=True, ext_hook=ext_hook)
        return _unpackb(frame, timestamp=3, strict_map_key=False, use_list=True, ext_hook=ext_hook, **Scales().hooks())
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException) as error:
        # UnicodeDecodeError, ExtraData, StackError and FormatError are ValueErrors.
        # TypeError: a map key cannot be hashed.
        raise not_a_value(len(frame), error) from None


def packed_weight(packed: bytes) -> int:
    """Return about how many bytes the containers of packed data take up, or more than the cap."""
    scales = Scales()
    try:
        msgpack.unpackb(packed, timestamp=3, strict_map_key=False, use_list=True, **scales.hooks())
    except ValueError:
        return max(scales.weight, MAX_UNPACKED + 1)
    return scales.weight


def not_a_value(size: int, error: Exception) -> RemoteProtocolError:
    """Return the failure of a frame that cannot be decoded."""
    message = str(error)
    if "exceeds max_array_len" in message or "exceeds max_map_len" in message:
        message = f"its values take up more than {MAX_UNPACKED} bytes of memory"
    return RemoteProtocolError(f"frame of {size} bytes is not a msgpack value: {message or type(error).__name__}")


def decode(frame: bytes | bytearray | memoryview, ext_hook: Callable[[int, bytes], Any] = msgpack.ExtType) -> Message:
    """Return the message in one frame; raise `RemoteProtocolError` if it has none of the shapes."""
    return shaped(unpack(frame, ext_hook))


def shaped(message: Any) -> Message:
    """Return the message that a frame's value stands for; raise `RemoteProtocolError` if none."""
    if type(message) is list and message:  # a match statement would take three times as long
        kind, size = message[0], len(message)
        if kind == RESPONSE and size == 4:
            _, id, error, result = message
            if type(id) is int and id >= 0 and (error is None or _is_error(error)):
                return Response(id, error, result)
        elif kind == REQUEST and size == 4:
            _, id, method, params = message
            if type(id) is int and id >= 0 and type(method) is str and _is_params(params):
                return Request(id, method, params)
        elif kind == NOTIFICATION and size == 3:
            _, method, params = message
            if type(method) is str and _is_params(params):
                return Notification(method, params)
    raise RemoteProtocolError("frame is neither a request, a response nor a notification")


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a worker."""

    protocol: int
    pid: int
    python: str
    modvisor: str
    shared_memory: bool = False  # whether it borrows large bytes, see `ipc.shared_memory`

    @classmethod
    def from_dict(cls, data: Any) -> Hello:
        match data:
            case {"protocol": int(protocol), "pid": int(pid), "python": str(python), "modvisor": str(version)}:
                return cls(protocol, pid, python[:64], version[:64], data.get("shelf") is True)
        raise RemoteProtocolError("hello: expected {protocol: int, pid: int, python: str, modvisor: str}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "pid": self.pid,
            "python": self.python,
            "modvisor": self.modvisor,
            "shelf": self.shared_memory,
        }


def _is_params(value: Any) -> bool:
    return value is None or type(value) is dict


def _is_error(value: Any) -> bool:
    match value:
        case {"code": str(), "message": str(), "details": dict()}:
            return True
    return False


_INT64 = range(-(1 << 63), 1 << 64)


def _culprit(value: Any, place: str, depth: int) -> tuple[str, str] | None:
    """Find where and why packing failed. It may be slow: it runs after a failure only."""
    here = place or "value"
    kind = type(value)
    if depth > 500:
        return here, "is nested deeper than 500 levels (or contains itself)"
    if kind is dict:
        for key, item in value.items():
            inner = f"{place}.{key}" if place else str(key)
            found = _culprit(key, f"key {key!r} of {here}", depth + 1) or _culprit(item, inner, depth + 1)
            if found:
                return found
        return None
    if kind is list or kind is tuple:
        for index, item in enumerate(value):
            if found := _culprit(item, f"{place}[{index}]", depth + 1):
                return found
        return None
    if kind is int and value not in _INT64:
        return here, f"integer of {value.bit_length()} bits does not fit in 64; send it as text"
    try:
        _packer.pack(value)
    except (TypeError, ValueError, OverflowError) as error:
        _packer.reset()
        if kind.__name__ == "datetime":
            return here, "datetime without a time zone; use datetime.now(timezone.utc) or .isoformat()"
        if kind is str:
            return here, f"text that is not valid Unicode ({error})"
        return here, (
            f"cannot carry a {kind.__module__}.{kind.__qualname__}; "
            "use None, bool, int, float, str, bytes, list, dict or an aware datetime"
        )
    return None
