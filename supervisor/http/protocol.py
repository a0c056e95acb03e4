"""HTTP on one connection: uvicorn's protocol, with a short way for ordinary requests in front of it.

- `data_received` is uvicorn's way: h11 reads the request, and an ASGI application answers it.
- `ordinary_received` looks first whether the request is an ordinary one for a route that is asked all
  the time (`direct`). Such a request is answered right away: a fifth of the work. Whatever else comes
  goes uvicorn's way, byte for byte.

A connection has one request at a time. What comes before its answer waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from ...ipc.errors import Code
from .failures import INTERNAL_ERROR, failure_body
from .heads import Head, read_head
from .parser import Parser
from .wire import to_json

READ_SIZE = 16 * 1024
"""Bytes of one read. A read of 256 KB that holds chunks of one byte takes uvicorn a second."""

logger = logging.getLogger("modvisor.http")

# uvicorn warns about each request that is no HTTP; a stranger could fill the log.
_uvicorn_log = logging.getLogger("modvisor.http.uvicorn")
_uvicorn_log.setLevel(logging.ERROR)

Answered = tuple[int, bytes]  # status, JSON
Answering = Coroutine[Any, Any, Answered]


class Route(Protocol):
    """Answers an ordinary request. An exception is a mistake of ours."""

    def __call__(self, head: Head, body: bytes, http: HttpProtocol) -> Answering: ...


class Direct(Protocol):
    """Knows the routes that are answered without ASGI."""

    def route(self, head: Head) -> Route | None:
        """Return the route of a request; None if it must go uvicorn's way."""
        ...


class HttpProtocol(H11Protocol):
    """HTTP without uvicorn's access log, whose lines hold the query and so the secrets of polls.

    `access_log=False` in uvicorn's config would silence the access log of every other server in
    this process, too.

    Attributes:
        answering: the ordinary request that is being answered.
        answered: how many ordinary requests were answered.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], direct: Direct | None = None
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.access_log = False
        self.logger = _uvicorn_log
        self.conn = Parser()
        self.answering: asyncio.Task[None] | None = None
        self.answered = 0
        self._direct = direct
        self._unread = b""  # the part of an ordinary request that has come, or what came before its answer
        self._missing: tuple[Head, Route] | None = None  # an ordinary request whose body has not come
        self._is_ending = False
        self._rests_since = 0.0
        self._lost = asyncio.Event()

    @property
    def is_reading(self) -> bool:
        """Whether the rest of an ordinary request is waited for."""
        return self._missing is not None

    # -- ordinary requests

    def ordinary_received(self, data: bytes) -> None:
        """Take what a client sent that has proved who it is."""
        if self.answering is not None:
            self._unread += data
            self.flow.pause_reading()
        elif self._missing is not None:
            self._go_on(self._unread + data, *self._missing)
        elif (head := self._head_of(data)) is None or (route := self._route(head)) is None:
            self.data_received(data)
        else:
            self._go_on(data, head, route)

    def _head_of(self, data: bytes) -> Head | None:
        """Return the head of an ordinary request that begins here, if none is being read or answered."""
        conn = self.conn
        is_between = conn.our_state is h11.IDLE and conn.their_state is h11.IDLE and not conn.trailing_data[0]
        return read_head(data) if is_between and not self.flow.write_paused else None

    def _route(self, head: Head) -> Route | None:
        if self._direct is None or head.size + head.length > READ_SIZE:
            return None
        return self._direct.route(head)

    def _go_on(self, data: bytes, head: Head, route: Route) -> None:
        """Answer the request if it is whole."""
        left = head.size + head.length - len(data)
        if left > 0:
            self._unread, self._missing = data, (head, route)
            return
        self._unread, self._missing = b"", None
        if left < 0:  # another request behind it, before the answer: rare
            self.data_received(data)
            return
        work = self._answer(route(head, data[head.size :], self), head)
        self.answering = task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, work: Answering, head: Head) -> None:
        try:
            status, body = await work
        except asyncio.CancelledError:
            status, body = 503, to_json(failure_body(Code.NOT_RUNNING, "the network is shutting down"))
        except Exception:  # logged without the query, which may hold a secret
            logger.exception("%s %s failed", head.method, head.path)
            status, body = 500, to_json(failure_body(Code.INTERNAL, INTERNAL_ERROR))
        self._write(status, body)
        self._rest()

    def _write(self, status: int, body: bytes) -> None:
        """Write an answer as `answers.Answer` and uvicorn do."""
        if self.transport.is_closing():
            return
        head = b"HTTP/1.1 %d %b\r\n%bcache-control: no-store\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n"
        common = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        self.transport.write(head % (status, STATUS_PHRASES[status], common, len(body)) + body)

    def _rest(self) -> None:
        """Wait for the next request."""
        self.answering = None
        self.answered += 1
        self.server_state.total_requests += 1
        if self._is_ending:
            self.transport.close()
        if self.transport.is_closing():
            return
        self._rests_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._rest_for(self.timeout_keep_alive)
        if self._unread:
            data, self._unread = self._unread, b""
            self.flow.resume_reading()
            self.ordinary_received(data)

    # -- the keep-alive timer goes on while ordinary requests come: a new one for each would cost more

    def _rest_for(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        is_busy = self.answering is not None or self._missing is not None
        left = self.timeout_keep_alive if is_busy else self._rests_since + self.timeout_keep_alive - self.loop.time()
        if left > 0 and not self.transport.is_closing():
            self._rest_for(left)
        else:
            super().timeout_keep_alive_handler()

    # -- the end

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._unread, self._missing = b"", None
        self._lost.set()

    def shutdown(self) -> None:
        """Close the connection when its request is answered."""
        self._is_ending = True
        if self._missing is not None:  # uvicorn waits for the rest of it
            data, self._unread, self._missing = self._unread, b"", None
            self.data_received(data)
        if self.answering is None:
            super().shutdown()

    @property
    def is_lost(self) -> bool:
        return self.transport.is_closing()

    async def until_lost(self) -> None:
        """Wait until the client is gone."""
        await self._lost.wait()

    def cancel(self) -> None:
        """Cancel an ordinary request: it is answered with 503."""
        if self.answering is not None:
            self.answering.cancel()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(last_words(400, Code.BAD_INPUT, "this is no valid HTTP request"))
        self.transport.close()


def last_words(status: int, code: str, message: str) -> bytes:
    """Return a whole answer, for a connection that is closed behind it."""
    body = to_json(failure_body(code, message))
    head = (
        f"HTTP/1.1 {status} {STATUS_PHRASES[status].decode()}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
