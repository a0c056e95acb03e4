"""One request and its answer over a connected socket. h11 knows HTTP; here are bytes in and out.

`http.client` would do the same, but its import takes twice as long: it reads headers with the
parser of e-mails, and imports TLS for a unix socket too.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import h11

READ_SIZE = 64 * 1024  # bytes


class Broken(Exception):
    """The peer closed the connection before the end of its answer, or sent something else than HTTP."""


class Answer:
    """An answer whose body is read as it arrives."""

    def __init__(self, status: int, body: Iterator[bytes]) -> None:
        self.status = status
        self.body = body

    def read(self) -> bytes:
        """Return the rest of the body. Raises `Broken`."""
        return b"".join(self.body)


def exchange(
    connection: socket.socket, method: str, target: str, headers: dict[str, str], body: bytes | None
) -> Answer:
    """Send a request, and return its answer once the headers have arrived.

    Raises:
        Broken, TimeoutError, OSError.
    """
    http = h11.Connection(our_role=h11.CLIENT)
    sized = headers if body is None else headers | {"Content-Length": str(len(body))}
    try:
        encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in sized.items()]
        request = http.send(h11.Request(method=method, target=target, headers=encoded)) or b""
        data = b"" if body is None else http.send(h11.Data(body)) or b""
        end = http.send(h11.EndOfMessage()) or b""
        with suppress(BrokenPipeError):  # the peer may have answered before it had read everything
            connection.sendall(request + data + end)
        while True:
            event = _next(connection, http)
            if isinstance(event, h11.Response):
                return Answer(event.status_code, _body(connection, http))
    except h11.ProtocolError as error:
        raise Broken(str(error)) from None


def _body(connection: socket.socket, http: h11.Connection) -> Iterator[bytes]:
    try:
        while not isinstance(event := _next(connection, http), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)
    except h11.ProtocolError as error:
        raise Broken(str(error)) from None


def _next(connection: socket.socket, http: h11.Connection) -> object:
    """Return the next event of the answer. Raises `h11.RemoteProtocolError` at an end that comes too early."""
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(connection.recv(READ_SIZE))
    if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
        raise Broken("the connection was closed before an answer")
    return event
