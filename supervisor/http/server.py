"""The network's servers: agents over TCP, the operator over a unix socket, with a token over TCP too."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from starlette.types import ASGIApp

from ...ipc.errors import Code
from ..agents import Guesses
from ..config import bare_bind
from .access.gate import AdminGate, SocketGate
from .access.sessions import Sessions
from .access.web_guard import WebGuard
from .admin.app import admin_app
from .admin.live import LiveView
from .agents.api import AgentsApi
from .board.page import Board
from .door.door import Door
from .door.sockets import CannotListen, tcp_socket, unix_socket
from .door.tls import Certificate
from .embedded import EmbeddedServer
from .probes import Probes
from .requests.direct import DirectRoutes
from .websocket.upgrades import Upgrades
from .wire.protocol import last_words

if TYPE_CHECKING:
    from ..operations import Operations

logger = logging.getLogger("modvisor.http")


class Servers:
    """Starts and stops the servers of a network.

    Args:
        refuses: returns why the process at the other end of a connection is refused at the admin socket.

    Attributes:
        port: the TCP port that the network listens on, or None.
        door: the connections of that port, or None.
    """

    def __init__(
        self, network: Operations, tasks: TaskGroup, refuses: Callable[[socket.socket], str | None] = lambda _: None
    ) -> None:
        self._refuses = refuses
        self._network = network
        self._tasks = tasks
        self._stopping = asyncio.Event()
        self._servers: list[EmbeddedServer] = []
        self._has_admin_socket = False
        self._sessions = Sessions(
            lambda: network.config.dashboard, lambda token: network.tokens_in_force().is_valid(token)
        )
        self._view = LiveView(network)
        self._probes = Probes(network)
        self.door: Door | None = None
        self.port: int | None = None

    @cached_property
    def _admin(self) -> ASGIApp:
        """The operator's application, which the port and the unix socket share."""
        return admin_app(self._network, self._stopping, self._sessions, self._view, self._probes)

    async def start(self, *, admin: bool) -> None:
        """Start to serve. When this returns, connections are accepted.

        Args:
            admin: serve the admin API on the unix socket of the state directory.

        Raises:
            CannotListen: names the address and the next step. Servers that were started before the
                failure are ended by `stop`.
            ModvisorError: the admin token cannot be read.
        """
        config, probes = self._network.config, self._probes
        if config.port is not None:
            door = self.door = Door(lambda: self._network.config.http)
            agents = AgentsApi(self._network, self._stopping, door.make_room_for_bodies)
            guarded = self._guarded(self._tcp_app(agents))
            direct = DirectRoutes(
                agents.direct() | probes.direct(), guarded, lambda: self._network.config, agents.intake.keep
            )
            upgrades = Upgrades(agents, guarded, lambda: self._network.config)
            certificate = await self._certificate()
            sock = await tcp_socket(config.host, config.port)
            self.port = sock.getsockname()[1]
            await self._serve(guarded, sock, door, direct, upgrades, certificate)
            logger.debug("agents connect to port %s of %s", self.port, config.host)
        if admin:
            path = self._network.state_dir.admin_socket
            sock = unix_socket(path, self._refused_peer)
            self._has_admin_socket = True
            await self._serve(self._guarded(SocketGate(self._admin)), sock)
            logger.debug("the admin API is at %s", path)

    async def stop(self) -> None:
        """Stop to serve. Long-polls and streams end at once, other requests within `http.stop_timeout`.

        It may be called again.
        """
        self._stopping.set()
        servers, self._servers = self._servers, []
        async with anyio.create_task_group() as tasks:
            for server in servers:
                tasks.start_soon(server.close)
        if self._has_admin_socket:
            self._has_admin_socket = False
            self._network.state_dir.admin_socket.unlink(missing_ok=True)
        self.port = self.door = None

    async def _certificate(self) -> Certificate | None:
        """Read the certificate, if there is one. Raises `CannotListen`, `BadCertificate`."""
        config = self._network.config
        if (bare := bare_bind(config.host, config.tls, config.insecure)) is not None:
            raise CannotListen(f"cannot listen on {config.host}: {bare}")
        if config.tls is not None:
            return await anyio.to_thread.run_sync(Certificate, config.tls)
        if bare_bind(config.host, None, False) is not None:
            logger.warning("other machines reach %s without TLS, as 'network.insecure' says: whoever is on the way reads "
                           "secrets and events", config.host)  # fmt: skip
        return None

    def _tcp_app(self, api: AgentsApi) -> ASGIApp:
        network, token = self._network, self._network.config.admin.token
        gate = AdminGate(
            api.app(self._probes.of_port()),
            self._admin,
            None if token is None else token.resolve(),
            network.note_refusal,
            Guesses(lambda: network.config.agents),
            tokens=network.tokens_in_force,
            config=lambda: network.config.admin,
            http=lambda: network.config.http,
            login=lambda by: network.audit_note("operator.login", by=by),
            sessions=self._sessions,
            is_gated=self._probes.is_gated,
        )
        return Board(gate, lambda: network.config)

    def _refused_peer(self, connection: socket.socket) -> bytes | None:
        """Return the answer for a process that may not speak to the admin socket; None if it may."""
        if (reason := self._refuses(connection)) is None:
            return None
        self._network.note_refusal(
            str(Code.FORBIDDEN), "unix socket", f"refused a connection to the admin socket: {reason}"
        )
        return last_words(403, Code.FORBIDDEN, f"the admin socket is not for processes of mods: {reason}")

    def _guarded(self, app: ASGIApp) -> WebGuard:
        return WebGuard(app, lambda: self._network.config, self._network.count_refusal)

    async def _serve(
        self,
        app: ASGIApp,
        sock: socket.socket,
        door: Door | None = None,
        direct: DirectRoutes | None = None,
        upgrades: Upgrades | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        server = EmbeddedServer(app, door, direct, lambda: self._network.config.http, upgrades, certificate)
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
        except Exception:  # the server goes on without its clock
            logger.exception("the clock of the HTTP server ended; the Date header stands still")
