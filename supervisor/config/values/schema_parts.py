"""Parts of JSON Schemas (draft 7): what readers accept, as editors understand it.

A schema may accept more than its reader, which also looks at files and at other keys. It never
accepts less: an editor must not underline what `modvisor run` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def of_type(*kinds: str, **more: Any) -> Schema:
    """Return the schema of values of one of these types."""
    return {"type": kinds[0] if len(kinds) == 1 else list(kinds), **more}


def words(*accepted: Any) -> Schema:
    """Return the schema of exactly these values."""
    return {"enum": list(accepted)}


def either(*schemas: Schema) -> Schema:
    """Return the schema of what one of several schemas accepts."""
    return {"anyOf": list(schemas)}


def nullable(schema: Schema) -> Schema:
    """Return a schema that also accepts null."""
    if not schema:
        return schema
    if "anyOf" in schema:
        return schema if any(_takes_null(each) for each in schema["anyOf"]) else either(*schema["anyOf"], words(None))
    if _takes_null(schema):
        return schema
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "type": [*_types(schema), "null"]}


def listed(items: Schema, **more: Any) -> Schema:
    """Return the schema of a list."""
    return of_type("array", items=items, **more)


def named(values: Schema) -> Schema:
    """Return the schema of a mapping whose keys the user chooses; an empty one is null."""
    return of_type("object", "null", additionalProperties=values)


def object_of(properties: Mapping[str, Schema], required: list[str]) -> Schema:
    """Return the schema of a section. One that needs no key may be empty, which YAML reads as null."""
    shape: Schema = {"properties": dict(properties), "additionalProperties": False}
    return of_type("object", **shape, required=required) if required else of_type("object", "null", **shape)


VARIABLE = r"\$\{[^{}]*\}"
"""In a network file any value may be text with a variable of the environment, such as ``${PORT}``."""


def with_variables(schema: Schema) -> Schema:
    """Return a schema that also accepts ``${VAR}`` in place of each value that is no list and no mapping."""
    if "anyOf" in schema:
        schema = {**schema, "anyOf": [with_variables(each) for each in schema["anyOf"]]}
    if isinstance(schema.get("properties"), dict):
        schema = {**schema, "properties": {name: with_variables(each) for name, each in schema["properties"].items()}}
    for below in ("items", "additionalProperties"):
        if isinstance(schema.get(below), dict):
            schema = {**schema, below: with_variables(schema[below])}
    return _or_variable(schema)


def _or_variable(schema: Schema) -> Schema:
    about = {name: schema[name] for name in ("description", "default") if name in schema}
    if "enum" in schema:
        rest = {name: value for name, value in schema.items() if name not in about}
        return schema if schema["enum"] == [None] else {**about, **either(rest, of_type("string", pattern=VARIABLE))}
    types = _types(schema)
    if "string" in types:
        return {**schema, "pattern": f"{schema['pattern']}|{VARIABLE}"} if "pattern" in schema else schema
    if {"integer", "number", "boolean"} & set(types):
        return {**schema, "type": [*types, "string"], "pattern": VARIABLE}
    return schema


def _types(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _takes_null(schema: Schema) -> bool:
    return "null" in _types(schema) or None in schema.get("enum", ())
