"""Pushes the events of one inbox to one client, as far as the client has given credit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ....ipc.event import Event
from ...agents import Stream
from ..agents.codec import Codec, Encodings
from ..agents.undeliverable import CANNOT_BE_WRITTEN, undeliverable
from .outgoing import Outgoing

BATCH = 64 * 1024
"""Bytes of events in one message, unless a single event is larger. No key of the network file: clients
take any size."""


class Receiver(Protocol):
    """Whose events are pushed; see `session`."""

    def ended(self, stream: Stream) -> None: ...
    def lost(self) -> dict[str, Any] | None: ...


class Pushing:
    """What one client has room for, and gets.

    Args:
        most_credit: returns how much credit a client may have.
    """

    def __init__(
        self,
        receiver: Receiver,
        outgoing: Outgoing,
        codec: Codec,
        encodings: Encodings,
        most_credit: Callable[[], int],
    ) -> None:
        self._receiver, self._outgoing = receiver, outgoing
        self._codec, self._encodings = codec, encodings
        self._most_credit = most_credit
        self._credit = 0
        self._stream: Stream | None = None
        self._agent_id = ""
        self._is_awake = False
        self._loop = asyncio.get_running_loop()

    def begin(self, stream: Stream, credit: int) -> None:
        self._stream, self._agent_id = stream, stream.agent.agent_id
        self.credit(credit)

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    @property
    def has_ended(self) -> bool:
        """Whether the stream is no longer the agent's."""
        return self._stream is not None and self._stream.is_replaced

    # -- what the client says

    def credit(self, more: int) -> None:
        """Let so many more events be pushed."""
        self._credit = min(self._credit + more, self._most_credit())
        self.wake()

    def handled(self, cursor: str) -> None:
        """Take everything up to this cursor out of the inbox; raises `Refusal`."""
        if self._stream is not None:
            self._stream.handled(cursor)

    # -- events

    def wake(self) -> None:
        """Push in the next turn of the loop, together with all that comes until then."""
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self._awake)

    def _awake(self) -> None:
        self._is_awake = False
        if self._stream is not None and self._stream.is_replaced:
            self._receiver.ended(self._stream)
        self.push()

    def push(self) -> None:
        """Push what there is, as far as the client has credit and takes it."""
        outgoing, stream = self._outgoing, self._stream
        if stream is None or not (self._credit and outgoing.is_clear):
            return
        if (lost := self._receiver.lost()) is not None:
            outgoing.send(self._codec.encode({"type": "dropped", **lost}))
        batch: list[bytes] = []
        size = 0
        while self._credit and outgoing.is_clear and (taken := stream.take()) is not None:
            self._credit -= 1
            item = self._item(*taken)
            if batch and size + len(item) > BATCH:
                outgoing.send(self._codec.events(batch))
                batch, size = [], 0
            batch.append(item)
            size += len(item)
        if batch:
            outgoing.send(self._codec.events(batch))

    def _item(self, cursor: str, event: Event) -> bytes:
        try:
            return self._codec.item(cursor, "event", self._encodings.of(event, self._codec))
        except CANNOT_BE_WRITTEN as error:
            said = undeliverable(event, self._agent_id, error)
            return self._codec.item(cursor, "undeliverable", self._codec.encode(said))
