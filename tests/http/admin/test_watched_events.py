"""A watched event as a line of JSON: what it holds, what is masked, what stands for data that JSON cannot carry."""

from __future__ import annotations

import json
from typing import Any

from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.config import Redaction
from modvisor.supervisor.http.admin.events import Wanted, event_line


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


# -- without what they carry, and not all of them


def test_without_the_right_a_line_has_neither_payload_nor_answer() -> None:
    event = Event(
        "wiki.page.create", "agent:alice", "mod:wiki", payload={"path": "home"}, metadata={"m": 1}, event_id="e1"
    )
    event.text_representation = "alice creates home"
    data = event_line(event, EventResponse(True, "home made", {"revision": 1}), lambda each: each, payloads=False)
    shown = json.loads(data)
    assert shown["payloads"] is False
    assert shown["event"].keys() == {"event_name", "event_id", "timestamp", "source_id", "destination_id", "size"}
    assert shown["response"] == {"success": True, "error": None}
    failed = json.loads(
        event_line(event, EventResponse.failure("no_such_page", "home is gone"), lambda each: each, payloads=False)
    )
    assert (failed["response"]["success"], failed["response"]["error"]) == (False, "no_such_page")
    assert b"home" not in data


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


PING = (Event("a.ping", "agent:alice"), EventResponse(True))


def test_a_sample_is_spread_over_the_second_and_the_others_are_counted() -> None:
    clock = Clock()
    wanted = Wanted("a.*", 20, clock)
    taken = [0.0]
    for step in range(1000):  # a second with 1,000 events
        clock.now = 100 + step / 1000
        taken += [clock.now] if wanted(PING) else []
    times = taken[1:]
    assert len(times) == 20
    assert max(sum(start <= each < start + 0.1 for each in times) for start in times) <= 4
    assert wanted.take_skipped() == 0, "the second is not over"
    clock.now = 101.0
    assert wanted.take_skipped() == 980
    assert wanted.take_skipped() == 0
    assert wanted.until_told() == 1


def test_what_does_not_match_is_neither_taken_nor_counted() -> None:
    clock = Clock()
    wanted = Wanted("b.*", 1, clock)
    assert not wanted(PING)
    clock.now += 2
    assert wanted.take_skipped() == 0


def test_without_a_sample_all_that_matches_is_taken() -> None:
    wanted = Wanted("*", None)
    assert all(wanted(PING) for _ in range(1000))
    assert (wanted.take_skipped(), wanted.until_told()) == (0, float("inf"))
