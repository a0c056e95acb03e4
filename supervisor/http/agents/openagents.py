"""Events as clients of OpenAgents 0.9 send them over HTTP, and as they expect them. Pure."""

from __future__ import annotations

from typing import Any

from ....ipc.address import AGENT, MOD, SYSTEM
from ....ipc.errors import InvalidEvent
from ....ipc.event import Event

# Fields that a client may send in addition to those of OpenAgents' own client, named as in `Event`.
OPTIONAL = (
    "event_id", "payload", "metadata", "visibility", "secret", "timeout", "allowed_agents", "requires_response",
    "response_to", "thread_name", "text_representation",
)  # fmt: skip

_TAKEN = frozenset(OPTIONAL)


def event_from(body: dict[str, Any]) -> Event:
    """Return the event in the body of `send_event`. Null is the same as missing; so is an empty target.

    Args:
        body: read by `wire.from_json` or `packed.from_msgpack`, which bound its depth.

    Raises:
        InvalidEvent: names the field.
    """
    fields = {name: value for name, value in body.items() if name in _TAKEN and value is not None}
    for name in ("event_id", "secret"):
        if fields.get(name) == "":
            del fields[name]
    fields["event_name"] = body.get("event_name")
    fields["source_id"] = body.get("source_id") or None
    fields["destination_id"] = body.get("target_agent_id") or body.get("destination_id") or None
    if fields["event_name"] is None:
        raise InvalidEvent("event_name: missing")
    secret = fields.pop("secret") if type(fields.get("secret")) is str else None
    event = Event.from_dict(fields, is_shallow=True)
    event.secret = secret  # set behind the checks, which take twice as long for an event with a rare field
    return event


def event_to(event: Event) -> dict[str, Any]:
    """Return a polled event with every key that OpenAgents' client reads.

    `timestamp` is in whole seconds. `secret` is always null: no receiver sees the sender's secret.
    """
    return {
        "event_name": event.event_name,
        "source_id": event.source_id,
        "event_id": event.event_id,
        "timestamp": int(event.timestamp),
        "source_type": _source_type(event),
        "destination_id": event.destination_id,
        "relevant_mod": None,
        "requires_response": event.requires_response,
        "response_to": event.response_to,
        "thread_name": event.thread_name,
        "payload": event.payload,
        "metadata": event.metadata,
        "text_representation": event.text_representation,
        "visibility": event.visibility,
        "allowed_agents": event.allowed_agents,
        "secret": None,
        "source_agent_group": event.source_agent_group,
    }


def _source_type(event: Event) -> str:
    source = event.source
    return source.role if source is not None and source.role in (AGENT, MOD) else SYSTEM
