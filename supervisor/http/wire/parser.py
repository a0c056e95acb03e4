"""h11, which refuses what takes far longer to read than to send: many header lines, tiny chunks."""

from __future__ import annotations

from typing import Any

import h11

# No keys of the network file: they follow from what h11 takes for a line and for a chunk. No client needs more.
MAX_HEAD = 16 * 1024
"""Bytes of a request without its body."""

MAX_LINES = 128
"""Header lines of a request. h11 takes 7 ms for the 3,000 that fit into `MAX_HEAD`."""

FEW_CHUNKS = 64
"""Chunks of a body whose size does not matter."""

LEAST_CHUNK = 64
"""Bytes that the chunks of a body must have on average. h11 takes 18 ms for 16 KB of smaller ones."""


class Parser(h11.Connection):
    """The server's side of a connection."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD)
        self._chunks = self._size = 0

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            head = self.trailing_data[0].partition(b"\r\n\r\n")[0]
            if head.count(b"\n") > MAX_LINES:
                raise h11.RemoteProtocolError(f"more than {MAX_LINES} header lines")
            self._chunks = self._size = 0
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._chunks += 1
            self._size += len(event.data)
            if self._chunks > FEW_CHUNKS and self._size < LEAST_CHUNK * self._chunks:
                raise h11.RemoteProtocolError(f"chunks of less than {LEAST_CHUNK} bytes")
        return event
