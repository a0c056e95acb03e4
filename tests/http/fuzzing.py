"""Requests that an OpenAPI document suggests, and others that it does not; and what every answer must be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgpack
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

Schema = dict[str, Any]

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)
PACKED = "application/msgpack"
HEADERS = st.sampled_from(
    [{}] * 6
    + [
        {"Content-Type": "text/plain"},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
        {"X-Agent-Id": "alice"},
        {"Accept": PACKED},
        {"Accept": f"text/html, {PACKED};q=0.9"},
        {"Content-Type": PACKED},
    ]
)
# Known to the network, so that some requests get far.
SEGMENTS = st.text(min_size=1).filter(lambda text: text not in (".", ".."))  # these two a client takes out itself
NAMES = st.sampled_from(
    ["alice", "talker", "./talker", "mod:talker", "agent:broadcast", "test.ping", "test.raise", "1", "*"]
)
STREAM = "application/x-ndjson"


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that a schema allows, mostly."""
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return st.one_of([values(each) for each in schema[key]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "string":
            return NAMES | st.text(max_size=30)
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "number":
            return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return st.lists(values(schema.get("items", {})), max_size=3)
        case "object":
            known = {name: values(each) for name, each in schema.get("properties", {}).items()}
            required = {name: known.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=known)
    return ANYTHING


@dataclass(frozen=True)
class Asked:
    method: str
    url: str
    content: bytes | None
    headers: dict[str, str]
    template: str
    """The path in the document."""


@st.composite
def requests(draw: st.DrawFn, document: dict[str, Any], left_out: frozenset[str]) -> Asked:
    """Draw a request to an operation of the document, right or wrong.

    Args:
        left_out: operations, such as ``POST /admin/v1/shutdown``.
    """
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if f"{method.upper()} {path}" not in left_out
    ]
    method, template, operation = draw(st.sampled_from(operations))
    path = template
    query: dict[str, str] = {}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(draw(NAMES | SEGMENTS), safe=""))
        elif draw(st.booleans()):
            value = draw(values(parameter["schema"]) if draw(st.booleans()) else st.text(max_size=30))
            query[parameter["name"]] = str(value).encode("utf-8", "replace").decode()
    if query.get("wait") is not None:  # no test waits for long
        query["wait"] = "0.01" if query["wait"].replace(".", "", 1).isdecimal() else query["wait"]
    query.pop("follow", None)
    content = draw(_bodies(operation["requestBody"])) if "requestBody" in operation else None
    headers = ({} if content is None else {"Content-Type": "application/json"}) | draw(HEADERS)
    return Asked(method, path + (f"?{urlencode(query)}" if query else ""), content, headers, template)


def _bodies(described: dict[str, Any]) -> st.SearchStrategy[bytes]:
    objects = values(described["content"]["application/json"]["schema"])
    return (
        objects.map(_encoded)
        | st.dictionaries(st.text(max_size=10), ANYTHING, max_size=5).map(_encoded)
        | ANYTHING.map(_encoded)
        | objects.map(_packed)
        | st.binary(max_size=100)
    )


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def _packed(value: Any) -> bytes:
    try:
        return msgpack.packb(value)
    except (OverflowError, ValueError):  # a number that msgpack cannot carry, or half of a surrogate pair
        return b"\xc1"


class Checker:
    """Compares answers with what the document says of them."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]

    def check(self, operation: dict[str, Any], answer: httpx.Response) -> None:
        """Fail unless the answer is one that the document describes, and no mistake of ours."""
        assert answer.status_code != 500, answer.text
        if answer.status_code == 200:
            content = operation["responses"]["200"]["content"]
        else:
            content = operation["responses"]["default"]["content"]
            assert answer.status_code >= 400
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in content
        schema = content[media_type]["schema"]
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        for value in _values_of(answer, media_type):
            Draft202012Validator(schema).validate(value)


def _values_of(answer: httpx.Response, media_type: str) -> list[Any]:
    if media_type == PACKED:
        return [msgpack.unpackb(answer.content, timestamp=3, strict_map_key=False)]
    if media_type == "text/plain":
        return [answer.text]
    return [json.loads(line) for line in (answer.text.splitlines() if media_type == STREAM else [answer.text])]
