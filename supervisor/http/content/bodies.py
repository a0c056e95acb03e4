"""What a request says: its body (limited in size), its query, its credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import Request

from ....ipc.connection import MAX_FRAME
from ....ipc.errors import Code, ModvisorError
from .as_json import BadBody, from_json

MAX_BODY = MAX_FRAME  # a larger event could not be sent to a mod, so it is no key of the network file
SMALL_BODY = 64 * 1024  # for requests that need no body, so nobody needs more


class TooLarge(ModvisorError):
    """The body is larger than the limit."""

    code = Code.TOO_LARGE


class Said(Protocol):
    """What a request says besides its body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in lower case."""
        ...

    @property
    def query_params(self) -> Mapping[str, str]: ...


# -- the body


async def read_body(request: Request, limit: int = MAX_BODY) -> bytearray:
    """Read the body; raises `TooLarge` above `limit` bytes.

    The server drops the rest of a body that is too large, as it arrives. Closing the connection
    instead would reset it while the client still sends, and the client would not see the answer.
    """
    announced_length(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return body


def announced_length(request: Request, limit: int) -> int:
    """Return how long the body will be, 0 if the request does not say; raises `TooLarge`."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or len(announced) > 18 or int(announced) > limit:
        raise _too_large(limit)
    return int(announced)


async def json_body(request: Request, limit: int = MAX_BODY) -> dict[str, Any]:
    """Read the JSON object in the body; raises `TooLarge` or `BadBody`."""
    return from_json(await read_body(request, limit))


async def optional_json_body(request: Request, limit: int = MAX_BODY) -> dict[str, Any]:
    """Read the JSON object in the body; an empty body is {}. Raises `TooLarge` or `BadBody`."""
    body = await read_body(request, limit)
    return from_json(body) if body else {}


def text_of(body: dict[str, Any], key: str) -> str | None:
    """Return the text of a key.

    None if the key is missing, null or empty: OpenAgents' client sends "" for nothing.
    Raises `BadBody`.
    """
    value = body.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadBody(f"{key}: expected text, got {type(value).__name__}")
    return value


def flag_of(body: dict[str, Any], key: str, default: bool = False) -> bool:
    """Return the boolean of a key; raises `BadBody`."""
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise BadBody(f"{key}: expected true or false, got {type(value).__name__}")
    return value


def check_keys(body: dict[str, Any], known: frozenset[str]) -> None:
    """Raise `BadBody` for an unknown key: a misspelt key would be ignored silently."""
    if unknown := sorted(body.keys() - known):
        raise BadBody(f"unknown keys {', '.join(map(repr, unknown[:10]))}; known are {', '.join(sorted(known))}")


# -- the query


def check_query(request: Said, *known: str) -> None:
    """Raise `BadBody` for an unknown key: a request with a misspelt filter would ask for more."""
    if unknown := sorted(request.query_params.keys() - set(known)):
        raise BadBody(f"unknown keys {', '.join(map(repr, unknown[:10]))}; known are {', '.join(sorted(known))}")


def number_query(request: Said, key: str, default: float | None, low: float, high: float) -> float | None:
    """Return a number of the query; raises `BadBody`."""
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


def whole_query(request: Said, key: str, default: int | None, low: int, high: int) -> int | None:
    """Return a whole number of the query; raises `BadBody`."""
    text = request.query_params.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
        raise BadBody(f"{key}: expected a whole number from {low} to {high}, got {text[:40]!r}")
    return int(text)


def flag_query(request: Said, key: str) -> bool:
    """Return whether the query has `key=1` or `key=true`; raises `BadBody`."""
    text = request.query_params.get(key, "0").lower()
    if text not in ("0", "1", "false", "true"):
        raise BadBody(f"{key}: expected 1 or 0, got {text[:40]!r}")
    return text in ("1", "true")


# -- who sends it


def credentials(request: Said) -> tuple[str | None, str | None]:
    """Return agent id and secret.

    OpenAgents' client sends them in the query. Headers are safer: proxies log queries, not headers.
    """
    query, headers = request.query_params, request.headers
    agent_id = query.get("agent_id") or headers.get("x-agent-id") or None
    secret = query.get("secret") or bearer_of(request) or None
    return agent_id.removeprefix("agent:") if agent_id else None, secret


def bearer_of(request: Said) -> str | None:
    """Return the token of the header `Authorization: Bearer TOKEN`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes", limit=limit)
