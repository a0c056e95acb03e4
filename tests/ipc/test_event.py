from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.errors import InvalidEvent
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import pack, unpack

text = st.text(st.characters(exclude_categories=("Cs",)))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | text
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(text, plain, max_size=5))
def test_an_event_survives_the_wire(payload: dict[str, Any]) -> None:
    event = Event("wiki.page.create", "agent:alice", "mod:wiki", payload=payload, timeout=2.5, hops=3)
    assert Event.from_dict(unpack(pack(event.to_dict()))) == event


def test_bytes_nan_and_datetimes_survive_the_wire() -> None:
    when = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
    payload = {"bytes": b"\x00\xff", "nan": math.nan, "inf": math.inf, "when": when, "text": "žluťoučký 🐎"}
    back = Event.from_dict(unpack(pack(Event("a.b", payload=payload).to_dict()))).payload
    assert math.isnan(back.pop("nan"))
    assert back == {"bytes": b"\x00\xff", "inf": math.inf, "when": when, "text": "žluťoučký 🐎"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"event_name": "noparts"}, "event_name 'noparts': expected lower-case parts"),
        ({"event_name": "A.b"}, "event_name 'A.b'"),
        ({"event_name": "a..b"}, "event_name 'a..b'"),
        ({"event_name": 7}, "event_name: expected text"),
        ({"payload": []}, "payload: expected a dict, got list"),
        ({"source_id": "robot:x"}, "source_id: address 'robot:x': unknown role 'robot'"),
        ({"source_id": "agent:../x"}, "source_id: address"),
        ({"destination_id": ["x"]}, "destination_id: expected text"),
        ({"timeout": 0}, "timeout: expected a positive number"),
        ({"timeout": True}, "timeout: expected a positive number"),
        ({"timeout": math.inf}, "timeout: expected a positive number"),
        ({"event_id": ""}, "event_id: expected text"),
        ({"visibility": "secret"}, "visibility: expected one of"),
        ({"hops": "3"}, "hops: expected int"),
        ({"allowed_agents": [1]}, "allowed_agents: expected a list of agent ids"),
        ({"secret": 5}, "secret: expected str or null"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        Event.from_dict({"event_name": "a.b", **fields})
    assert str(caught.value).startswith(said)


@given(plain)
def test_any_data_is_an_event_or_a_typed_error(data: Any) -> None:
    for build in (Event.from_dict, EventResponse.from_dict):
        with suppress(InvalidEvent):
            build(data)


@given(st.dictionaries(st.sampled_from([field.name for field in fields(Event)]), plain, max_size=4))
def test_any_field_value_is_accepted_or_a_typed_error(data: dict[str, Any]) -> None:
    try:
        event = Event.from_dict({"event_name": "a.b", **data})
    except InvalidEvent:
        return
    assert Event.from_dict(event.to_dict()).to_dict() == event.to_dict()


def test_a_copy_shares_nothing() -> None:
    event = Event("a.b", payload={"list": [{"x": 1}]}, metadata={"m": {}})
    twin = event.copy()
    assert twin == event
    twin.payload["list"][0]["x"] = 2
    twin.metadata["m"]["n"] = 1
    assert event.payload == {"list": [{"x": 1}]}
    assert event.metadata == {"m": {}}


def test_unknown_keys_of_a_newer_peer_are_ignored() -> None:
    assert Event.from_dict({"event_name": "a.b", "colour": "red"}).event_name == "a.b"


def test_a_failure_has_a_code() -> None:
    response = EventResponse.failure("timeout", "too late", mod="wiki")
    assert (response.success, response.error, response.data) == (False, "timeout", {"error": "timeout", "mod": "wiki"})
    assert EventResponse.from_dict(response.to_dict()) == response
