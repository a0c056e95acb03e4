"""What a route takes, as data: each part is read by it, and printed from it into the OpenAPI documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..content.as_json import BadBody
from ..content.bodies import Said, check_keys, check_query, flag_of, flag_query, number_query, text_of, whole_query
from .schemas import ANYTHING, OBJECT, TEXT, Schema, or_null


@dataclass(frozen=True, slots=True)
class Query:
    """A value of the query."""

    name: str
    doc: str
    schema: Schema
    of: Callable[[Said], Any] = field(repr=False)
    """Return the value; raises `BadBody`."""


def query_text(name: str, doc: str, default: str | None = None) -> Query:
    return Query(name, doc, TEXT, lambda request: request.query_params.get(name, default))


def query_whole(name: str, default: int | None, low: int, high: int, doc: str) -> Query:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Query(name, doc, schema, lambda request: whole_query(request, name, default, low, high))


def query_number(name: str, default: float | None, low: float, high: float, doc: str) -> Query:
    schema = {"type": "number", "minimum": low, "maximum": high}
    return Query(name, doc, schema, lambda request: number_query(request, name, default, low, high))


def query_flag(name: str, doc: str) -> Query:
    return Query(name, doc, {"enum": ["0", "1", "false", "true"]}, lambda request: flag_query(request, name))


def check_known(request: Said, *queries: Query) -> None:
    """Raise `BadBody` for a key of the query that is none of these."""
    check_query(request, *(each.name for each in queries))


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the body."""

    name: str
    doc: str
    schema: Schema
    of: Callable[[dict[str, Any]], Any] = field(repr=False)
    """Return the value; raises `BadBody`."""
    required: bool = False


def key_text(name: str, doc: str, *, missing: str = "") -> Key:
    """Read text; null and "" are the same as no key.

    Args:
        missing: what to say if the key is missing; without it, the key may be.
    """

    def read(body: dict[str, Any]) -> str | None:
        found = text_of(body, name)
        if found is None and missing:
            raise BadBody(f"{name}: {missing}")
        return found

    return Key(name, doc, TEXT if missing else or_null(TEXT), read, bool(missing))


def key_flag(name: str, doc: str, *, default: bool = False) -> Key:
    return Key(name, doc, {"type": "boolean"}, lambda body: flag_of(body, name, default))


def key_whole(name: str, default: int, low: int, high: int, doc: str) -> Key:
    def read(body: dict[str, Any]) -> int:
        value = body.get(name, default)
        if type(value) is not int or not low <= value <= high:
            raise BadBody(f"{name}: expected a whole number from {low} to {high}")
        return value

    return Key(name, doc, {"type": "integer", "minimum": low, "maximum": high}, read)


def key_number(name: str, default: float, low: float, high: float, doc: str) -> Key:
    def read(body: dict[str, Any]) -> float:
        value = body.get(name, default)
        if type(value) not in (int, float) or not low <= value <= high:
            raise BadBody(f"{name}: expected a number from {low:g} to {high:g}")
        return float(value)

    return Key(name, doc, {"type": "number", "minimum": low, "maximum": high}, read)


def key_list(name: str, doc: str, items: Schema, what: str) -> Key:
    def read(body: dict[str, Any]) -> list[Any]:
        value = body.get(name)
        if not isinstance(value, list):
            raise BadBody(f"{name}: expected an array of {what}")
        return value

    return Key(name, doc, {"type": "array", "items": items}, read, required=True)


def key_object(name: str, doc: str) -> Key:
    def read(body: dict[str, Any]) -> dict[str, Any] | None:
        value = body.get(name)
        if value is not None and not isinstance(value, dict):
            raise BadBody(f"{name}: expected an object, got {type(value).__name__}")
        return value

    return Key(name, doc, or_null(OBJECT), read)


def key_as_it_is(name: str, doc: str, schema: Schema = ANYTHING) -> Key:
    """Read a value that the network itself checks."""
    return Key(name, doc, schema, lambda body: body.get(name))


@dataclass(frozen=True, slots=True)
class Body:
    """The object in the body of a request.

    Attributes:
        is_closed: an unknown key is refused; otherwise it is ignored.
        may_be_missing: an empty body is an object without keys.
    """

    keys: tuple[Key, ...]
    is_closed: bool = True
    may_be_missing: bool = False

    def check(self, body: dict[str, Any]) -> None:
        """Raise `BadBody` for an unknown key."""
        if self.is_closed:
            check_keys(body, frozenset(each.name for each in self.keys))

    @property
    def schema(self) -> Schema:
        required = [each.name for each in self.keys if each.required]
        properties = {each.name: {**each.schema, "description": each.doc} for each in self.keys}
        return {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            **({"additionalProperties": False} if self.is_closed else {}),
        }


def body_of(*keys: Key, is_closed: bool = True, may_be_missing: bool = False) -> Body:
    return Body(keys, is_closed, may_be_missing)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a route does, takes and answers.

    Attributes:
        answer: the schema of an answer with status 200.
        media_type: of this answer; of NDJSON the schema is that of a line, of server-sent events that of the data.
        packed: whether body and answer may be msgpack, too.
        status: of this answer; 101 has none.
    """

    summary: str
    answer: Schema
    query: tuple[Query, ...] = ()
    body: Body | None = None
    media_type: str = "application/json"
    packed: bool = False
    status: int = 200

    def check(self, body: dict[str, Any]) -> None:
        """Raise `BadBody` for a key of the body that the route does not know."""
        if self.body is not None:
            self.body.check(body)
