"""Answers of both APIs: JSON, one shape for every failure, one table from error codes to HTTP statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ...ipc.errors import Code, ModvisorError, Unserializable
from ...ipc.event import EventResponse
from .wire import to_json

Endpoint = Callable[[Request], Awaitable[Response]]

# Codes of failed starts, and any code a later version adds, are 422: the request was understood and could not be met.
STATUS: dict[str, int] = {
    Code.BAD_INPUT: 400,
    Code.INVALID_EVENT: 400,
    "bad_config": 400,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.NO_SUCH_MOD: 404,
    Code.NO_SUCH_AGENT: 404,
    Code.NO_SUCH_CHANNEL: 404,
    Code.NO_SUCH_GROUP: 404,
    Code.NOT_FOUND: 404,
    Code.UNKNOWN_EVENT: 404,
    Code.ALREADY_LOADED: 409,
    Code.CONFLICT: 409,
    Code.ID_TAKEN: 409,
    Code.NEEDED: 409,
    Code.TOO_LARGE: 413,
    Code.INTERNAL: 500,
    Code.UNSERIALIZABLE: 500,
    Code.MOD_CRASHED: 502,
    Code.BUSY: 503,
    Code.INBOX_FULL: 503,
    Code.MOD_AWAY: 503,
    Code.NOT_RUNNING: 503,
    Code.OVERLOADED: 503,
    Code.TIMEOUT: 504,
}


def status_of(code: str | None) -> int:
    """The HTTP status of a failure with this code."""
    return STATUS.get(code or Code.INTERNAL, 422)


class Answer(Response):
    """JSON that no cache keeps: answers carry secrets, and events that are gone once they are taken."""

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, background: BackgroundTask | None = None) -> None:
        super().__init__(content, status, {"cache-control": "no-store"}, background=background)

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else to_json(content)


def failure_body(code: str | None, message: str, data: Any = None, **details: Any) -> dict[str, Any]:
    """Every failure of both APIs. The text is there under two names: OpenAgents' client looks for either."""
    return {
        "success": False,
        "error": None if code is None else str(code),
        "message": message,
        "error_message": message,
        "data": {"error": str(code), **details} if data is None else data,
    }


def failure(code: str, message: str, status: int | None = None, **details: Any) -> Answer:
    return Answer(failure_body(code, message, **details), status_of(code) if status is None else status)


def response_body(response: EventResponse) -> dict[str, Any]:
    """A response of the network as plain data."""
    message = response.message or ""
    if response.success:
        return {"success": True, "message": message, "data": response.data}
    return failure_body(response.error, message, {} if response.data is None else response.data)


def render_response(body: dict[str, Any]) -> bytes:
    """`body` as JSON; data that JSON cannot carry becomes a failure that says where, and that the event was processed."""
    try:
        return to_json(body)
    except Unserializable as error:
        text = f"the event was processed, but its answer cannot be written as JSON: data.{error}"
        return to_json({**body, **failure_body(Code.UNSERIALIZABLE, text)})


def response_answer(response: EventResponse) -> Answer:
    """A response of the network, with the status that fits."""
    return Answer(render_response(response_body(response)), 200 if response.success else status_of(response.error))


# -- applications


def get(path: str, endpoint: Endpoint) -> Route:
    """A route for GET alone: HEAD, which Starlette would add, would take events out of an inbox and drop them."""
    route = Route(path, endpoint, methods=["GET"])
    route.methods = {"GET"}
    return route


def post(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["POST"])


def delete(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["DELETE"])


def json_app(routes: Sequence[Route]) -> Starlette:
    """An application whose every error is JSON, too."""
    known = [f"{method} {route.path}" for route in routes for method in sorted(route.methods or ())]

    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        here = f"{request.method} {request.url.path}"
        answer = failure(Code.NOT_FOUND, f"no route {here}", error.status_code, routes=known)
        answer.headers.update(error.headers or {})
        return answer

    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: no_route,
            ModvisorError: _refused,
            ClientDisconnect: _gone,
            Exception: _internal,
        },
    )
    app.router.redirect_slashes = False
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ModvisorError)
    return failure(error.code, str(error), **error.details)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _internal(request: Request, error: Exception) -> Response:
    """The traceback is logged by whoever serves the application, see `embedded.InFlight`."""
    return failure(Code.INTERNAL, "internal error; the log of the network says more")
