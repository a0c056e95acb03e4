"""Finds a server that takes this node: which are known, in which order they are tried, and how often."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from ...causes import cause
from ...config import ClusterConfig
from .connection import Connection
from .errors import ClusterError, Refused, TlsFailed, Unreachable, WrongCredentials
from .failures import of_connecting

logger = logging.getLogger("modvisor.cluster")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two rounds over all servers, doubled each time. Each pause is 0.5 to 1.5 times as
long, so that the nodes of a server that died do not come to the next one all at once."""

PINGS_PER_LEASE = 8
_CONNECT_TIMEOUT = 0.5
"""As a share of the lease: a server that does not answer is left in time to renew the lease at another one."""


MOST_LEARNED = 16
"""Servers that are tried besides those of the file. A round over all of them must end in time."""


class Pause:
    """The pauses between attempts, each longer than the last, and what is said of the failures: each once."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE
        self._told = ""

    async def wait(self) -> None:
        await asyncio.sleep(self._seconds * random.uniform(0.5, 1.5))
        self._seconds = min(2 * self._seconds, LONGEST_PAUSE)

    def tell(self, error: ClusterError) -> None:
        if str(error) != self._told:
            logger.warning("not connected to the cluster's servers: %s", error)
            self._told = str(error)


class Dialer:
    """Connects a node to one of its servers.

    Attributes:
        servers: URLs: those of the file, and those that servers have named and that were not found away since.
    """

    def __init__(self, config: ClusterConfig, inbox: str, on_lost: Callable[[str], None]) -> None:
        self._config = config
        self._inbox = inbox
        self._on_lost = on_lost
        self.servers = list(config.servers)
        self.url = ""
        self._away: set[str] = set()  # tried in vain since the last connection

    async def once(self) -> Connection:
        """Try each server once, in random order, the one that was lost last.

        Raises:
            ClusterError: of all failures the one that does not pass by itself, else the first one.
        """
        failures: list[ClusterError] = []
        for url in self._in_order():
            try:
                return await self._dial(url)
            except ClusterError as error:
                self._away.add(url)
                failures.append(error)
        raise _worst(failures)

    async def forever(self) -> Connection:
        """Try until a server takes this node."""
        pause = Pause()
        while True:
            await pause.wait()
            try:
                return await self.once()
            except ClusterError as error:
                pause.tell(error)

    def _in_order(self) -> list[str]:
        return sorted(self.servers, key=lambda url: (url == self.url, random.random()))

    async def _dial(self, url: str) -> Connection:
        config = self._config
        connection = Connection(self._on_lost)
        timeout = max(1.0, config.lease * _CONNECT_TIMEOUT)
        try:
            await connection.open(url, timeout, config.lease / PINGS_PER_LEASE, self._is_tls(url), **self._options(url))
        except ClusterError:
            raise
        except Exception as error:  # noqa: BLE001 of nats-py, TLS, nkeys or the system; each becomes one of ours
            raise of_connecting(error, url, config) from None
        self.url = url
        self._learn(connection.others)
        return connection

    def _learn(self, named: Iterable[str]) -> None:
        """Take note of the servers that the present one knows now; what it does not name and was away is gone."""
        others = [*named, *(url for url in self.servers if url not in self._away)]
        learned = dict.fromkeys(url for url in others if url not in self._config.servers)
        self.servers = [*self._config.servers, *list(learned)[:MOST_LEARNED]]
        self._away.clear()

    def _is_tls(self, url: str) -> bool:
        return self._config.tls is not None or url.startswith(("tls://", "wss://"))

    def _options(self, url: str) -> dict[str, Any]:
        config = self._config
        options: dict[str, Any] = {"name": f"modvisor {config.node}", "inbox_prefix": self._inbox}
        if config.credentials is not None:
            options["user_credentials"] = _readable(config.credentials, "credentials")
        if config.nkey is not None:
            options["nkeys_seed"] = _readable(config.nkey, "nkey")
        if config.user is not None and config.password is not None:
            options |= {"user": config.user, "password": config.password.resolve()}
        if self._is_tls(url):
            options |= {"tls": self._context(), "tls_hostname": self._name_in_certificate(url)}
        return options

    def _context(self) -> ssl.SSLContext:
        tls = self._config.tls
        files = [path for path in (tls.ca, tls.cert, tls.key) if path is not None] if tls is not None else []
        try:
            context = ssl.create_default_context(cafile=tls.ca if tls is not None else None)
            if tls is not None and tls.cert is not None:
                context.load_cert_chain(tls.cert, tls.key)
        except OSError as error:  # of TLS too
            named = ", ".join(map(str, files))
            raise TlsFailed(
                f"cannot use the files of 'cluster.tls' ({named}): {error.strerror or error}; expected PEM files that "
                "this user may read"
            ) from None
        return context

    def _name_in_certificate(self, url: str) -> str:
        """Return the host of a server of the file: servers name one another by addresses, which certificates lack."""
        named = url if url in self._config.servers else self._config.servers[0]
        return urlsplit(named).hostname or ""


def _readable(path: Any, key: str) -> str:
    try:
        path.read_bytes()
    except OSError as error:
        raise WrongCredentials(f"cannot read the file of 'cluster.{key}': {cause(error, path)}") from None
    return str(path)


def _worst(failures: list[ClusterError]) -> ClusterError:
    for error in failures:
        if isinstance(error, Refused):
            return error
    if len(failures) == 1:
        return failures[0]
    if not failures:
        return Unreachable("no NATS server is named; set 'cluster.servers', or start one with 'modvisor cluster up'")
    return Unreachable("; ".join(map(str, failures)))
