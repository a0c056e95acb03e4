"""What the routes of the agents' API take and answer."""

from __future__ import annotations

from ....ipc.event import types_of_fields
from ...agents import MAX_POLL_WAIT
from ...fleet import Health
from ..routes.params import Spec, body_of, key_as_it_is, key_text, query_number, query_text, query_whole
from ..routes.schemas import ANYTHING, OBJECT, TEXT, Schema, array_of, object_of, or_null, schema_of
from .events import EVENT
from .openagents import OPTIONAL

MAX_POLL_LIMIT = 1_000_000  # more than an inbox holds; it stands in the API's description

DONE: Schema = object_of(success={"type": "boolean"})

AGENT_ID = key_text("agent_id", "letters, digits, `_`, `.`, `@`, `-`", missing="missing")
SECRET = key_text("secret", "the present secret of the id")
DESCRIBING = (
    key_as_it_is("metadata", "describes the agent", or_null(OBJECT)),
    key_as_it_is("password_hash", "SHA-256 (hexadecimal) of the password of the group to join", or_null(TEXT)),
    key_as_it_is("agent_group", "name of the group to join", or_null(TEXT)),
    key_as_it_is("invite", "an invite, which may name the id and the group", or_null(TEXT)),
)
_PROOF = (
    query_text("agent_id", "the agent that asks; or the header `X-Agent-Id`"),
    query_text("secret", "its secret; or the header `Authorization: Bearer SECRET`"),
)

HEALTH = Spec(
    "See how to connect, and which mods there are",
    object_of(success={"const": True}, status=TEXT, data=schema_of(Health)),
    query=_PROOF,
)
REGISTER = Spec(
    "Become an agent",
    object_of(success={"const": True}, network_name=TEXT, network_id=TEXT, secret=TEXT, assigned_group=or_null(TEXT)),
    body=body_of(AGENT_ID, *DESCRIBING, SECRET, is_closed=False),
    packed=True,
)
UNREGISTER = Spec("Leave", DONE, body=body_of(AGENT_ID, SECRET, is_closed=False), packed=True)

_EVENT = types_of_fields()
EVENT_ANSWER: Schema = object_of(
    success={"type": "boolean"}, message=TEXT, data=ANYTHING, event_id=ANYTHING, event_name=ANYTHING
)
SEND_EVENT = Spec(
    "Send an event and get its answer",
    EVENT_ANSWER,
    body=body_of(
        key_text("event_name", "`domain.entity.action`", missing="missing"),
        key_text("source_id", "id of the sender"),
        key_text("target_agent_id", "an agent, `agent:broadcast`, `channel:ID`, `group:ID`, `mod:ID`; empty: any mod"),
        key_text("destination_id", "the same as `target_agent_id`"),
        *(key_as_it_is(name, "as in an event", or_null(schema_of(_EVENT[name]))) for name in OPTIONAL),
        is_closed=False,
    ),
    packed=True,
)

WAIT = query_number("wait", 0.0, 0.0, MAX_POLL_WAIT, "seconds to wait for the first event")
LIMIT = query_whole("limit", None, 1, MAX_POLL_LIMIT, "the most events to take, oldest first; all without it")
POLLED: Schema = object_of(
    event_name=TEXT,
    source_id=or_null(TEXT),
    event_id=TEXT,
    timestamp={"type": "integer"},
    payload=OBJECT,
    metadata=OBJECT,
)
NAMES = query_text(
    "names", "patterns such as `chat.*`, with commas between them; events that match none are passed over"
)
CURSOR = query_text("cursor", "the `id` of the last event that the client has got; or the header `Last-Event-ID`")
EVENTS = Spec(
    "Get events as they are delivered (server-sent events)",
    EVENT,
    query=(*_PROOF, NAMES, CURSOR),
    media_type="text/event-stream",
)
SOCKET = Spec("Open a WebSocket, whose messages frames.json describes", DONE, status=101)
POLL = Spec(
    "Take what was delivered",
    object_of(success={"type": "boolean"}, messages=array_of(POLLED), agent_id=TEXT),
    query=(*_PROOF, WAIT, LIMIT),
    packed=True,
)
