"""The routes that are asked all the time, in front of the application.

A request goes to its endpoint right away, past ASGI, Starlette and the tasks that they start. What
middleware checks is checked here, too; whatever is refused or unusual goes the long way instead,
where it gets the same answer as ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from ...config import NetworkConfig
from ..access.web_guard import WebGuard
from ..door.clients import behind_proxies
from ..door.connection import Connection
from ..door.read_turns import in_steps
from ..wire.heads import Head, read_query
from ..wire.protocol import Answered, HttpProtocol, Route
from .asked import Asked

Endpoint = Callable[[Asked, bytes, HttpProtocol], Coroutine[Any, Any, Answered]]


class DirectRoutes:
    """Finds the endpoint of an ordinary request.

    Args:
        endpoints: by method and path.
        guard: refuses what web pages may have caused.
        config: returns the network file in force.
        keep: counts the bytes of requests that have not come whole.
    """

    def __init__(
        self,
        endpoints: Mapping[tuple[str, str], Endpoint],
        guard: WebGuard,
        config: Callable[[], NetworkConfig],
        keep: Callable[[int], None],
    ) -> None:
        self._routes = {where: self._of(endpoint) for where, endpoint in endpoints.items()}
        self._guard = guard
        self._config = config
        self._keep = keep

    def route(self, head: Head) -> Route | None:
        """Return the route of a request; None if it must go the long way."""
        route = self._routes.get((head.method, head.path))
        if route is None or head.length > self._config().http.anonymous_body:
            return None
        return None if self._guard.refusal(head.method, head.headers) is not None else route

    def keep(self, change: int) -> None:
        self._keep(change)

    def _of(self, endpoint: Endpoint) -> Route:
        def begin(head: Head, body: bytes, http: HttpProtocol) -> Awaitable[Answered]:
            connection: Connection = http.app_state["connection"]
            answering = endpoint(self._asked(head, connection), body, http)
            return in_steps(answering, connection.kept) if connection.is_timed else answering

        return begin

    def _asked(self, head: Head, connection: Connection) -> Asked:
        forwarded = head.headers.get("x-forwarded-for")
        address = behind_proxies(connection.peer, [] if forwarded is None else [forwarded], self._config().http)
        return Asked(head.headers, read_query(head.query), connection, address)
