"""The address of a network, as users write it, and the addresses that follow from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from .errors import BadUse

DEFAULT_PORT = 8700
_SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}


@dataclass(frozen=True)
class Address:
    """Where a network is.

    Attributes:
        path: what stands before `/ws` and `/api`, behind a reverse proxy; mostly empty.
    """

    host: str
    port: int
    is_secure: bool
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `http://HOST:PORT`; also https, ws, wss, and HOST:PORT alone."""
        try:
            split = urlsplit(url if "://" in url else f"http://{url}")
            port = split.port
        except ValueError:
            raise _wrong(url) from None
        if split.scheme not in _SCHEMES or not split.hostname or split.query or split.fragment or split.username:
            raise _wrong(url)
        is_secure = _SCHEMES[split.scheme]
        return cls(split.hostname, port or (443 if is_secure else 80), is_secure, split.path.rstrip("/"))

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_secure else 80) else f"{host}:{self.port}"

    @property
    def ws(self) -> str:
        """The URL of the WebSocket."""
        return f"{'wss' if self.is_secure else 'ws'}://{self.netloc}{self.path}/ws"

    @property
    def http(self) -> str:
        """The URL that the routes of the HTTP API follow."""
        return f"{'https' if self.is_secure else 'http'}://{self.netloc}{self.path}"

    def __str__(self) -> str:
        return self.http


def _wrong(url: str) -> BadUse:
    return BadUse(f"url {url!r}: expected the address of a network, such as 'http://127.0.0.1:{DEFAULT_PORT}'")
