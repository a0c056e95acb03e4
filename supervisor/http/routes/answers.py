"""Answers of both APIs in JSON, and applications whose errors are JSON, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ....ipc.errors import Code, ModvisorError, Unserializable
from ....ipc.event import Event, EventResponse
from ...agents import Scope
from ..content.as_json import to_json
from ..content.as_msgpack import MEDIA_TYPE, Packed
from ..content.failures import INTERNAL_ERROR, failure_body, status_of
from .params import Spec

Write = Callable[[Any], bytes]
Endpoint = Callable[[Request], Awaitable[Response]]


class Answer(Response):
    """JSON that no cache keeps: answers carry secrets, and events taken out of an inbox.

    `Packed` content is msgpack.
    """

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, background: BackgroundTask | None = None) -> None:
        kind = MEDIA_TYPE if isinstance(content, Packed) else None
        super().__init__(content, status, {"cache-control": "no-store"}, kind, background)

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else to_json(content)


def failure(code: str, message: str, status: int | None = None, **details: Any) -> Answer:
    return Answer(failure_body(code, message, **details), status_of(code) if status is None else status)


def response_body(response: EventResponse) -> dict[str, Any]:
    """Return a response of the network as plain data."""
    message = response.message or ""
    if response.success:
        return {"success": True, "message": message, "data": response.data}
    return failure_body(response.error, message, {} if response.data is None else response.data)


def render_response(body: dict[str, Any], write: Write = to_json) -> bytes:
    """Return the body of a response as JSON, or in the form that `write` writes.

    If this form cannot carry its data, the answer is a failure that names the place in the data and
    says that the event was processed.
    """
    try:
        return write(body)
    except Unserializable as error:
        text = f"the event was processed, but its answer cannot be written as {_form(write)}: data.{error}"
        return write({**body, **failure_body(Code.UNSERIALIZABLE, text)})


def _form(write: Write) -> str:
    return "JSON" if write is to_json else "msgpack"


def response_answer(response: EventResponse) -> Answer:
    """Answer with a response of the network and the HTTP status of its code."""
    return Answer(render_response(response_body(response)), 200 if response.success else status_of(response.error))


def event_answer(event: Event, response: EventResponse) -> Answer:
    """Answer with the response to an event. The HTTP status is 200, even if the event failed."""
    return Answer(render_answer(event, response))


def render_answer(event: Event, response: EventResponse, write: Write = to_json) -> bytes:
    """Return the response to an event, see `render_response`."""
    named = {"event_id": event.event_id, "event_name": event.event_name}
    return render_response({**response_body(response), **named}, write)


# -- applications


class SpecRoute(Route):
    """A route that says what it takes and answers.

    Attributes:
        scope: what an operator must be allowed to do; None: everything, or the route is the agents'.
    """

    def __init__(self, method: str, path: str, endpoint: Endpoint, spec: Spec, scope: Scope | None = None) -> None:
        super().__init__(path, endpoint, methods=[method])
        # Starlette would add HEAD to GET, which would take events out of an inbox and drop them.
        self.methods = {method}
        self.spec = spec
        self.scope = scope


def get(path: str, endpoint: Endpoint, spec: Spec, scope: Scope | None = None) -> SpecRoute:
    return SpecRoute("GET", path, endpoint, spec, scope)


def post(path: str, endpoint: Endpoint, spec: Spec, scope: Scope | None = None) -> SpecRoute:
    return SpecRoute("POST", path, endpoint, spec, scope)


def delete(path: str, endpoint: Endpoint, spec: Spec, scope: Scope | None = None) -> SpecRoute:
    return SpecRoute("DELETE", path, endpoint, spec, scope)


def json_app(routes: Sequence[SpecRoute], more: Sequence[Route] = ()) -> Starlette:
    """Make an application whose errors are JSON, too.

    Args:
        more: routes that are not named where a route is missing.
    """
    known = [f"{method} {route.path}" for route in routes for method in sorted(route.methods or ())]

    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        here = f"{request.method} {request.url.path}"
        answer = failure(Code.NOT_FOUND, f"no route {here}", error.status_code, routes=known)
        answer.headers.update(error.headers or {})
        return answer

    app = Starlette(
        routes=[*routes, *more],
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
    return Response(status_code=400)  # the client is gone and reads no answer


async def _internal(request: Request, error: Exception) -> Response:
    """Answer after a mistake of ours. `embedded.OpenRequests` logs the traceback."""
    return failure(Code.INTERNAL, INTERNAL_ERROR)
