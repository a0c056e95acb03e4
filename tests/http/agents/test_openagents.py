"""Events in the shapes of OpenAgents 0.9's HTTP transport."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.errors import InvalidEvent
from modvisor.ipc.event import Event
from modvisor.supervisor.http.agents.api import render_poll
from modvisor.supervisor.http.agents.openagents import event_from, event_to
from modvisor.supervisor.http.content.as_json import from_json

THEIR_KEYS = {
    "event_name", "source_id", "event_id", "timestamp", "source_type", "destination_id", "relevant_mod",
    "requires_response", "response_to", "thread_name", "payload", "metadata", "text_representation", "visibility",
    "allowed_agents", "secret", "source_agent_group",
}  # fmt: skip


def test_an_event_as_their_client_sends_it() -> None:
    event = event_from(
        {
            "event_id": "e1", "event_name": "wiki.page.get", "source_id": "alice", "target_agent_id": "mod:wiki",
            "payload": {"a": 1}, "metadata": {"m": 2}, "visibility": "direct", "secret": "s",
        }
    )  # fmt: skip
    assert (event.event_id, event.event_name, event.source_id) == ("e1", "wiki.page.get", "alice")
    assert (event.destination_id, event.payload, event.metadata) == ("mod:wiki", {"a": 1}, {"m": 2})
    assert (event.visibility, event.secret) == ("direct", "s")


def test_nothing_may_be_empty_or_null() -> None:
    event = event_from(
        {
            "event_id": "", "event_name": "a.b", "source_id": "alice", "target_agent_id": "", "payload": None,
            "metadata": None, "visibility": None, "secret": "",
        }
    )  # fmt: skip
    assert event.destination_id is None
    assert event.payload == {}
    assert event.metadata == {}
    assert event.visibility == "network"
    assert event.secret is None
    assert event.event_id


@pytest.mark.parametrize("key", ["via", "cause", "hops", "attempt", "source_agent_group", "timestamp"])
def test_what_only_the_network_says_of_an_event_is_not_taken(key: str) -> None:
    plain = Event("a.b", "alice")
    event = event_from({"event_name": "a.b", "source_id": "alice", key: 12345})
    assert getattr(event, key) != 12345
    assert key == "timestamp" or getattr(event, key) == getattr(plain, key)


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_name": None}, {"event_name": "NoDots"}, {"event_name": 5}, {"source_id": "no such:role"}, {"source_id": [1]},
        {"target_agent_id": {"a": 1}}, {"payload": [1]}, {"metadata": "x"}, {"visibility": "everybody"},
        {"visibility": ["public"]}, {"secret": 5}, {"event_id": 7}, {"event_id": "x" * 1000}, {"timeout": -1},
        {"allowed_agents": "alice"}, {"allowed_agents": [1]}, {"requires_response": "yes"}, {"response_to": {}},
    ],
)  # fmt: skip
def test_a_wrong_field_is_an_invalid_event(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        event_from({"event_name": "a.b", "source_id": "alice", **wrong})


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from([*sorted(THEIR_KEYS), "target_agent_id", "timeout", "hops", "via"]), ANYTHING, max_size=8
    ),
    st.booleans(),
)
def test_any_object_is_an_event_or_an_invalid_one(body: dict[str, Any], named: bool) -> None:
    if named:
        body.update(event_name="a.b", source_id="alice")
    try:
        event = event_from(body)
    except InvalidEvent:
        return
    assert set(event_to(event)) == THEIR_KEYS


@pytest.mark.parametrize(
    ("source", "kind"),
    [("alice", "agent"), ("agent:alice", "agent"), ("mod:wiki", "mod"), ("system:system", "system"), (None, "system")],
)
def test_a_polled_event_has_every_key_of_theirs(source: str | None, kind: str) -> None:
    sent = Event("a.b", source, "agent:bob", {"x": 1}, timestamp=1700000000.9, secret="hidden", allowed_agents=["bob"])
    polled = event_to(sent)
    assert set(polled) == THEIR_KEYS
    assert polled["timestamp"] == 1700000000
    assert type(polled["timestamp"]) is int
    assert polled["source_type"] == kind
    assert polled["secret"] is None
    assert polled["relevant_mod"] is None
    assert polled["allowed_agents"] == ["bob"]


def test_an_event_that_cannot_be_written_does_not_take_the_others_with_it(caplog: pytest.LogCaptureFixture) -> None:
    events = [
        Event("a.b", "alice", payload={"i": 1}),
        Event("a.bad", "alice", payload={"x": {"y": object()}}, event_id="odd"),
        Event("a.late", "alice", timestamp=float("inf"), event_id="never"),
        Event("a.b", "alice", payload={"i": 2}),
    ]
    answer = from_json(render_poll("bob", events))
    assert answer["success"] is True
    assert answer["agent_id"] == "bob"
    assert [message["payload"]["i"] for message in answer["messages"]] == [1, 2]
    assert [entry["event_id"] for entry in answer["undeliverable"]] == ["odd", "never"]
    assert "payload.x.y" in answer["undeliverable"][0]["error"]
    assert "odd" in caplog.text


def test_nothing_undeliverable_is_not_mentioned() -> None:
    assert from_json(render_poll("bob", [])) == {"success": True, "messages": [], "agent_id": "bob"}
