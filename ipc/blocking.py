"""A request whose answer is waited for without the event loop, by a program that cannot await it.

It is for the rare request of a person or a program. It holds up everything in the loop for as long
as it waits, so the caller bounds that. What comes over the pipe meanwhile is handled as usual.
"""

from __future__ import annotations

import select
import time
from typing import Any

from .errors import RequestFailed
from .messages import Response
from .pipe import Pipe, keywords
from .reading import TURN


def request_now(pipe: Pipe, method: str, params: Any, seconds: float) -> Any:
    """Send a request and block until the response has come; returns its result.

    Call it in the thread of the pipe's loop.

    Raises:
        TimeoutError: no response within ``seconds``; the peer is told to stop.
        RequestFailed: the peer answered with an error.
        PipeBusy, FrameTooLarge, Unserializable: nothing was sent.
        PipeBroken, PipeClosed: the pipe ended before the response came.
    """
    request_id, future = pipe.begin(method, params)
    end = time.monotonic() + seconds
    pipe._uncork()
    while not future.done() and (left := end - time.monotonic()) > 0:
        _exchange(pipe, left)
    if not future.done():
        pipe.give_up(request_id, future)
        raise TimeoutError(f"no answer to {method} within {seconds:g} s")
    response: Response = future.result()
    if (error := response.error) is not None:
        raise RequestFailed(error["message"], code=error["code"], **keywords(error["details"]))
    return response.result


def _exchange(pipe: Pipe, seconds: float) -> None:
    """Write what waits, and handle what is read. Waits at most ``seconds`` for either."""
    if pipe._unread is None:
        poller = select.poll()
        poller.register(pipe._sock.fileno(), select.POLLIN | (select.POLLOUT if pipe._out else 0))
        for _, what in poller.poll(seconds * 1000):
            if what & select.POLLOUT:
                pipe._send()
            if what & ~select.POLLOUT and pipe.closed is None:
                pipe._receive()
    if pipe._unread is not None:
        pipe._handle_unread(TURN)
