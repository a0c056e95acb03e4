"""The usual frames: an event that is asked, and its answer. msgspec reads and writes them in one pass.

Nearly all frames of a pipe are of these two forms. What a frame begins with tells its form, and the
event or response that follows is decoded straight into its type, every value checked. Whatever
differs is left to `messages`: it takes longer, it knows all forms, and it has the last word. Here a
frame is refused by returning None, and a value by msgspec only where msgpack would do the same. So
both ways give the same values or the same refusal, and without msgspec there is one way.

Why the values of the usual form are bounded: a payload is nested at most six levels deep (see
`event.Value`), its keys are text, and msgspec makes no room for more than has come.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from .errors import InvalidEvent
from .event import LEVELS, RARE_DEFAULTS, Event, EventResponse, rare_of
from .messages import EVENT, Request, Response
from .record import msgspec
from .stepwise import STEPWISE

# What precedes an event in [0, id, "event", {"event": …}], and a response in
# [1, id, null, {"response": …}].
_EVENT_HEAD, _ANSWER_HEAD = struct.Struct(">3sQ13s"), struct.Struct(">3sQ11s")
EVENT_START, EVENT_REST = b"\x94\x00\xcf", b"\xa5event\x81\xa5event"
_ANSWER_START, _ANSWER_REST = b"\x94\x01\xcf", b"\xc0\x81\xa8response"

# [1, id, null, null]: the mod passes the event on.
_PASS, _PASS_FRAME, _PASS_REST = struct.Struct(">3sQ2s"), struct.Struct(">I3sQ2s"), b"\xc0\xc0"
EVENT_AT, _ANSWER_AT = _EVENT_HEAD.size, _ANSWER_HEAD.size

# With the length of the frame before it.
EVENT_FRAME, _ANSWER_FRAME = struct.Struct(">I3sQ13s"), struct.Struct(">I3sQ11s")

_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})


class _Missing(Exception):
    """msgspec is not there: no frame is of the usual form."""


def _missing(_value: Any, /) -> Any:
    raise _Missing


# Bound here, because a mod may replace the functions of the module.
_encode = _event_in = _response_in = _missing
_NOT_USUAL: tuple[type[Exception], ...] = (_Missing,)
if msgspec is not None:
    _encode = msgspec.msgpack.Encoder().encode
    _event_in = msgspec.msgpack.Decoder(Event).decode
    _response_in = msgspec.msgpack.Decoder(EventResponse).decode
    _NOT_USUAL = (msgspec.MsgspecError, InvalidEvent, UnicodeError, RecursionError, OverflowError, TypeError)


# -- reading


def event_request(frame: memoryview) -> Request | None:
    """Return the request in this frame, with an `Event` as its params. None: it is not of this form."""
    if not EVENT_AT < len(frame) < STEPWISE:
        return None
    start, request_id, rest = _EVENT_HEAD.unpack_from(frame)
    if start != EVENT_START or rest != EVENT_REST:
        return None
    try:
        return Request(request_id, EVENT, _event_in(frame[EVENT_AT:]))
    except _NOT_USUAL:
        return None


def event_answer(frame: memoryview) -> Response | None:
    """Return the answer in this frame, an `EventResponse` as its result. None: it is not of this form."""
    size = len(frame)
    if not _ANSWER_AT < size < STEPWISE:
        return _passed(frame) if size == _PASS.size else None
    start, request_id, rest = _ANSWER_HEAD.unpack_from(frame)
    if start != _ANSWER_START or rest != _ANSWER_REST:
        return None
    try:
        return Response(request_id, None, _response_in(frame[_ANSWER_AT:]), size)
    except _NOT_USUAL:
        return None


def _passed(frame: memoryview) -> Response | None:
    start, request_id, rest = _PASS.unpack(frame)
    if start != _ANSWER_START or rest != _PASS_REST:
        return None
    return Response(request_id, None, None, _PASS.size)


# -- writing


def usual_event(event: Event) -> bytes | None:
    """Return an event as msgpack bytes. None: it is not of the usual form."""
    rare = rare_of(event)
    if event.metadata or not (rare == RARE_DEFAULTS or _SCALARS.issuperset(map(type, rare))):
        return None
    if not _is_plain(event.payload):
        return None
    try:
        return _encode(event)
    except _NOT_USUAL:  # text that is no Unicode, an integer that is too long
        return None


def answer_frame(request_id: int, response: EventResponse | None) -> bytes | None:
    """Return the frame of an answer, None for an event that is passed on. None: it is not of the usual form."""
    if response is None:
        return _PASS_FRAME.pack(_PASS.size, _ANSWER_START, request_id, _PASS_REST)
    data = response.data
    if (
        type(response) is not EventResponse
        or not (_is_plain(data) if type(data) is dict else type(data) in _SCALARS)
        or not (response.message is None or type(response.message) is str)
        or response.event_name is not None
    ):
        return None
    try:
        body = _encode(response)
    except _NOT_USUAL:
        return None
    return _ANSWER_FRAME.pack(_ANSWER_AT + len(body), _ANSWER_START, request_id, _ANSWER_REST) + body


def _is_plain(data: dict[Any, Any], levels: int = LEVELS) -> bool:
    """Whether both libraries write this data in the same way. msgspec alone writes sets and decimals, too."""
    if not _TEXT.issuperset(map(type, data)):
        return False
    values = data.values()
    return _SCALARS.issuperset(map(type, values)) or _are_plain(values, levels - 1)


def _are_plain(values: Iterable[Any], levels: int) -> bool:
    if levels == 0:
        return False
    for value in values:
        if (kind := type(value)) in _SCALARS:
            continue
        if kind is list:
            if not (_SCALARS.issuperset(map(type, value)) or _are_plain(value, levels - 1)):
                return False
        elif kind is not dict or not _is_plain(value, levels):
            return False
    return True
