"""Keeps web pages out that have no business here.

A page on any site can make its visitor's browser send requests to this machine. The browser tells on
the page: `Origin` names the site. It asks first before it sends JSON, so a body that is not declared as
JSON is refused. And a site whose name is made to point to this machine (DNS rebinding) has its own
name in `Host`. Nobody but the owner of a public name can make it point here, so names
without a dot, addresses and the names that the network file lists are taken for ours.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ....ipc.errors import Code
from ...config import NetworkConfig
from ..content.as_msgpack import MEDIA_TYPE, media_type_of
from ..door.clients import client_address, counted_as, parsed
from ..routes.answers import failure

logger = logging.getLogger("modvisor.http")

_READING = ("GET", "HEAD", "OPTIONS")
# No keys of the network file: they bound what is remembered for speed, and for the log.
_MOST_HOSTS, _LONG_HOST = 100, 100  # hosts that are remembered, and their characters
_MOST_NAMED = 100  # refused names that are logged; a stranger can make up any number

Refusal = tuple[int, str, str]


class WebGuard:
    """Refuses requests that a web page may have caused, and lets the pages of `http.origins` in.

    Args:
        config: returns the network file in force.
        count: is told of each refusal: its code, the address, and a text.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Callable[[], NetworkConfig],
        count: Callable[[str, str, str], object] = lambda code, who, text: None,
    ) -> None:
        self._app = app
        self._config = config
        self._count = count
        self._own_name = socket.gethostname().lower()
        self._named: set[str] = set()
        self._ours: set[str] = set()  # hosts that are this network's by the file that was in force
        self._judged_by: NetworkConfig | None = None
        self._for_pages = lru_cache(maxsize=4)(self._with_cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self.refusal(scope["method"], headers)
        if refusal is not None:
            status, code, message = refusal
            self._log_once(message)
            address = client_address(scope, self._config().http)
            self._count(
                code, "socket" if address is None else counted_as(address), f"refused {scope['path']}: {message}"
            )
            await failure(code, message, status)(scope, receive, send)
            return
        origins = self._config().http.origins
        app = self._for_pages(origins) if origins and "origin" in headers else self._app
        await app(scope, receive, send)

    def refusal(self, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """Return status, code and message for a request that is refused; None: it may pass.

        Args:
            headers: by name in lower case.
        """
        host = headers.get("host")
        if host is not None and not self._is_ours(host):
            text = f"the name {host[:100]!r} is not this network's; if it is, add it to 'http.hosts'"
            return 403, Code.FORBIDDEN, text
        origin = headers.get("origin")
        if origin is not None and not self._is_let_in(origin.lower(), (host or "").lower()):
            text = f"pages of {origin[:100]!r} may not call this network; if they may, add it to 'http.origins'"
            return 403, Code.FORBIDDEN, text
        if method not in _READING and not _is_ours(headers):
            text = (
                "send the body as JSON, with the header 'Content-Type: application/json', or as 'application/msgpack'"
            )
            return 415, Code.BAD_INPUT, text
        return None

    def _is_ours(self, host: str) -> bool:
        config = self._config()
        if config is not self._judged_by or len(self._ours) > _MOST_HOSTS:
            self._judged_by, self._ours = config, set()
        if host in self._ours:
            return True
        is_ours = self._is_name_of(config, host)
        if is_ours and len(host) < _LONG_HOST:
            self._ours.add(host)
        return is_ours

    def _is_name_of(self, config: NetworkConfig, host: str) -> bool:
        name = _without_port(host.strip().lower())
        if "." not in name or parsed(name) is not None:
            return True
        return name in (config.host.lower(), self._own_name) or any(_fits(name, each) for each in config.http.hosts)

    def _is_let_in(self, origin: str, host: str) -> bool:
        """Return whether the page is ours, or may call us. A proxy may have taken TLS off: only
        names are compared."""
        scheme, _, where = origin.partition("://")
        if scheme in ("http", "https") and where == host:
            return True
        return origin in self._config().http.origins

    def _log_once(self, message: str) -> None:
        if message not in self._named and len(self._named) < _MOST_NAMED:
            self._named.add(message)
            logger.warning("refused a request: %s", message)

    def _with_cors(self, origins: tuple[str, ...]) -> ASGIApp:
        return CORSMiddleware(
            self._app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["content-type", "authorization", "x-agent-id"],
        )


def _is_ours(headers: Mapping[str, str]) -> bool:
    """Return whether the body is declared as JSON or msgpack, which no page can send unasked, or there is none."""
    if "content-type" not in headers:
        return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    kind = media_type_of(headers)
    return kind in ("application/json", MEDIA_TYPE) or (kind.startswith("application/") and kind.endswith("+json"))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _fits(name: str, pattern: str) -> bool:
    return pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
