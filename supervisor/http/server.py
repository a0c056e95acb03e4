"""The network's servers: agents over TCP, the operator over a unix socket."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup
from starlette.types import ASGIApp

from .admin_api import admin_app
from .agents_api import agents_app
from .embedded import EmbeddedServer
from .gate import AdminGate
from .sockets import CannotListen, tcp_socket, unix_socket

if TYPE_CHECKING:
    from ..operations import Operations

logger = logging.getLogger("modvisor.http")


class Servers:
    """Starts and stops what the network serves.

    Attributes:
        port: the TCP port that is listened on, None if there is none.
    """

    def __init__(self, network: Operations, tasks: TaskGroup) -> None:
        self._network = network
        self._tasks = tasks
        self._stopping = asyncio.Event()
        self._servers: list[EmbeddedServer] = []
        self._has_admin_socket = False
        self.port: int | None = None

    async def start(self, *, admin: bool) -> None:
        """Serve; returns when connections are accepted.

        Args:
            admin: serve the admin API on the unix socket of the state directory.

        Raises:
            CannotListen: names the address and what to do. `stop` cleans up what was started before.
            ModvisorError: the admin token cannot be read.
        """
        config = self._network.config
        if config.port is not None:
            app = self._tcp_app()
            sock = await tcp_socket(config.host, config.port)
            self.port = sock.getsockname()[1]
            await self._serve(app, sock)
            logger.debug("agents connect to http://%s:%s", config.host, self.port)
        if admin:
            path = self._network.state_dir.admin_socket
            sock = unix_socket(path)
            self._has_admin_socket = True
            await self._serve(admin_app(self._network, self._stopping), sock)
            logger.debug("the admin API is at %s", path)

    async def stop(self) -> None:
        """Serve no more: long-polls and streams end at once, other requests have a second. May be called again."""
        self._stopping.set()
        servers, self._servers = self._servers, []
        async with anyio.create_task_group() as tasks:
            for server in servers:
                tasks.start_soon(server.close)
        if self._has_admin_socket:
            self._has_admin_socket = False
            self._network.state_dir.admin_socket.unlink(missing_ok=True)
        self.port = None

    def _tcp_app(self) -> ASGIApp:
        agents = agents_app(self._network, self._stopping)
        token = self._network.config.admin.token
        if token is None:
            return agents
        return AdminGate(agents, admin_app(self._network, self._stopping), token.resolve())

    async def _serve(self, app: ASGIApp, sock: socket.socket) -> None:
        server = EmbeddedServer(app)
        try:
            await server.open(sock)
        except BaseException:
            sock.close()
            raise
        self._servers.append(server)
        self._tasks.start_soon(self._tick, server, name="http-server")

    async def _tick(self, server: EmbeddedServer) -> None:
        try:
            await server.tick()
        except Exception:  # what it serves does not depend on it
            logger.exception("the clock of the HTTP server ended; the Date header stands still")


__all__ = ["CannotListen", "Servers"]
