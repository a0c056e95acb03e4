"""A watched event as a line of JSON: what it holds, what is masked, what stands for data that JSON cannot carry."""

from __future__ import annotations

import json
from typing import Any

from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.config import Redaction
from modvisor.supervisor.http.admin.events import event_line


def line(event: Event, response: EventResponse) -> dict[str, Any]:
    data = event_line(event, response, Redaction(["card_*"]).data)
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")
    return json.loads(data)


def test_a_line_holds_the_event_and_its_response() -> None:
    event = Event("wiki.page.create", "agent:alice", "mod:wiki", payload={"path": "home", "text": "of the page"})
    shown = line(event, EventResponse(True, "done", {"revision": 1}))
    assert shown["event"]["payload"] == {"path": "home", "text": "of the page"}
    assert shown["response"] == {"success": True, "message": "done", "data": {"revision": 1}}


def test_secrets_in_any_event_are_masked() -> None:
    event = Event("shop.order.pay", "agent:alice", payload={"card_number": "4444", "items": [{"api_key": "k"}]})
    shown = line(event, EventResponse(True, data={"token": "t", "count": 1}))
    assert shown["event"]["payload"] == {"card_number": "***", "items": [{"api_key": "***"}]}
    assert shown["response"]["data"] == {"token": "***", "count": 1}


def test_secrets_of_a_registration_are_masked() -> None:
    payload = {"agent_id": "alice", "password_hash": "abc", "secret": None}
    event = Event("system.register_agent", "agent:alice", payload=payload)
    shown = line(event, EventResponse(True, data={"agent_id": "alice", "secret": "xyz"}))
    assert shown["event"]["payload"] == {"agent_id": "alice", "password_hash": "***", "secret": None}
    assert shown["response"]["data"] == {"agent_id": "alice", "secret": "***"}
    assert payload["password_hash"] == "abc", "the event itself stays as it is"
    failed = line(event, EventResponse(False, "no", data=None))
    assert failed["response"]["success"] is False


def test_an_event_that_json_cannot_carry_is_named() -> None:
    shown = line(Event("a.b", "agent:alice", event_id="e1", payload={"x": object()}), EventResponse(True))
    assert shown["event"] == {"event_id": "e1", "event_name": "a.b", "source_id": "agent:alice"}
    assert shown["response"] == {"success": True}
    assert shown["error"].startswith("event.payload.x: ")
