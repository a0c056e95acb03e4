"""What the messages of a WebSocket say is printed from the table that reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from modvisor.supervisor.http.content.as_json import BadBody
from modvisor.supervisor.http.websocket import frames

PRINTED = Path(__file__).parents[3] / "docs" / "openapi" / "frames.json"

RIGHT: list[dict[str, Any]] = [
    {"type": "register", "id": 1, "agent_id": "alice"},
    {"type": "register", "id": 1, "agent_id": "alice", "metadata": {}, "group": None, "password_hash": None,
     "secret": None, "invite": None, "credit": 0},
    {"type": "resume", "id": 0, "agent_id": "alice", "secret": "s", "cursor": None, "credit": 64},
    {"type": "send", "id": 2, "event": {"event_name": "a.b", "payload": {}, "timeout": 1.5}},
    {"type": "ack", "cursor": "e.1"},
    {"type": "credit", "events": 32},
    {"type": "ping", "id": 9},
    {"type": "unregister", "id": 3},
]  # fmt: skip
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "register", "id": 1, "agent_id": "alice", "grop": "x"}, "unknown keys 'grop'"),
    ({"type": "ping"}, "id: expected a whole number"),
    ({"type": "ping", "id": True}, "id: expected a whole number"),
    ({"type": "ping", "id": 2**53}, "id: expected a whole number"),
    ({"type": "credit", "events": 0}, "events: expected a whole number from 1"),
    ({"type": "ack", "cursor": 7}, "cursor: expected text"),
    ({"type": "send", "id": 1, "event": []}, "event: expected an object"),
    ({"type": "send", "id": 1, "event": {"event_name": "a.b", "secret": "s"}}, "event: unknown keys 'secret'"),
    ({"type": "resume", "id": 1, "agent_id": "alice", "secret": ""}, "secret: missing"),
]


def errors_of(message: dict[str, Any]) -> list[str]:
    document = frames.document()
    schema = {**document, "$ref": f"#/$defs/{message['type'].capitalize()}"}
    return [error.message for error in Draft202012Validator(schema).iter_errors(message)]


def read(message: dict[str, Any]) -> None:
    frame = frames.FROM_CLIENT[message["type"]]
    frame.check(message)
    for key in frame.body.keys:
        key.of(message)


def test_the_printed_schemas_are_those_of_the_table() -> None:
    assert json.loads(PRINTED.read_text("utf-8")) == json.loads(json.dumps(frames.document())), "run 'make docs'"


def test_every_schema_is_one() -> None:
    for schema in frames.document()["$defs"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("message", RIGHT, ids=lambda message: message["type"])
def test_what_the_schemas_allow_is_read(message: dict[str, Any]) -> None:
    assert errors_of(message) == []
    read(message)


@pytest.mark.parametrize(("message", "says"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named(message: dict[str, Any], says: str) -> None:
    with pytest.raises(BadBody, match=says):
        read(message)
    assert errors_of(message) or message.get("secret") == ""
