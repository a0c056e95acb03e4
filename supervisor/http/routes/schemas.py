"""JSON schemas of what the routes take and answer, made from the types that they are. Pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any

Schema = dict[str, Any]

ANYTHING: Schema = {}
OBJECT: Schema = {"type": "object"}
TEXT: Schema = {"type": "string"}

_PLAIN: dict[Any, Schema] = {
    str: TEXT,
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    dict: OBJECT,
    list: {"type": "array"},
    Any: ANYTHING,
}


def schema_of(kind: Any) -> Schema:
    """Return the schema of values of a type, as JSON has them."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if is_dataclass(kind):
        return fields_of(kind)  # type: ignore[arg-type]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema_of(each) for each in inner]}
    if origin in (list, tuple):
        return array_of(schema_of(inner[0]))
    if origin in (dict, Mapping):
        return mapping_of(schema_of(inner[1]))
    raise TypeError(f"no schema for {kind!r}")


def fields_of(kind: type, *left_out: str) -> Schema:
    """Return the schema of a dataclass: an object with its fields, those without a default required."""
    hints = typing.get_type_hints(kind)
    found = [each for each in fields(kind) if each.name not in left_out]
    required = [each.name for each in found if each.default is MISSING and each.default_factory is MISSING]
    return {
        "type": "object",
        "properties": {each.name: schema_of(hints[each.name]) for each in found},
        **({"required": required} if required else {}),
    }


def object_of(**properties: Schema) -> Schema:
    """Return the schema of an object that has all of these keys, and may have more."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def array_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def mapping_of(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def or_null(schema: Schema) -> Schema:
    options = schema.get("anyOf", [schema])
    return {"anyOf": options if {"type": "null"} in options else [*options, {"type": "null"}]}


def merged(*schemas: Schema) -> Schema:
    """Return the schema of an object with the keys of all of these."""
    properties = {name: each for schema in schemas for name, each in schema["properties"].items()}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for schema in schemas for name in schema.get("required", ())],
    }


def without_required(schema: Schema, *names: str) -> Schema:
    """Return the schema of an object that may lack these keys."""
    return {**schema, "required": [name for name in schema["required"] if name not in names]}
