"""The messages of a WebSocket: what each of them says, read and printed from one table. Pure.

Every message is one map with the key ``type``. What a client sends is checked by these specs, and
the JSON Schemas of both directions are printed from them into docs/openapi/frames.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..agents.codec import PACKED, TEXTUAL
from ..agents.events import EVENT, SENT
from ..agents.spec import AGENT_ID, SECRET
from ..content.as_json import BadBody
from ..routes.params import Body, Key, body_of, key_as_it_is, key_text, key_whole
from ..routes.schemas import ANYTHING, OBJECT, TEXT, Schema, array_of, or_null

USUAL_CREDIT = 64
"""Events that may be pushed if a client names no credit. It stands in the schemas."""

MOST_CREDIT = 1_000_000
"""The largest number in a message; `http.ws_credit` bounds what a client has."""

LARGEST_ID = 2**53 - 1
"""The largest whole number that every JSON parser keeps exactly."""


def _required_id(doc: str) -> Key:
    def read(body: dict[str, Any]) -> int:
        value = body.get("id")
        if type(value) is not int or not 0 <= value <= LARGEST_ID:
            raise BadBody(f"id: expected a whole number from 0 to {LARGEST_ID}")
        return value

    return Key("id", doc, {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}, read, required=True)


def _sent_event() -> Key:
    def read(body: dict[str, Any]) -> dict[str, Any]:
        event = body.get("event")
        if not isinstance(event, dict):
            raise BadBody("event: expected an object with the key 'event_name'")
        if unknown := sorted(map(str, event.keys() - SENT.keys())):
            known = ", ".join(sorted(SENT))
            raise BadBody(f"event: unknown keys {', '.join(map(repr, unknown[:10]))}; known are {known}")
        return event

    schema = {"type": "object", "properties": SENT, "required": ["event_name"], "additionalProperties": False}
    return Key(
        "event", "as `POST /api/send_event` takes it; source and secret are the connection's", schema, read, True
    )


ID = _required_id("of the sender's choice; the answer repeats it")
EVENT_TO_SEND = _sent_event()
CREDIT = key_whole("credit", USUAL_CREDIT, 0, MOST_CREDIT, "how many events may be pushed before more credit comes")
CURSOR = key_text("cursor", "of the last event that the client has handled; without it all that waits is pushed")
ACKED = key_text("cursor", "of the last event that the client has handled", missing="missing")
MORE_CREDIT = key_whole("events", 1, 1, MOST_CREDIT, "so many more events may be pushed")
RESUME_SECRET = key_text("secret", "the secret that `register` returned", missing="missing")
METADATA = key_as_it_is("metadata", "describes the agent", or_null(OBJECT))
GROUP = key_text("group", "name of the group to join")
PASSWORD_HASH = key_text("password_hash", "SHA-256 (hexadecimal) of the password of the group to join")
INVITE = key_text("invite", "an invitation to this network")


@dataclass(frozen=True, slots=True)
class Frame:
    """A message of a client."""

    kind: str
    doc: str
    body: Body

    def check(self, message: dict[str, Any]) -> None:
        """Raise `BadBody` for a key that this message does not have."""
        self.body.check({key: value for key, value in message.items() if key != "type"})

    @property
    def schema(self) -> Schema:
        schema = self.body.schema
        properties = {"type": {"const": self.kind}, **schema["properties"]}
        return {
            **schema,
            "description": self.doc,
            "properties": properties,
            "required": ["type", *schema.get("required", ())],
        }


REGISTER = Frame("register", "Become an agent. The answer is `welcome`.",
                 body_of(ID, AGENT_ID, METADATA, GROUP, PASSWORD_HASH, SECRET, INVITE, CREDIT))  # fmt: skip
RESUME = Frame("resume", "Go on as an agent that is registered. The answer is `welcome`.",
               body_of(ID, AGENT_ID, RESUME_SECRET, CURSOR, CREDIT))  # fmt: skip
SEND = Frame("send", "Send an event. The answer is `response`.", body_of(ID, EVENT_TO_SEND))
ACK = Frame("ack", "All events up to this cursor are handled, and leave the inbox.", body_of(ACKED))
MORE = Frame("credit", "Let the network push more events.", body_of(MORE_CREDIT))
PING = Frame("ping", "Ask for a `pong`.", body_of(ID))
UNREGISTER = Frame("unregister", "Leave. The answer is `response`, then the connection is closed.", body_of(ID))

FROM_CLIENT = {each.kind: each for each in (REGISTER, RESUME, SEND, ACK, MORE, PING, UNREGISTER)}


# -- what the network sends


def _said(kind: str, doc: str, optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": doc,
        "properties": {"type": {"const": kind}, **properties},
        "required": ["type", *(name for name in properties if name not in optional)],
    }


_WHOLE: Schema = {"type": "integer"}
_FLAG: Schema = {"type": "boolean"}
_PUSHED: Schema = {
    "type": "object",
    "properties": {
        "cursor": TEXT,
        "event": {"$ref": "#/$defs/Event"},
        "undeliverable": {
            "type": "object",
            "description": "in the place of an event that these messages cannot carry",
            "properties": {"event_id": TEXT, "event_name": TEXT, "error": TEXT},
            "required": ["event_id", "event_name", "error"],
        },
    },
    "required": ["cursor"],
}
_LIMITS: Schema = {
    "type": "object",
    "properties": {
        "message_bytes": {**_WHOLE, "description": "of the largest message from the client"},
        "credit": {**_WHOLE, "description": "the most credit; what is above it is cut off"},
        "in_flight": {**_WHOLE, "description": "events that may wait for their answers; more are read later"},
        "ping": {"type": ["number", "null"], "description": "seconds of silence after which the network pings"},
    },
    "required": ["message_bytes", "credit", "in_flight", "ping"],
}

FROM_NETWORK: dict[str, Schema] = {
    "Welcome": _said(
        "welcome", "The answer to `register` and `resume`.", ("secret",), id=_WHOLE, agent_id=TEXT, secret=TEXT,
        network_id=TEXT, network_name=TEXT, assigned_group=or_null(TEXT), cursor=TEXT, resumed=_FLAG, limits=_LIMITS,
    ),
    "Response": _said(
        "response", "The answer to `send`, with the keys of the answer of `POST /api/send_event`, and to `unregister`.",
        ("error", "error_message", "event_id", "event_name"), id=_WHOLE, success=_FLAG, message=TEXT, data=ANYTHING,
        error=or_null(TEXT), error_message=TEXT, event_id=ANYTHING, event_name=ANYTHING,
    ),
    "Events": _said("events", "Events for the agent, in order.", events=array_of(_PUSHED)),
    "Dropped": _said(
        "dropped", "So many events were lost since the last time, because the inbox was full; by their sources.",
        events=_WHOLE, sources={"type": "object", "additionalProperties": _WHOLE},
    ),
    "Error": _said(
        "error", "A message of the client was refused; `id` is that of this message, if it had one.", ("id",),
        id=_WHOLE, error=TEXT, message=TEXT, data=OBJECT,
    ),
    "Pong": _said("pong", "The answer to `ping`.", id=_WHOLE),
    "Closing": _said("closing", "The network closes the connection, for this reason.", error=TEXT, message=TEXT),
}  # fmt: skip


def document() -> dict[str, Any]:
    """Return the JSON Schemas of all messages."""
    mine = {frame.kind.capitalize(): frame.schema for frame in FROM_CLIENT.values()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "modvisor: messages of the WebSocket `/ws`",
        "description": f"One map in each message: msgpack in binary messages with the subprotocol `{PACKED}`, JSON in "
        f"text messages with `{TEXTUAL}` and with none.",
        "$defs": {
            **mine,
            **FROM_NETWORK,
            "Event": EVENT,
            "FromClient": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in mine]},
            "FromNetwork": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in FROM_NETWORK]},
        },
    }
