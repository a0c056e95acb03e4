"""The usual frames: an event that is asked or sent, and its answer. msgspec reads and writes them in one pass.

Nearly all frames of a pipe are of these forms. Such a frame is decoded straight into the types below,
every value checked. Whatever differs is left to `messages`: it takes longer, it knows all forms, and
it has the last word. Here a frame is refused by one of `NOT_USUAL`, and a value by msgspec only where
msgpack would do the same. So both ways give the same values or the same refusal, and without msgspec
there is one way.

The types are unknown to the garbage collector (``gc=False``): nothing in a frame refers to it.

Why the values of the usual form are bounded: a payload is nested at most six levels deep (see
`event.Value`), its keys are text, and msgspec makes no room for more than has come.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .errors import InvalidEvent, Unserializable
from .event import Event, EventResponse, rare_of
from .messages import Request, Response, pack
from .record import Record, msgspec, record

# What precedes an event in [0, id, "event", {"event": …}], and a response in
# [1, id, null, {"response": …}], with the length of the frame before it; and all of [1, id, null, null].
EVENT_FRAME, ANSWER_FRAME, PASSED_FRAME = struct.Struct(">I3sQ13s"), struct.Struct(">I3sQ11s"), struct.Struct(">I3sQ2s")
EVENT_START, EVENT_REST = b"\x94\x00\xcf", b"\xa5event\x81\xa5event"
ANSWER_START, ANSWER_REST, PASSED_REST = b"\x94\x01\xcf", b"\xc0\x81\xa8response", b"\xc0\xc0"
EVENT_AT, ANSWER_AT, PASSED_SIZE = EVENT_FRAME.size - 4, ANSWER_FRAME.size - 4, PASSED_FRAME.size - 4

_SCALARS = frozenset({str, int, float, bool, type(None)})
# msgspec leaves out fields at their default, and tells at this place how many fields it has written.
_COUNT_AT = 2
_ALWAYS = 4  # of an event it writes event_name, event_id, timestamp and payload in any case

if TYPE_CHECKING:
    Id = int
    Never = Any
    UNSET = None
elif msgspec is not None:
    Id = Annotated[int, msgspec.Meta(ge=0)]
    # No peer can send a value of this type: it is for a field of ours that is not part of the frame.
    Never, UNSET = msgspec.UnsetType, msgspec.UNSET
else:
    Id, Never, UNSET = int, Any, None


@record
class Asked(Record, gc=False):
    event: Event


@record
class EventRequest(Request, array_like=True, tag=0, gc=False):
    """The supervisor asks about an event."""

    id: Id
    method: Literal["event"]  # type: ignore[assignment] - narrower, as all of these: nobody assigns to it
    params: Asked


@record
class Answered(Record, gc=False):
    response: EventResponse


@record
class Answer(Response, array_like=True, tag=1, gc=False):
    """The answer to an event; ``result`` is None if the mod passes the event on."""

    id: Id
    error: None  # type: ignore[assignment]
    result: Answered | None
    frame: Never = UNSET


@record
class Sent(Record, gc=False):
    event: Event
    cause: int | list[int] | None = None


@record
class SentEvent(Request, array_like=True, tag=0, gc=False):
    """A worker sends an event into the network."""

    id: Id
    method: Literal["send_event"]  # type: ignore[assignment]
    params: Sent


@record
class Told(Response, array_like=True, tag=1, gc=False):
    """The response to an event that a worker has sent."""

    id: Id
    error: None  # type: ignore[assignment]
    result: EventResponse
    frame: Never = UNSET


class Missing(Exception):
    """msgspec is not there: no frame is of the usual form."""


def _missing(_value: Any, /) -> Any:
    raise Missing


# Bound here, because a mod may replace the functions of the module.
_encode = _raw = read_in_worker = read_in_supervisor = read_event = _missing
NOT_USUAL: tuple[type[Exception], ...] = (Missing,)
"""Why a frame is not of the usual form, or cannot be written as one."""

if msgspec is not None:
    _raw, _encode = msgspec.Raw, msgspec.msgpack.Encoder().encode
    read_in_worker = msgspec.msgpack.Decoder(EventRequest | Told).decode
    read_in_supervisor = msgspec.msgpack.Decoder(Answer | SentEvent).decode
    read_event = msgspec.msgpack.Decoder(Event).decode
    NOT_USUAL = (msgspec.MsgspecError, InvalidEvent, UnicodeError, RecursionError, OverflowError, TypeError)


# -- writing


def usual_event(event: Event) -> bytes | None:
    """Return an event as msgpack bytes. None: it is not of the usual form.

    The payload is packed as all values are, by msgpack, and msgspec writes the other fields around it.
    """
    payload = event.payload
    if type(payload) is not dict or event.metadata:
        return None
    for value in payload.values():
        if type(value) is bytes:  # it may be large, see `shared_memory`
            return None
    try:
        event.payload = _raw(pack(payload))  # type: ignore[assignment] - only while it is written
        packed = _encode(event)
    except (Unserializable, *NOT_USUAL):  # the long way says what is wrong
        return None
    finally:
        event.payload = payload
    common = _ALWAYS + (event.source_id is not None) + (event.destination_id is not None)
    if packed[_COUNT_AT] == common or _SCALARS.issuperset(map(type, rare_of(event))):
        return packed
    return None
