"""The routes that are asked all the time, in front of the application.

A request goes to its endpoint right away, past ASGI, Starlette and the tasks that they start. What
middleware checks is checked here, too; whatever is refused or unusual goes the long way instead,
where it gets the same answer as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ...ipc.errors import ModvisorError
from ..config import NetworkConfig
from .asked import Asked
from .clients import behind_proxies
from .connection import Connection
from .failures import failure_body, status_of
from .heads import Head, read_query
from .protocol import Answered, Answering, HttpProtocol, Route
from .web_guard import WebGuard
from .wire import to_json

Endpoint = Callable[[Asked, bytes, HttpProtocol], Coroutine[Any, Any, bytes]]
"""Returns the body of an answer with status 200; raises `ModvisorError` for a failure."""


class DirectRoutes:
    """Finds the endpoint of an ordinary request, and answers with what the endpoint returns.

    Args:
        endpoints: by method and path.
        guard: refuses what web pages may have caused.
        config: returns the network file in force.
    """

    def __init__(
        self, endpoints: Mapping[tuple[str, str], Endpoint], guard: WebGuard, config: Callable[[], NetworkConfig]
    ) -> None:
        self._routes = {where: self._answering(endpoint) for where, endpoint in endpoints.items()}
        self._guard = guard
        self._config = config

    def route(self, head: Head) -> Route | None:
        """Return the route of a request; None if it must go the long way."""
        route = self._routes.get((head.method, head.path))
        if route is None or head.length > self._config().http.anonymous_body:
            return None
        return None if self._guard.refusal(head.method, head.headers) is not None else route

    def _answering(self, endpoint: Endpoint) -> Route:
        def begin(head: Head, body: bytes, http: HttpProtocol) -> Answering:
            return _answer(endpoint(self._asked(head, http.app_state["connection"]), body, http))

        return begin

    def _asked(self, head: Head, connection: Connection) -> Asked:
        forwarded = head.headers.get("x-forwarded-for")
        address = behind_proxies(connection.peer, [] if forwarded is None else [forwarded], self._config().http)
        return Asked(head.headers, read_query(head.query), connection, address)


async def _answer(work: Coroutine[Any, Any, bytes]) -> Answered:
    try:
        return 200, await work
    except ModvisorError as error:
        return status_of(error.code), to_json(failure_body(error.code, str(error), **error.details))
