"""What a request says: its body, bounded; its query; who sends it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from ...ipc.connection import MAX_FRAME
from ...ipc.errors import Code, ModvisorError
from .wire import BadBody, from_json

MAX_BODY = MAX_FRAME  # what could not be sent on to a mod need not be read
SMALL_BODY = 1024 * 1024  # for requests that carry no event; they are read before anybody has proven who he is


class TooLarge(ModvisorError):
    """The body is larger than the limit."""

    code = Code.TOO_LARGE


async def read_body(request: Request, limit: int = MAX_BODY) -> bytearray:
    """The body, never more than ``limit`` bytes of it; raises `TooLarge`.

    What was not read is dropped by the server as it comes. Closing the connection instead would reset it under a client that
    still sends, and take the answer away from it.
    """
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or len(announced) > 18 or int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return body


async def json_body(request: Request, limit: int = MAX_BODY) -> dict[str, Any]:
    """The JSON object in the body; raises `TooLarge` or `BadBody`."""
    return from_json(await read_body(request, limit))


async def optional_json_body(request: Request, limit: int = MAX_BODY) -> dict[str, Any]:
    """The same, and {} for no body at all."""
    body = await read_body(request, limit)
    return from_json(body) if body else {}


def text_of(body: dict[str, Any], key: str) -> str | None:
    """A text of the body; None if it is missing, null or empty (OpenAgents' client sends "" for nothing)."""
    value = body.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadBody(f"{key}: expected text, got {type(value).__name__}")
    return value


def check_keys(body: dict[str, Any], known: frozenset[str]) -> None:
    """A misspelt key would change nothing and say nothing."""
    if unknown := sorted(body.keys() - known):
        raise BadBody(f"unknown keys {', '.join(map(repr, unknown[:10]))}; known are {', '.join(sorted(known))}")


def check_query(request: Request, *known: str) -> None:
    """The same of a query, where a misspelt key could mean more than was asked for."""
    if unknown := sorted(request.query_params.keys() - set(known)):
        raise BadBody(f"unknown keys {', '.join(map(repr, unknown[:10]))}; known are {', '.join(sorted(known))}")


def credentials(request: Request) -> tuple[str | None, str | None]:
    """Agent id and secret: from the query, as OpenAgents' client sends them, or from headers, which nobody logs."""
    query, headers = request.query_params, request.headers
    agent_id = query.get("agent_id") or headers.get("x-agent-id") or None
    secret = query.get("secret") or bearer_of(request) or None
    return agent_id.removeprefix("agent:") if agent_id else None, secret


def bearer_of(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None


def number_query(request: Request, key: str, default: float | None, low: float, high: float) -> float | None:
    """A number of the query; raises `BadBody`."""
    text = request.query_params.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:  # NaN is in no range
        raise BadBody(f"{key}: expected a number from {low:g} to {high:g}, got {text[:40]!r}")
    return value


def whole_query(request: Request, key: str, default: int | None, low: int, high: int) -> int | None:
    """A whole number of the query; raises `BadBody`."""
    text = request.query_params.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
        raise BadBody(f"{key}: expected a whole number from {low} to {high}, got {text[:40]!r}")
    return int(text)


def flag_query(request: Request, key: str) -> bool:
    """Whether ``key=1`` (or ``true``) is in the query; raises `BadBody`."""
    text = request.query_params.get(key, "0").lower()
    if text not in ("0", "1", "false", "true"):
        raise BadBody(f"{key}: expected 1 or 0, got {text[:40]!r}")
    return text in ("1", "true")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes", limit=limit)
