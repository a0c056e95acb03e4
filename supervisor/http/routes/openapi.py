"""The OpenAPI 3.1 documents of both APIs, printed from their tables of routes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ....ipc import __version__
from ..content.as_msgpack import MEDIA_TYPE
from ..content.failures import STATUS
from .answers import SpecRoute
from .params import Body, Query, Spec
from .schemas import Schema, object_of

FAILURE: Schema = object_of(
    success={"const": False},
    error={"type": ["string", "null"]},
    message={"type": "string"},
    error_message={"type": "string"},
    data={},
)
"""Every answer with a status of 400 or more."""

SWITCHING = 101  # the status of a handshake

_PATH_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def document(title: str, description: str, routes: Iterable[SpecRoute]) -> dict[str, Any]:
    """Return the document of an API."""
    paths: dict[str, Any] = {}
    for route in routes:
        path = _PATH_PARAMETER.sub(r"{\1}", route.path)
        for method in sorted(route.methods or ()):
            paths.setdefault(path, {})[method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "description": description},
        "paths": paths,
        "components": {"schemas": {"Failure": FAILURE}},
    }


def _operation(route: SpecRoute) -> dict[str, Any]:
    spec = route.spec
    in_path = [_parameter(name, "path", {"type": "string"}) for name in _PATH_PARAMETER.findall(route.path)]
    parameters = [*in_path, *map(_query_parameter, spec.query)]
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
    statuses = ", ".join(map(str, sorted({*STATUS.values(), 405, 408, 415, 422, 426})))
    return {
        "summary": spec.summary,
        **({} if route.scope is None else {"description": f"It needs the scope `{route.scope.word}`."}),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": _request_body(spec.body, spec.packed)} if spec.body is not None else {}),
        "responses": {
            str(spec.status): _answer(spec),
            "default": {"description": f"a failure: {statuses}", "content": failure},
        },
    }


def _answer(spec: Spec) -> dict[str, Any]:
    if spec.status == SWITCHING:
        return {"description": "the connection is a WebSocket now"}
    kinds = (spec.media_type, *((MEDIA_TYPE,) if spec.packed else ()))
    return {"description": "done", "content": {kind: {"schema": spec.answer} for kind in kinds}}


def _request_body(body: Body, packed: bool) -> dict[str, Any]:
    kinds = ("application/json", *((MEDIA_TYPE,) if packed else ()))
    return {"required": not body.may_be_missing, "content": {kind: {"schema": body.schema} for kind in kinds}}


def _query_parameter(query: Query) -> dict[str, Any]:
    return {**_parameter(query.name, "query", query.schema), "description": query.doc, "required": False}


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "schema": schema}
