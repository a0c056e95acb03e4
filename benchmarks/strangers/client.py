"""A small HTTP client: one connection, one request at a time, from an address of one's choice."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

HONEST = "127.0.0.1"
PROXY = "127.77.0.1"
"""Both are this machine, as is every other attacker's 127.66.0.N. The network counts them apart."""


class Client:
    """Asks a network. A connection that was closed between two requests is opened anew."""

    def __init__(self, port: int, source: str = HONEST) -> None:
        self._port = port
        self._source = source
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._source, 0))
        return self._streams

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request and return status and JSON of its answer. A connection that ends raises OSError."""
        reader, writer = await self.open()
        content = b"" if body is None else json.dumps(body).encode()
        writer.write(head(method, path, len(content), **headers) + content)
        status = int((await reader.readline()).split(b" ", 2)[1:2][0] or 0) if not reader.at_eof() else 0
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        found = await reader.readexactly(length)
        return status, json.loads(found) if found else None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._streams is not None:
            with suppress(Exception):
                self._streams[1].transport.abort()
            self._streams = None


def head(method: str, path: str, length: int, **headers: str) -> bytes:
    """Return the head of a request with a JSON body."""
    lines = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(length), **headers}
    return (f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode()
