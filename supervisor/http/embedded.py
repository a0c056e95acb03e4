"""uvicorn inside a process that has other work.

It installs no signal handlers, leaves the configuration of logs alone, and its end cannot hang.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import uvicorn
from h11 import LocalProtocolError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...ipc.errors import Code
from .acceptor import Acceptor
from .answers import failure
from .failures import INTERNAL_ERROR

logger = logging.getLogger("modvisor.http")

GRACE = 1.0  # seconds in which requests may end by themselves when the server stops
_LAST_WORDS = 0.4  # seconds for the answers of the requests that are then cancelled
# Seconds. Longer than clients keep idle connections, so that no client sends into a closing one.
KEEP_ALIVE = 75.0


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
                await self._app(scope, receive, noting)
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


class _Protocol(H11Protocol):
    """HTTP without uvicorn's access log, whose lines hold the query and so the secrets of polls.

    `access_log=False` in uvicorn's config would silence the access log of every other server in
    this process, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


class EmbeddedServer(uvicorn.Server):
    """Serves an application on one listening socket.

    Do not call uvicorn's `serve`, which would catch signals. Call `open`, run `tick` in a task, then
    call `close`, which works even if that task is dead.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._requests = OpenRequests(app)
        self._acceptor: Acceptor | None = None
        super().__init__(
            uvicorn.Config(
                self._requests,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                proxy_headers=False,  # loopback is decided by the true peer, not by a header
                server_header=False,
                timeout_keep_alive=int(KEEP_ALIVE),
            )
        )

    async def open(self, sock: socket.socket, *, always: bool = False) -> None:
        """Serve on a listening socket. Connections are accepted when this returns; `close` closes it.

        Args:
            always: accept connections also when the process has no other descriptor left.
        """
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        await self.startup(sockets=[] if always else [sock])
        if always:
            self._acceptor = Acceptor(sock, self._protocol)

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def tick(self) -> None:
        """Keep the `Date` header up to date, until cancelled."""
        while True:
            await anyio.sleep(1.0)
            await self.on_tick(0)

    async def close(self) -> None:
        """Accept no more connections, wait for open requests, then cancel them.

        No task and no socket is left.
        """
        if self._acceptor is not None:
            self._acceptor.close()
        for server in self.servers:
            server.close()
        await _turns()
        for connection in list(self.server_state.connections):
            with suppress(LocalProtocolError):  # an error is closing it already
                connection.shutdown()
        await self._tasks_end(GRACE)
        self._requests.cancel()
        await self._tasks_end(_LAST_WORDS)
        for task in list(self.server_state.tasks):
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self._tasks_end(_LAST_WORDS)
        await _turns()

    async def _tasks_end(self, seconds: float) -> None:
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=seconds)


async def _turns() -> None:
    """Let the loop turn: asyncio needs it to set up accepted and to end closed connections."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
