"""uvicorn inside a process that has other work.

It installs no signal handlers, leaves the configuration of logs alone, and its end cannot hang.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

import anyio
import anyio.lowlevel
import uvicorn
from h11 import LocalProtocolError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...ipc.errors import Code
from ..config import HttpConfig
from .content.failures import INTERNAL_ERROR
from .door.connection import Connection
from .door.door import INTERVAL, Door
from .door.listener import Listener
from .door.places import Rank
from .door.read_turns import in_steps
from .door.tls import Certificate
from .routes.answers import failure
from .wire.protocol import Direct, HttpProtocol, Upgrades

logger = logging.getLogger("modvisor.http")

_LAST_WORDS = 0.4  # seconds for the answers of requests that are cancelled when the server stops


class OpenRequests:
    """An application with the requests that it is answering.

    It logs each failure once, and it can cancel all requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._scopes: set[anyio.CancelScope] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        with anyio.CancelScope() as cancellation:
            self._scopes.add(cancellation)
            try:
                await _counted(self._app(scope, receive, noting), scope)
            except Exception:  # logged without the query, which may hold a secret
                logger.exception("%s %s failed", scope.get("method"), scope.get("path"))
                if not started:
                    await failure(Code.INTERNAL, INTERNAL_ERROR)(scope, receive, send)
            finally:
                self._scopes.discard(cancellation)
        if cancellation.cancelled_caught and not started:
            await failure(Code.NOT_RUNNING, "the network is shutting down")(scope, receive, send)

    def cancel(self) -> None:
        """Cancel every request. A request without an answer so far is answered with 503."""
        for cancellation in list(self._scopes):
            cancellation.cancel()


def _counted(answering: Awaitable[None], scope: Scope) -> Awaitable[None]:
    """Count the time for which a request keeps the loop, if it may take only a share of the loop's time."""
    connection: Connection | None = scope.get("state", {}).get("connection")
    if connection is None or not connection.is_timed:
        return answering
    return in_steps(cast("Coroutine[Any, Any, None]", answering), connection.kept)


class EmbeddedServer(uvicorn.Server):
    """Serves an application on one listening socket.

    Do not call uvicorn's `serve`, which would catch signals. Call `open`, run `tick` in a task, then
    call `close`, which works even if that task is dead.

    Args:
        door: decides who gets in and who may stay. None: everybody, for as long as they like.
        direct: knows the routes that are answered without the application.
        limits: returns the limits in force.
        upgrades: makes WebSockets of connections. None: nothing does.
        certificate: None: connections are plain.
    """

    def __init__(
        self,
        app: ASGIApp,
        door: Door | None = None,
        direct: Direct | None = None,
        limits: Callable[[], HttpConfig] = HttpConfig,
        upgrades: Upgrades | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._limits = limits
        self._upgrades = upgrades
        self._certificate = certificate
        self._requests = OpenRequests(app)
        self._door = door
        self._direct = direct
        super().__init__(
            uvicorn.Config(
                self._requests,
                http=HttpProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                proxy_headers=False,  # loopback is decided by the true peer, not by a header
                server_header=False,
            )
        )

    async def open(self, sock: socket.socket) -> None:
        """Serve on a listening socket. Connections are accepted when this returns; `close` closes it."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        await self.lifespan.startup()
        self.listener = Listener(
            sock, self._connection, self._door, self._certificate, lambda: self._limits().header_timeout
        )
        self.listener.start()
        self.started = True

    def _connection(self) -> Connection:
        def http(connection: Connection) -> HttpProtocol:
            # uvicorn gives each request a copy of this as `scope["state"]`.
            state = {"connection": connection}
            keep_alive = self._limits().keep_alive
            return HttpProtocol(self.config, self.server_state, state, self._direct, keep_alive, self._upgrades)

        connection = Connection(http, self._door)
        if self._door is None:
            connection.rank = Rank.KNOWN
        return connection

    async def tick(self) -> None:
        """Keep the `Date` header up to date, and dismiss connections that the door no longer lets stay."""
        while True:
            await anyio.sleep(INTERVAL)
            await self.on_tick(0)
            self.listener.refill()
            if self._certificate is not None:
                await self._certificate.look()
            if self._door is not None:
                await self._door.look(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Accept no more connections, wait for open requests, then cancel them.

        No task and no socket is left.
        """
        self.listener.close()
        await _turns()
        for connection in self._protocols():
            with suppress(LocalProtocolError):  # an error is closing it already
                connection.shutdown()
        await self._tasks_end(self._limits().stop_timeout)
        self._requests.cancel()
        for connection in self._protocols():
            connection.cancel()
        await self._tasks_end(_LAST_WORDS)
        for task in list(self.server_state.tasks):
            task.cancel()
        for connection in self._protocols():
            connection.transport.abort()
        await self._tasks_end(_LAST_WORDS)
        await _turns()

    def _protocols(self) -> list[HttpProtocol]:
        return [each for each in self.server_state.connections if isinstance(each, HttpProtocol)]

    async def _tasks_end(self, seconds: float) -> None:
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=seconds)


async def _turns() -> None:
    """Let the loop turn: asyncio needs it to set up accepted and to end closed connections."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
