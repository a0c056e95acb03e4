"""HTTP on one connection: uvicorn's protocol, with a short way for ordinary requests in front of it.

- `data_received` is uvicorn's way: h11 reads the request, and an ASGI application answers it.
- `ordinary_received` looks first whether the request is an ordinary one for a route that is asked all
  the time (`requests.direct`). Such a request is answered right away: a fifth of the work. Whatever else comes
  goes uvicorn's way, byte for byte.

A connection has one request at a time. What comes before its answer waits. One that has become a
WebSocket has none any more: all that comes goes to its socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import anyio
import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from ....ipc.errors import Code, ModvisorError
from ..content.as_json import to_json
from ..content.as_msgpack import MEDIA_TYPE, Packed
from ..content.failures import INTERNAL_ERROR, failure_body, status_of
from .heads import Head, read_head
from .parser import Parser
from .phase import Phase

READ_SIZE = 16 * 1024
"""Bytes of one read. A read of 256 KB that holds chunks of one byte takes uvicorn a second. No key of
the network file: it says how long one turn of the loop is."""

logger = logging.getLogger("modvisor.http")

# uvicorn warns about each request that is no HTTP; a stranger could fill the log.
_uvicorn_log = logging.getLogger("modvisor.http.uvicorn")
_uvicorn_log.setLevel(logging.ERROR)

MOST_HEADS = 4
"""Heads that a connection remembers: a client sends the same again and again. No key of the network
file, as it is for speed alone."""

LONG_HEAD = 1024
"""Bytes above which a head is not remembered."""


Answered = bytes | tuple[int, bytes]
"""The body of an answer, with its status unless that is 200."""


class Route(Protocol):
    """Answers an ordinary request."""

    def __call__(self, head: Head, body: bytes, http: HttpProtocol) -> Awaitable[Answered]:
        """Return the answer; raise `ModvisorError` for a failure."""
        ...


class Direct(Protocol):
    """Knows the routes that are answered without ASGI."""

    def route(self, head: Head) -> Route | None:
        """Return the route of a request; None if it must go uvicorn's way."""
        ...

    def keep(self, change: int) -> None:
        """Count the bytes of requests that have not come whole, or that wait."""
        ...


class Socket(Protocol):
    """A WebSocket that a connection has become; see `websocket.socket`."""

    @property
    def phase(self) -> Phase: ...
    def received(self, data: bytes) -> None: ...
    def resumed(self) -> None: ...
    def dismiss(self, status: int | None, code: str, message: str) -> None: ...
    def stop(self, *, at_once: bool = False) -> None: ...
    def lost(self) -> None: ...


class Upgrades(Protocol):
    """Makes WebSockets of connections; see `websocket.upgrades`."""

    def takes(self, scope: Any) -> bool:
        """Return whether this request may become a WebSocket. If not, it is answered like any other."""
        ...

    def upgrade(self, http: HttpProtocol) -> Socket | None:
        """Answer the request; None: it was no valid handshake."""
        ...


class HttpProtocol(H11Protocol):
    """HTTP without uvicorn's access log, whose lines hold the query and so the secrets of polls.

    `access_log=False` in uvicorn's config would silence the access log of every other server in
    this process, too.

    Attributes:
        answering: the ordinary request that is being answered.
        answered: how many ordinary requests were answered.
        in_turn: does what is to be done for a request when the connection has its turn.
        socket: what the connection has become; None: it speaks HTTP.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        direct: Direct | None = None,
        keep_alive: float | None = None,
        upgrades: Upgrades | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.socket: Socket | None = None
        self._upgrades = upgrades
        self.access_log = False
        if keep_alive is not None:
            self.timeout_keep_alive = keep_alive  # type: ignore[assignment] # uvicorn's setting takes no fractions
        self.logger = _uvicorn_log
        self.conn = Parser()
        self.answering: asyncio.Task[None] | None = None
        self.answered = 0
        self.in_turn: Callable[[Callable[[], None]], None] = _at_once
        self._direct = direct
        self._unread = b""  # the part of an ordinary request that has come, or what came before an answer
        self._missing: tuple[Head, Route] | None = None  # an ordinary request whose body has not come
        self._is_ending = False
        self._is_behind = False
        self._rests_since = 0.0
        self._heads: dict[bytes, Head] = {}
        self._is_between = False  # for certain: uvicorn's way has nothing to do
        self._wait: anyio.CancelScope | None = None
        self._common, self._common_of = b"", self.server_state.default_headers

    @property
    def is_reading(self) -> bool:
        """Whether the rest of an ordinary request is waited for."""
        return self._missing is not None

    # -- ordinary requests

    def ordinary_received(self, data: bytes) -> None:
        """Take what a client sent."""
        if self.socket is not None:
            self.socket.received(data)
        elif self.answering is not None:
            self._keep(self._unread + data)
            self.flow.pause_reading()
        elif self._missing is not None:
            self._go_on(self._unread + data, *self._missing)
        elif (head := self._head_of(data)) is None or (route := self._route(head)) is None:
            self.data_received(data)
        else:
            self._go_on(data, head, route)

    def data_received(self, data: bytes) -> None:
        self._is_between = False
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._is_behind = True
        super().on_response_complete()
        self._is_behind = False

    def handle_events(self) -> None:
        if self._is_behind and self.conn.trailing_data[0]:  # a request that came before the answer to the last one
            self.in_turn(super().handle_events)
        else:
            super().handle_events()

    # -- a connection that becomes a WebSocket

    def _should_upgrade(self) -> bool:
        return self._upgrades is not None and self._upgrades.takes(self.scope)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        assert self._upgrades is not None
        self.socket = self._upgrades.upgrade(self)
        if self.socket is not None and (behind := self.conn.trailing_data[0]):
            self.socket.received(behind)

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this in a task, which the end of the server waits for."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.socket is not None:
            self.socket.resumed()

    def _head_of(self, data: bytes) -> Head | None:
        """Return the head of an ordinary request that begins here, if none is being read or answered."""
        if not self._is_between:
            conn = self.conn
            is_idle = conn.our_state is h11.IDLE and conn.their_state is h11.IDLE
            self._is_between = is_idle and not conn.trailing_data[0]
        if not self._is_between or self.flow.write_paused:
            return None
        text = data[: data.find(b"\r\n\r\n") + 4]
        head = self._heads.get(text)
        if head is None and (head := read_head(text)) is not None and head.size < LONG_HEAD:
            if len(self._heads) == MOST_HEADS:
                self._heads.clear()
            self._heads[text] = head
        return head

    def _route(self, head: Head) -> Route | None:
        if self._direct is None or head.size + head.length > READ_SIZE:
            return None
        return self._direct.route(head)

    def _go_on(self, data: bytes, head: Head, route: Route) -> None:
        """Answer the request if it is whole."""
        left = head.size + head.length - len(data)
        if left > 0:
            self._keep(data)
            self._missing = head, route
            return
        self._take_kept()
        end = head.size + head.length
        if left < 0:  # another request behind it, before the answer
            self._keep(data[end:])
            self.flow.pause_reading()
        self.answering = self.loop.create_task(self._answer(route, head, data[head.size : end]))
        self.tasks.add(self.answering)

    def _keep(self, data: bytes) -> None:
        """Keep what cannot be answered yet."""
        if self._direct is not None:
            self._direct.keep(len(data) - len(self._unread))
        self._unread = data

    def _take_kept(self) -> bytes:
        data, self._missing = self._unread, None
        if data:
            self._keep(b"")
        return data

    async def _answer(self, route: Route, head: Head, body: bytes) -> None:
        try:
            answered = await route(head, body, self)
            status, answer = (200, answered) if isinstance(answered, bytes) else answered
        except ModvisorError as error:
            status, answer = status_of(error.code), to_json(failure_body(error.code, str(error), **error.details))
        except asyncio.CancelledError:
            status, answer = 503, to_json(failure_body(Code.NOT_RUNNING, "the network is shutting down"))
        except Exception:  # logged without the query, which may hold a secret
            logger.exception("%s %s failed", head.method, head.path)
            status, answer = 500, to_json(failure_body(Code.INTERNAL, INTERNAL_ERROR))
        self._write(status, answer)
        self._rest()

    def _write(self, status: int, body: bytes) -> None:
        """Write an answer as `answers.Answer` and uvicorn do."""
        if self.transport.is_closing():
            return
        headers = self.server_state.default_headers
        if headers is not self._common_of or not self._common:  # every half second, for the date
            self._common_of, self._common = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        self.transport.write(_whole_answer(status, self._common, body))

    def _rest(self) -> None:
        """Wait for the next request."""
        if self.answering is not None:
            self.tasks.discard(self.answering)
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
            self.in_turn(self._next)

    def _next(self) -> None:
        """Go on with what came before the answer."""
        data = self._take_kept()
        self.flow.resume_reading()
        self.ordinary_received(data)

    # -- requests that wait for an event

    async def is_disconnected(self) -> bool:
        """Return whether the client is gone, as Starlette's `Request` does."""
        return self.transport.is_closing()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Leave the block when the client is gone, or the server stops."""
        with anyio.CancelScope() as self._wait:
            if self.transport.is_closing() or self._is_ending:
                self._wait.cancel()
            try:
                yield
            finally:
                self._wait = None

    def _end_wait(self) -> None:
        if self._wait is not None:
            self._wait.cancel()

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
        socket, self.socket = self.socket, None
        if socket is not None:
            socket.lost()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._take_kept()
        self._end_wait()

    def shutdown(self) -> None:
        """Close the connection when its request is answered."""
        self._is_ending = True
        if self.socket is not None:
            self.socket.stop()
            return
        if self._missing is not None:  # uvicorn waits for the rest of it
            self.data_received(self._take_kept())
        if self.answering is None:
            super().shutdown()
        self._end_wait()

    def cancel(self) -> None:
        """Cancel an ordinary request: it is answered with 503. A WebSocket ends."""
        if self.socket is not None:
            self.socket.stop(at_once=True)
        if self.answering is not None:
            self.answering.cancel()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(last_words(400, Code.BAD_INPUT, "this is no valid HTTP request"))
        self.transport.close()


def _at_once(work: Callable[[], None]) -> None:
    work()


_ANSWER = b"""\
HTTP/1.1 %d %b\r
%bcache-control: no-store\r
content-length: %d\r
content-type: %b\r
\r
%b"""


def _whole_answer(status: int, headers: bytes, body: bytes) -> bytes:
    """Return an answer with its head, in which these headers are."""
    kind = MEDIA_TYPE.encode() if type(body) is Packed else b"application/json"
    return _ANSWER % (status, STATUS_PHRASES[status], headers, len(body), kind, body)


def last_words(status: int, code: str, message: str) -> bytes:
    """Return a whole answer, for a connection that is closed behind it."""
    return _whole_answer(status, b"connection: close\r\n", to_json(failure_body(code, message)))
