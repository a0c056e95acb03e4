"""The answer of a poll, in JSON or in msgpack. Pure."""

from __future__ import annotations

import logging
from typing import Any

from ...ipc.errors import ModvisorError
from ...ipc.event import Event
from ...ipc.messages import pack
from .answers import Write
from .openagents import event_to
from .packed import Packed
from .wire import to_json

logger = logging.getLogger("modvisor.http")


def render_poll(
    agent_id: str, events: list[Event], dropped: dict[str, Any] | None = None, write: Write = to_json
) -> bytes:
    """Return the answer of a poll. An event that its form cannot carry is listed as undeliverable.

    Args:
        dropped: what the agent's inbox lost since the last poll, see `Operations.dropped_events`.
        write: writes the form that the client asks for, `to_json` or `to_msgpack`.
    """
    messages: list[bytes] = []
    undeliverable: list[dict[str, Any]] = []
    for event in events:
        try:
            messages.append(write(event_to(event)))
        # A timestamp that is no time raises ValueError or OverflowError.
        except (ModvisorError, ValueError, OverflowError) as error:
            logger.error(
                "event %s (%s) cannot be sent to agent %s: %s", event.event_id, event.event_name, agent_id, error
            )
            undeliverable.append({"event_id": event.event_id, "event_name": event.event_name, "error": str(error)})
    rest: dict[str, Any] = {"agent_id": agent_id}
    if undeliverable:
        rest["undeliverable"] = undeliverable
    if dropped is not None:
        rest["dropped"] = dropped
    if write is to_json:
        return b'{"success":true,"messages":[' + b",".join(messages) + b"]," + to_json(rest)[1:]
    return _packed(messages, rest)


def _packed(messages: list[bytes], rest: dict[str, Any]) -> Packed:
    keys = bytes((0x80 + 2 + len(rest),))  # a map of so many keys
    listed = b"\xdd" + len(messages).to_bytes(4, "big")  # a list of so many items
    rest_of_it = (pack(part) for pair in rest.items() for part in pair)
    head = (keys, pack("success"), pack(True), pack("messages"), listed)
    return Packed(b"".join((*head, *messages, *rest_of_it)))
