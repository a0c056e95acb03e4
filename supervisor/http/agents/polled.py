"""The answer of a poll, in JSON or in msgpack. Pure."""

from __future__ import annotations

from typing import Any

from ....ipc.event import Event
from ....ipc.messages import pack
from ..content.as_json import to_json
from ..content.as_msgpack import Packed, list_header
from ..routes.answers import Write
from .openagents import event_to
from .undeliverable import CANNOT_BE_WRITTEN, undeliverable


def render_poll(
    agent_id: str, events: list[Event], dropped: dict[str, Any] | None = None, write: Write = to_json
) -> bytes:
    """Return the answer of a poll. An event that its form cannot carry is listed as undeliverable.

    Args:
        dropped: what the agent's inbox lost since the last poll, see `Operations.dropped_events`.
        write: writes the form that the client asks for, `to_json` or `to_msgpack`.
    """
    messages: list[bytes] = []
    missing: list[dict[str, str]] = []
    for event in events:
        try:
            messages.append(write(event_to(event)))
        except CANNOT_BE_WRITTEN as error:
            missing.append(undeliverable(event, agent_id, error))
    rest: dict[str, Any] = {"agent_id": agent_id}
    if missing:
        rest["undeliverable"] = missing
    if dropped is not None:
        rest["dropped"] = dropped
    if write is to_json:
        return b'{"success":true,"messages":[' + b",".join(messages) + b"]," + to_json(rest)[1:]
    return _packed(messages, rest)


def _packed(messages: list[bytes], rest: dict[str, Any]) -> Packed:
    keys = bytes((0x80 + 2 + len(rest),))  # a map of so many keys
    rest_of_it = (pack(part) for pair in rest.items() for part in pair)
    head = (keys, pack("success"), pack(True), pack("messages"), list_header(len(messages)))
    return Packed(b"".join((*head, *messages, *rest_of_it)))
