"""uvicorn inside a process that has other work: no signal handlers, no log configuration, an end that cannot hang."""

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
from .answers import failure

logger = logging.getLogger("modvisor.http")

GRACE = 1.0  # seconds a request has to end by itself when the server stops
_LAST_WORDS = 0.4  # seconds for what comes after that: the refusals of those that did not
KEEP_ALIVE = 75.0  # longer than clients keep idle connections, lest they send into one that is being closed


class InFlight:
    """The application, and the requests it is answering: failures are logged once, and all can be told to end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._scopes: set[anyio.CancelScope] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        with anyio.CancelScope() as cancellation:
            self._scopes.add(cancellation)
            try:
                await self._app(scope, receive, noted)
            except Exception:  # without the query: secrets travel in it
                logger.exception("%s %s failed", scope.get("method"), scope.get("path"))
                if not started:
                    await failure(Code.INTERNAL, "internal error")(scope, receive, send)
            finally:
                self._scopes.discard(cancellation)
        if cancellation.cancelled_caught and not started:
            await failure(Code.NOT_RUNNING, "the network is shutting down")(scope, receive, send)

    def cancel(self) -> None:
        """End every request now; those not yet answered are answered with 503."""
        for cancellation in list(self._scopes):
            cancellation.cancel()


class _Protocol(H11Protocol):
    """Without uvicorn's access log, whose lines have the query and with it the secrets of polls.

    ``access_log=False`` in uvicorn's config would silence the access log of every other server in the process.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


class EmbeddedServer(uvicorn.Server):
    """One listening socket and what is served on it.

    `serve`, which would catch signals, is never called: `open` returns when connections are accepted, `tick` runs
    meanwhile, `close` works whether or not the task that ran `tick` is still alive.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._requests = InFlight(app)
        super().__init__(
            uvicorn.Config(
                self._requests,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                proxy_headers=False,  # the true peer decides what is loopback, not what a header claims
                server_header=False,
                timeout_keep_alive=int(KEEP_ALIVE),
            )
        )

    async def open(self, sock: socket.socket) -> None:
        """Serve on a listening socket, which is closed by `close`."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        await self.startup(sockets=[sock])

    async def tick(self) -> None:
        """Keep the ``Date`` header; runs until it is cancelled."""
        while True:
            await anyio.sleep(1.0)
            await self.on_tick(0)

    async def close(self) -> None:
        """Accept nothing more, let requests end, then make them; afterwards no task and no socket is left."""
        for server in self.servers:
            server.close()
        await _turns()
        for connection in list(self.server_state.connections):
            with suppress(LocalProtocolError):  # it is being closed for an error already
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
    """Let asyncio make the connections it has accepted, and tell those that are closed: both take a turn of the loop."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
