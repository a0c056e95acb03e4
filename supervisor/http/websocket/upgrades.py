"""Makes WebSockets of connections whose client asks for it, at `/ws`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from websockets.datastructures import Headers as HandshakeHeaders
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from ....ipc.errors import Code
from ...config import NetworkConfig
from ..access.web_guard import WebGuard
from ..agents.api import AgentsApi
from ..agents.codec import CODECS, JSON
from ..door.clients import behind_proxies
from ..door.connection import Connection
from ..requests.asked import Asked
from ..wire.protocol import HttpProtocol, last_words
from .session import Session
from .socket import WebSocket

PATH = "/ws"
_OURS = [Subprotocol(name) for name in CODECS]

# `websockets` logs each connection; strangers could fill the log.
_quiet = logging.getLogger("modvisor.http.websockets")
_quiet.setLevel(logging.CRITICAL)


class Upgrades:
    """Answers the requests that ask for a WebSocket.

    Args:
        guard: refuses what web pages may have caused.
        config: returns the network file in force.
    """

    def __init__(self, api: AgentsApi, guard: WebGuard, config: Callable[[], NetworkConfig]) -> None:
        self._api, self._guard, self._config = api, guard, config

    def takes(self, scope: Any) -> bool:
        """Return whether this request may become a WebSocket. If not, it is answered like any other."""
        headers = Headers(scope=scope)
        return (
            scope["path"] == PATH
            and scope["method"] == "GET"
            and scope["http_version"] == "1.1"
            and headers.get("upgrade", "").lower() == "websocket"
            and headers.get("content-length", "0") == "0"
            and "transfer-encoding" not in headers
            and self._guard.refusal("GET", headers) is None
        )

    def upgrade(self, http: HttpProtocol) -> WebSocket | None:
        """Answer the handshake; None: it was no valid one, and the connection is closed."""
        handshake = ServerProtocol(subprotocols=_OURS, select_subprotocol=_chosen, logger=_quiet)
        headers = HandshakeHeaders((name.decode("latin-1"), value.decode("latin-1")) for name, value in http.headers)
        response = handshake.accept(Request(PATH, headers))
        if response.status_code != 101:
            why = str(handshake.handshake_exc or "not a WebSocket handshake")
            http.transport.write(last_words(response.status_code, Code.BAD_INPUT, f"no WebSocket: {why}"))
            http.transport.close()
            return None
        http.transport.write(response.serialize())
        # Another one, which does not wait for the request that h11 has read.
        protocol = ServerProtocol(state=OPEN, max_size=self._config().http.anonymous_body, logger=_quiet)
        codec = CODECS.get(handshake.subprotocol or "", JSON)
        asked = self._asked(http)
        return WebSocket(
            http,
            protocol,
            codec,
            lambda: self._config().http,
            self._api.intake,
            lambda socket: Session(socket, self._api, asked),
        )

    def _asked(self, http: HttpProtocol) -> Asked:
        connection: Connection = http.app_state["connection"]
        headers = Headers(raw=http.headers)
        forwarded = headers.getlist("x-forwarded-for")
        return Asked(headers, {}, connection, behind_proxies(connection.peer, forwarded, self._config().http))


def _chosen(protocol: ServerProtocol, offered: Any) -> Subprotocol | None:
    """Return the first of our subprotocols that the client offers. None: it gets JSON without one."""
    return next((name for name in _OURS if name in offered), None)
