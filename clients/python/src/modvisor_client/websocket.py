"""A WebSocket over a stream of anyio: the protocol is `websockets`' without I/O, which both of anyio's loops can use.

One task reads (`receive`), and one task writes (`send`, `flush`): nobody else touches the stream.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections import deque
from contextlib import suppress

import anyio
from anyio.abc import ByteStream
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from .address import Address
from .errors import ModvisorClientError, RemoteProtocolError, Unreachable, Untrusted, of_code
from .frames import FRAGMENT, SUBPROTOCOL

READ = 64 * 1024

_quiet = logging.getLogger("modvisor_client.websocket")
_quiet.setLevel(logging.INFO)  # its debug messages show the bytes of messages, secrets included
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class WebSocketClosed(Exception):
    """The connection has ended.

    Attributes:
        code: the close code; 1006: it broke without one.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason or "the connection was lost")
        self.code = code


class WebSocket:
    """An open WebSocket, made by `connect`."""

    def __init__(self, stream: ByteStream, protocol: ClientProtocol) -> None:
        self._stream = stream
        self._protocol = protocol
        self._messages: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self.pong_is_due = False
        """Whether the protocol has something to send that nobody asked for: then `flush`."""

    # -- reading

    async def receive(self) -> bytes | None:
        """Return the next message, or None if something else came: it too shows that the network lives.

        Raises:
            WebSocketClosed: the connection has ended.
        """
        if not self._messages:
            await self.read()
        return self._messages.popleft() if self._messages else None

    @property
    def has_more(self) -> bool:
        """Whether a message has come already."""
        return bool(self._messages)

    async def read(self) -> None:
        """Take in what comes next."""
        try:
            data = await self._stream.receive(READ)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError):
            self._protocol.receive_eof()
        else:
            self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        if self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None:
            self._fail_unless_messages()

    def _fail_unless_messages(self) -> None:
        if self._messages:
            return  # the close comes up again with the next read
        close, error = self._protocol.close_rcvd or self._protocol.close_sent, self._protocol.parser_exc
        if close is not None:
            raise WebSocketClosed(close.code, close.reason)
        raise WebSocketClosed(1006, "" if isinstance(error, EOFError) else str(error))

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.pong_is_due = True
        if frame.opcode not in _DATA:
            return
        self._pieces.append(bytes(frame.data))
        if frame.fin:
            self._messages.append(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
            self._pieces.clear()

    # -- writing

    async def send(self, *messages: bytes) -> None:
        """Send messages, a long one in pieces.

        Raises:
            WebSocketClosed: the connection has ended.
        """
        for message in messages:
            if len(message) <= FRAGMENT:
                self._write(message, is_first=True, is_last=True)
                continue
            for at in range(0, len(message), FRAGMENT):
                self._write(message[at : at + FRAGMENT], is_first=at == 0, is_last=at + FRAGMENT >= len(message))
                await self.flush()
        await self.flush()

    def _write(self, piece: bytes, *, is_first: bool, is_last: bool) -> None:
        if self._protocol.close_sent is not None or self._protocol.state is State.CLOSED:
            raise WebSocketClosed(1006, "")
        if is_first:
            self._protocol.send_binary(piece, is_last)
        else:
            self._protocol.send_continuation(piece, is_last)

    async def flush(self) -> None:
        """Write what the protocol has to send: messages, and pongs to the network's pings."""
        self.pong_is_due = False
        data = b"".join(self._protocol.data_to_send())
        if not data:
            return
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError) as error:
            raise WebSocketClosed(1006, str(error)) from error

    async def close(self) -> None:
        """Say goodbye, and close the stream."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
        with anyio.move_on_after(1, shield=True), suppress(WebSocketClosed):
            await self.flush()
        await anyio.aclose_forcefully(self._stream)


async def connect(address: Address, context: ssl.SSLContext | None, max_message: int) -> WebSocket:
    """Connect to a network.

    Raises:
        Unreachable: nobody answers there, or the network takes no more connections for now.
        Untrusted: the certificate is not valid.
        RemoteProtocolError: what answers is no network of modvisor.
    """
    try:
        stream = await anyio.connect_tcp(
            address.host, address.port, tls=address.is_secure, ssl_context=context, tls_standard_compatible=False
        )
    except ssl.SSLError as error:
        raise Untrusted(f"the certificate of {address} is not trusted: {error}") from error
    except (OSError, anyio.BrokenResourceError, UnicodeError) as error:  # no name of a host holds such letters
        raise Unreachable(f"no network answers at {address}: {_root_of(error)}") from error
    protocol = ClientProtocol(
        parse_uri(address.ws), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=max_message, logger=_quiet
    )
    socket = WebSocket(stream, protocol)
    try:
        await _shake_hands(socket, protocol, address)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return socket


def _root_of(error: BaseException) -> BaseException:
    """Return what is behind an error: anyio wraps the failures of several addresses in a group."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        return _root_of(cause.exceptions[0])
    return error if cause is None else _root_of(cause)


async def _shake_hands(socket: WebSocket, protocol: ClientProtocol, address: Address) -> None:
    protocol.send_request(protocol.connect())
    try:
        await socket.flush()
        while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
            await socket.read()
        await socket.flush()  # a ping may have come with the answer
    except WebSocketClosed as error:
        if protocol.handshake_exc is None and protocol.close_rcvd is None and protocol.close_sent is None:
            raise _closed(address) from error
    if protocol.handshake_exc is not None:
        raise _refusal(protocol.handshake_exc, address) from protocol.handshake_exc


def _refusal(error: Exception, address: Address) -> ModvisorClientError:
    """Return the error for a handshake that failed: what the network says, if it is one."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        try:
            said = json.loads(error.response.body)
            return of_code(said["error"], said["message"], said.get("data"))
        except (ValueError, TypeError, KeyError):
            if status in (429, 500, 502, 503, 504):
                return Unreachable(f"{address} takes no connection now: HTTP {status}")
            return RemoteProtocolError(f"{address} is no network of modvisor: HTTP {status} at {address.path}/ws")
    if isinstance(error, InvalidMessage):
        return _closed(address)
    return RemoteProtocolError(f"{address} is no network of modvisor: {error}")


def _closed(address: Address) -> Unreachable:
    hint = "; perhaps it wants a certificate of this client: `cert`" if address.is_secure else ""
    return Unreachable(f"{address} closed the connection{hint}")
