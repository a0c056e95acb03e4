"""Print docs/routes.md: ``make docs``.

The page has every route of both APIs with what it takes and answers, from the specs that the requests are read by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modvisor.supervisor.http.documents import documents

PAGE = Path(__file__).with_name("routes.md")

_HEAD = """\
# All HTTP routes

Every route with what it takes and what it answers. [HTTP](http.md) explains them, with examples; the same as OpenAPI documents is in [openapi/](openapi). A route that fails answers with `success: false`, `error` (one of the [codes](errors.md)), `message` and `data`.

"""  # noqa: E501
_TITLES = {"agents": "Routes of agents", "operator": "Routes of operators"}
_MANY = 12  # keys of an answer that are named; of what has more, the page of the route tells


def printed() -> str:
    """Return the page."""
    parts = [_HEAD.rstrip("\n")]
    for api, document in documents().items():
        parts += [f"## {_TITLES[api]}", document["info"]["description"], _index(document["paths"])]
        parts += [_section(method, path, operation) for method, path, operation in _operations(document["paths"])]
    return "\n\n".join(parts) + "\n"


def _operations(paths: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _index(paths: dict[str, Any]) -> str:
    rows = (
        f"| [`{method} {path}`](#{_anchor(f'{method} {path}')}) | {operation['summary']} |\n"
        for method, path, operation in _operations(paths)
    )
    return "| route | |\n|---|---|\n" + "".join(rows).rstrip("\n")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _section(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"### {method} {path}", " ".join([f"{operation['summary']}.", operation.get("description", "")]).strip()]
    queries = [each for each in operation.get("parameters", ()) if each["in"] == "query"]
    if queries:
        rows = [(each["name"], _kind(each["schema"]), each["description"]) for each in queries]
        parts.append(_table("query", rows))
    if (body := operation.get("requestBody")) is not None:
        schema = next(iter(body["content"].values()))["schema"]
        required = set(schema.get("required", ()))
        rows = [
            (name, _kind(each) + (", required" if name in required else ""), each.get("description", ""))
            for name, each in schema.get("properties", {}).items()
        ]
        parts.append(_table("key of the body" + (" (which may be missing)" if not body["required"] else ""), rows))
    return "\n\n".join([*parts, _answer(operation["responses"])])


def _table(head: str, rows: list[tuple[str, str, str]]) -> str:
    lines = (f"| `{name}` | {kind} | {_line(doc)} |" for name, kind, doc in rows)
    return "\n".join([f"| {head} | | |", "|---|---|---|", *lines])


def _line(doc: str) -> str:
    """Return a description in one line. What it points to within its own page is on that of the network file."""
    return " ".join(doc.replace("](#", "](config.md#").split()).replace("|", "\\|").replace(", see below", "")


def _answer(responses: dict[str, Any]) -> str:
    found = next(each for status, each in responses.items() if status != "default")
    content = found.get("content")
    if content is None:
        return f"Answer: {found['description']}."
    kind, told = next(iter(content.items()))
    names = [f"`{name}` ({_kind(each)})" for name, each in told["schema"].get("properties", {}).items()]
    shown = ", ".join(names[:_MANY]) + (f" and {len(names) - _MANY} more" if len(names) > _MANY else "")
    lines = "lines of JSON, each " if "ndjson" in kind else "" if "json" in kind else f"`{kind}`"
    return f"Answer: {lines}{shown or ('an object' if 'json' in kind else '')}."


def _kind(schema: dict[str, Any]) -> str:
    """Return what a value may be, in words."""
    if "const" in schema:
        return _word(schema["const"])
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema.get("anyOf") or schema["oneOf"])))
    kinds = schema.get("type", "anything")
    words = [_WORDS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    if kinds == "array" and "items" in schema:
        return f"list of {_kind(schema['items'])}"
    return " or ".join(words) + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return ""
    return f" from {low:g}" if high is None or high >= 10**12 else f" from {low:g} to {high:,}"


def _word(value: Any) -> str:
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list", "null": "null"}


if __name__ == "__main__":
    text = printed()
    if not PAGE.exists() or PAGE.read_text("utf-8") != text:
        PAGE.write_text(text, "utf-8")
