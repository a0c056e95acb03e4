"""Messages on their way to the client of a WebSocket.

A message above `FRAGMENT` travels in pieces, each of which waits until the client has taken the one
before. So a client that does not read costs a piece, whatever its messages hold, and pings and pongs
pass between the pieces.
"""

from __future__ import annotations

from collections import deque

from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from ..wire.protocol import HttpProtocol

FRAGMENT = 256 * 1024
"""Bytes of the largest piece. No key of the network file: no client sees where a piece ends."""


class Outgoing:
    """What is to be written to one client."""

    def __init__(self, http: HttpProtocol, protocol: ServerProtocol, *, is_text: bool) -> None:
        self._http, self._protocol = http, protocol
        self._begin = protocol.send_text if is_text else protocol.send_binary
        self._waiting: deque[bytes] = deque()
        self._rest = memoryview(b"")  # of the message that is being sent in pieces
        self._owed = 0

    @property
    def is_clear(self) -> bool:
        """Whether the client has taken nearly all that was sent."""
        return not self._owed and not self._http.flow.write_paused

    @property
    def owed(self) -> int:
        """How many bytes the client has not taken."""
        return self._owed + self._http.transport.get_write_buffer_size()

    def send(self, message: bytes) -> None:
        """Send a message when its turn comes. After the end nothing is sent."""
        if self._protocol.state is not OPEN:
            return
        if not self._owed and len(message) <= FRAGMENT:
            self._begin(message)
            self.flush()
        else:
            self._waiting.append(message)
            self._owed += len(message)
            self.go_on()

    def send_at_once(self, message: bytes) -> None:
        """Send a short message before all that wait, if none has been sent in part."""
        if self._protocol.state is OPEN and not self._protocol.expect_continuation_frame:
            self._begin(message)
            self.flush()

    def go_on(self) -> None:
        """Send more of what waits, if the client can take it."""
        while self._owed and not self._http.flow.write_paused and self._protocol.state is OPEN:
            if self._rest:
                piece, self._rest = self._rest[:FRAGMENT], self._rest[FRAGMENT:]
                self._protocol.send_continuation(piece, fin=not self._rest)
            else:
                message = memoryview(self._waiting.popleft())
                piece, self._rest = message[:FRAGMENT], message[FRAGMENT:]
                self._begin(piece, fin=not self._rest)
            self._owed -= len(piece)
            self.flush()

    def flush(self) -> bool:
        """Write what the protocol has to say. Return whether it has nothing to say any more."""
        written = self._protocol.data_to_send()
        if written and not self._http.transport.is_closing():
            self._http.transport.write(b"".join(written))
        return b"" in written  # the protocol's sign for the end
