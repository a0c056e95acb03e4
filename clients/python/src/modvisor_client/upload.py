"""Sends a large event over HTTP, piece by piece: `POST /api/send_event` in msgpack."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anyio
import httpx
import msgpack

from .address import Address
from .backoff import Backoff
from .errors import BadUse, Closed, RemoteProtocolError, Unreachable
from .event import Response
from .pieces import PIECE, FileBytes, Piece, pieces_of, size_of
from .session import Identity

logger = logging.getLogger("modvisor_client")

MSGPACK = "application/msgpack"
ATTEMPTS_FOR = 60.0
"""Seconds for which an upload is tried again if the network is away and the event has no deadline."""


class Uploads:
    """The large events of an agent."""

    def __init__(self, address: Address, identity: Identity, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._identity = identity
        self._http = httpx.AsyncClient(verify=context or False, timeout=httpx.Timeout(60, read=None))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def send(self, event: dict[str, Any], seconds: float | None) -> Response:
        """Send an event, and again with the same id if the connection breaks.

        Args:
            seconds: how long to try.

        Raises:
            Unreachable: the network did not answer in time.
        """
        backoff, end = Backoff(), anyio.current_time() + (seconds or ATTEMPTS_FOR)
        while True:
            try:
                return await self._send_once(event)
            except httpx.TransportError as error:
                wait = backoff.next()
                if anyio.current_time() + wait > end:
                    raise Unreachable(f"the upload to {self._address} failed: {error!r}") from error
                logger.debug("an upload failed and is tried again: %r", error)
                await anyio.sleep(wait)

    async def _send_once(self, event: dict[str, Any]) -> Response:
        secret, agent_id = self._identity.secret, self._identity.agent_id
        if secret is None:
            raise Closed(f"agent {agent_id} is not registered any more")
        pieces = list(pieces_of({**event, "source_id": agent_id, "secret": secret}))
        answer = await self._http.post(
            f"{self._address.http}/api/send_event",
            content=_sent(pieces),
            headers={
                "Content-Type": MSGPACK,
                "Accept": MSGPACK,
                "Content-Length": str(size_of(pieces)),
                "X-Agent-Id": agent_id,
                "Authorization": f"Bearer {secret}",
            },
        )
        said = _content(answer)
        return Response.from_wire({**said, "message": said.get("message") or f"HTTP {answer.status_code}"})


async def _sent(pieces: Iterable[Piece]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, FileBytes):
            async for part in _file(piece):
                yield part
        else:
            yield bytes(piece)


async def _file(piece: FileBytes) -> AsyncIterator[bytes]:
    left = piece.size
    try:
        async with await anyio.open_file(piece.path, "rb") as file:
            while left:
                part = await file.read(min(PIECE, left))
                if not part:
                    raise BadUse(f"file {piece.path}: became shorter while it was sent")
                left -= len(part)
                yield part
    except OSError as error:
        raise BadUse(f"file {piece.path}: {error.strerror}") from error


def _content(answer: httpx.Response) -> dict[str, Any]:
    is_msgpack = answer.headers.get("content-type", "").startswith(MSGPACK)
    try:
        said = msgpack.unpackb(answer.content, timestamp=3, strict_map_key=False) if is_msgpack else answer.json()
    except ValueError as error:
        raise RemoteProtocolError(f"HTTP {answer.status_code} without an answer that can be read") from error
    if not isinstance(said, dict):
        raise RemoteProtocolError(f"HTTP {answer.status_code} without an answer that can be read")
    return said
