"""Plain data to JSON and back, for both APIs. Pure.

Events carry msgpack values. Values that JSON lacks are written so that they cannot be mistaken:

    bytes                 {"$base64": "aGk="}
    NaN, infinities       {"$float": "NaN"}, {"$float": "Infinity"}, {"$float": "-Infinity"}
    date, datetime        ISO 8601 text, "2026-01-31T12:00:00+00:00"
    keys that are no text their text: "1", "1.5", "true", "null", ISO 8601

NaN is not written as null: a receiver could not tell a failed number from a missing one.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import date
from math import isfinite, isnan
from typing import Any

import msgspec

from ....ipc.errors import Code, InvalidEvent, ModvisorError, Unserializable
from ....ipc.event import MAX_DEPTH, check_depth

_MAX_OUT = 600  # levels of nesting in an answer: msgpack carries 511
_MAX_INT_BITS = 8192  # Python refuses to write much longer integers in decimal

# It refuses all that the standard library refuses, and more: NaN, numbers beyond a float, lone surrogates.
_decoder = msgspec.json.Decoder()
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # perhaps half of a pair


class BadBody(ModvisorError):
    """The body or the query of a request is not what the route takes."""

    code = Code.BAD_INPUT


def to_json(value: Any) -> bytes:
    """Return `value` as UTF-8 JSON.

    Raises:
        Unserializable: names the first place in `value` that cannot be written.
    """
    try:
        return _encoder.encode(value).encode()
    except (TypeError, ValueError, RecursionError):  # rare: values that the encoder does not know
        plain = _plain(value, "", 0)
    try:
        return _encoder.encode(plain).encode()
    except RecursionError:
        raise Unserializable("value: is nested too deeply") from None


def from_json(body: bytes | bytearray, *, is_shallow: bool = False) -> dict[str, Any]:
    """Return the object in a body; raises `BadBody`.

    NaN and Infinity are accepted, although JSON has neither: Python's clients write them.

    Args:
        is_shallow: whoever has counted the body's values (`json_bounds`) has made sure of `MAX_DEPTH`.
    """
    try:
        data = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):  # rare
        return from_json_by_python(body)
    return _shallow_object(data, brackets=0 if is_shallow else body.count(b"[") + body.count(b"{"))


def from_json_by_python(body: bytes | bytearray) -> dict[str, Any]:
    """Do as `from_json` does, with the standard library: it takes NaN, and says what is wrong where."""
    try:
        text = body.decode("utf-8-sig")
        data = json.loads(text)
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8 (byte {error.start})") from None
    except ValueError as error:
        raise BadBody(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadBody(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    _shallow_object(data, brackets=text.count("[") + text.count("{"))
    if "\\u" in text and _LONE_SURROGATE.search(text):
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # it can be neither stored nor sent to a mod
            raise BadBody("the body has text that is not valid Unicode (half of a surrogate pair)") from None
    return data


def _shallow_object(data: Any, brackets: int) -> dict[str, Any]:
    """Return what was decoded from a body with so many opening brackets; raises `BadBody`."""
    if type(data) is not dict:
        raise BadBody(f"the body must be a JSON object, got {_kind(data)}")
    if brackets > MAX_DEPTH:
        try:
            check_depth("the body", data)
        except InvalidEvent:
            raise BadBody(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    return data


def _known(value: Any) -> Any:
    """Return what the encoder writes for a value that it does not know."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, date):  # datetimes are dates
        return value.isoformat()
    raise TypeError


_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=_known
)


def _plain(value: Any, place: str, depth: int) -> Any:
    """Return `value` with all replaced that the encoder cannot write; raises `Unserializable`."""
    if depth > _MAX_OUT:
        raise Unserializable(f"{place[:200]}…: is nested deeper than {_MAX_OUT} levels (or contains itself)")
    if isinstance(value, dict):
        out: dict[str, Any] = {}
        for key, item in value.items():
            name = _key(key, place)
            out[name] = _plain(item, f"{place}.{name}" if place else name, depth + 1)
        return out
    if isinstance(value, (list, tuple)):
        items: list[Any] = []
        for index, item in enumerate(value):  # a comprehension would cost one more frame per level
            items.append(_plain(item, f"{place}[{index}]", depth + 1))
        return items
    return _leaf(value, place or "value")


def _leaf(value: Any, place: str) -> Any:
    if isinstance(value, str):
        return _checked(value, place)
    if isinstance(value, float) and not isfinite(value):
        return {"$float": _float_name(value)}
    if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
        raise Unserializable(f"{place}: integer of {value.bit_length()} bits; send it as text")
    if value is None or isinstance(value, (int, float)):
        return value
    try:
        return _known(value)
    except TypeError:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise Unserializable(
            f"{place}: cannot be written as JSON ({kind}); use None, bool, int, float, str, bytes, list, dict or a datetime"
        ) from None


def _key(key: Any, place: str) -> str:
    if isinstance(key, str):
        return _checked(key, f"a key of {place or 'value'}")
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    if isinstance(key, float):
        return repr(key) if isfinite(key) else _float_name(key)
    if isinstance(key, int):
        return str(_leaf(key, f"a key of {place or 'value'}"))
    if isinstance(key, date):
        return key.isoformat()
    raise Unserializable(f"{place or 'value'}: the key {key!r:.60} cannot be written as JSON")


def _checked(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unserializable(f"{place}: text that is not valid Unicode (half of a surrogate pair)") from None
    return text


def _float_name(value: float) -> str:
    if isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _kind(data: Any) -> str:
    names = {list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(data), "a number")
