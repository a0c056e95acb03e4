"""The only I/O on the pipe: a `Connection` on a non-blocking stream socket, on the running loop.

Asking, answering and the end are here; `reading` and `writing` are the two halves of the I/O.

Why plain asyncio, and neither anyio nor asyncio streams: every event takes this path, and a worker
must stay small. Reading straight into the decoder's buffer also saves a copy.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from .connection import MAX_FRAME, MAX_REQUESTS, Connection
from .deadlines import Deadlines
from .errors import ModvisorError, PipeClosed, RequestFailed
from .event import Event, EventResponse
from .messages import CANCEL, Response
from .reading import NotificationHandler, PipeReader, RequestHandler
from .shared_memory import has_large
from .spinning import Spinner
from .usual import Answered
from .writing import HIGH_WATER, PipeWriter

_FOR_LARGE = 10  # times the patience for a small message: large bytes are copied twice on their way

CloseHandler = Callable[[ModvisorError], None]


class Pipe(PipeReader, PipeWriter):
    """Requests, responses and notifications, exchanged with one peer.

    Handlers are called from the loop and must not block or raise. A request handler answers now or
    later, with `respond` or `refuse`. ``on_close`` is called once, with the reason.

    Args:
        sock: a connected stream socket; the pipe owns it from here on.
        max_frame: cap on one message, bytes.
        max_requests: cap on unanswered requests, each way.
        max_buffer: cap on bytes that wait for a peer that does not read; above it the pipe breaks.
        spinner: keeps the loop awake while the response to an event is expected.
        takes_events: the peer asks about events: the end of a worker.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_request: RequestHandler,
        on_notification: NotificationHandler,
        on_close: CloseHandler,
        max_frame: int = MAX_FRAME,
        max_requests: int = MAX_REQUESTS,
        max_buffer: int | None = None,
        spinner: Spinner | None = None,
        takes_events: bool = False,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(max_frame=max_frame, max_requests=max_requests, takes_events=takes_events)
        self._deadlines = Deadlines(self._loop, self._connection.due)
        self._spinner = spinner
        self._closed = None
        self._on_close = on_close
        # Twice the largest message: one that is half sent, one whole response behind it.
        self._start_writing(2 * max_frame + HIGH_WATER if max_buffer is None else max_buffer)
        self._start_reading(on_request, on_notification)

    # -- asking

    async def call(self, method: str, params: Any = None, timeout: float | None = None) -> Response:
        """Send a request and wait for the response.

        Raises:
            RequestFailed: the peer answered with an error.
            TimeoutError: no response within ``timeout`` seconds; the peer is told to stop.
            PipeBusy, FrameTooLarge, Unserializable: nothing was sent.
            PipeBroken, PipeClosed: the pipe ended before the response came.
        """
        if self.buffered > HIGH_WATER:
            async with asyncio.timeout(timeout):
                await self.writable()
        due = None if timeout is None else self._loop.time() + timeout
        return await self.finish(*self.begin(method, params, due))

    def begin(
        self, method: str, params: Any = None, due: float | None = None, *, has_large: bool = False
    ) -> tuple[int, asyncio.Future[Response]]:
        """Send a request without waiting: the first half of `call`.

        Pass what it returns to `finish` in any case. If it raises, the peer has not seen the
        request, and never will.

        Args:
            due: loop time at which waiting for the response ends.
            has_large: ``params`` holds large bytes, see `ipc.shared_memory`.
        """
        if self._closed is not None:
            raise _again(self._closed)
        future: asyncio.Future[Response] = self._loop.create_future()
        request_id, data = self._connection.request(method, params, future, has_large=has_large)
        self._write(data)
        if self._closed is not None:
            raise self._unsent(future)
        if due is not None:
            self._deadlines.add(future, due)
        if has_large:
            self._lent_some()
        return request_id, future

    def begin_event(self, packed: bytes, due: float) -> tuple[int, asyncio.Future[Response]]:
        """Do as `begin` for an event that is packed already."""
        if self._closed is not None:
            raise _again(self._closed)
        future: asyncio.Future[Response] = self._loop.create_future()
        request_id, data = self._connection.event(packed, future)
        if self._corked:  # it leaves with the others of this turn
            self._out.append(data)
            self.buffered += len(data)
        else:
            self._write(data)
            if self._closed is not None:
                raise self._unsent(future)
            if self._spinner is not None and self._connection.in_flight == 1:  # else it expects already
                self._spinner.expect()
        deadlines = self._deadlines
        deadlines.due[future] = due  # as `Deadlines.add`, without a call
        if due < deadlines.next:
            deadlines.ring_at(due)
        return request_id, future

    def _lent_some(self) -> None:
        """Note that large bytes are on their way: what follows takes longer, and their memory is freed later."""
        self._watch_lent()
        if self._spinner is not None:
            self._spinner.expect(_FOR_LARGE)

    def _unsent(self, future: asyncio.Future[Response]) -> ModvisorError:
        """Return why a write has ended the pipe: the peer got no whole frame of it."""
        assert self._closed is not None
        future.exception()  # else asyncio logs that nobody retrieved it
        return _again(self._closed)

    async def finish(self, request_id: int, future: asyncio.Future[Response]) -> Response:
        """Wait for the response: the second half of `call`."""
        response = await self._answered(request_id, future)
        result = response.result  # read as the answer to an event, perhaps, and it is none
        if isinstance(result, Answered):
            response.result = {"response": result.response.to_dict()}
        elif isinstance(result, EventResponse):
            response.result = result.to_dict()
        return response

    async def ask(self, method: str, params: Any) -> Any:
        """Do as `request`, and leave the result as it was read: as a record, if it is of the usual form."""
        if self.buffered > HIGH_WATER:
            await self.writable()
        return (await self._answered(*self.begin(method, params))).result

    async def _answered(self, request_id: int, future: asyncio.Future[Response]) -> Response:
        try:
            response = await future
        except (asyncio.CancelledError, TimeoutError):
            self.give_up(request_id, future)
            raise
        if (error := response.error) is not None:
            raise RequestFailed(error["message"], code=error["code"], **keywords(error["details"]))
        return response

    def give_up(
        self, request_id: int, future: asyncio.Future[Response], late: asyncio.Future[Response] | None = None
    ) -> None:
        """Stop waiting for a response. If it is still due, cancel the request at the peer.

        Args:
            late: gets the response that the peer owes, or the end of the pipe. It is cancelled if
                nothing is owed.
        """
        self._deadlines.remove(future)
        owed = self._closed is None and self._connection.abandon(request_id, *([late] if late is not None else []))
        if owed:
            self.notify(CANCEL, {"id": request_id})
        elif late is not None:
            late.cancel()

    async def request(self, method: str, params: Any = None, timeout: float | None = None) -> Any:
        """Do as `call`; return the result alone."""
        return (await self.call(method, params, timeout)).result

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification; drop it silently if the pipe is closed."""
        if self._closed is None:
            self._write(self._connection.notify(method, params))
            self._cork()  # many may follow

    # -- answering

    def respond(self, request_id: int, result: Any, *, has_large: bool = False) -> None:
        """Answer a request.

        Args:
            has_large: ``result`` holds large bytes, see `ipc.shared_memory`.

        Raises:
            FrameTooLarge, Unserializable: nothing was sent; the caller owes the peer a `refuse`.
        """
        if self._closed is None:
            self._write(self._connection.respond(request_id, result, has_large=has_large))
            if has_large:
                self._lent_some()

    def answer(self, request_id: int, answer: EventResponse | Event | None) -> None:
        """Answer an event, or pass it on, changed or with None; raise as `respond` does."""
        if self._closed is not None:
            return
        if answer is None:
            self._write(self._connection.passed(request_id))
        elif type(answer) is not EventResponse and isinstance(answer, Event):
            self.respond(request_id, {"event": answer.to_dict()})
        elif has_large(answer.data):
            self.respond(request_id, {"response": answer.to_dict()}, has_large=True)
        else:
            self._write(self._connection.answer(request_id, answer.to_dict()))

    def refuse(self, request_id: int, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        """Answer a request with an error."""
        if self._closed is None:
            self._write(self._connection.refuse(request_id, code, message, details))

    @property
    def owed(self) -> int:
        """The peer's requests that are not answered yet."""
        return self._connection.owed

    @property
    def owed_weight(self) -> int:
        """The approximate bytes of memory that the peer's unanswered requests take up."""
        return self._connection.owed_weight

    def spin_with(self, spinner: Spinner) -> None:
        """Use this spinner from now on."""
        self._spinner = spinner

    # -- life

    @property
    def closed(self) -> ModvisorError | None:
        """Why the pipe ended; None while it is open."""
        return self._closed

    @property
    def next_id(self) -> int:
        """The id that our next request will have."""
        return self._connection.next_id

    @property
    def in_flight(self) -> int:
        """Our requests that are not answered yet."""
        return self._connection.in_flight

    def close(self) -> None:
        """End the pipe at once; requests in flight raise `PipeClosed`. May be called again."""
        self._end(PipeClosed("the pipe was closed"))

    def close_after_reading(self) -> None:
        """Handle what the peer had sent before it ended, then end the pipe.

        A response that was on its way still counts.
        """
        self._read_the_rest()
        self.close()

    def _end(self, reason: ModvisorError) -> None:
        if self._closed is not None:
            return
        self._closed = reason
        self._stop_reading()
        self._stop_writing()
        self._sock.close()
        self._connection.borrowed.close()
        self._deadlines.close()
        for future in self._connection.waiting():
            if not future.done():
                future.set_exception(_again(reason))
        self._wake_drain_waiters()
        self._on_close(reason)


def _again(reason: ModvisorError) -> ModvisorError:
    """Return a fresh exception of the same kind.

    One object raised in several tasks would collect the tracebacks of all of them.
    """
    fresh = type(reason)(str(reason), code=reason.code)
    fresh.__cause__ = reason.__cause__
    return fresh


def keywords(details: dict[str, Any]) -> dict[str, Any]:
    """Return a stranger's details as keywords for an error.

    Keys that are not text, or that name one of its parameters, are left out.
    """
    return {
        key: value for key, value in details.items() if isinstance(key, str) and key not in ("message", "code", "self")
    }
