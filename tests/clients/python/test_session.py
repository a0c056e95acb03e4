"""The conversation of an agent, frame by frame, as the network's own schemas have it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor_client.errors import BadUse, IdTaken, RemoteProtocolError, Unauthenticated
from modvisor_client.event import Response
from modvisor_client.frames import unpack
from modvisor_client.inflow import Inflow
from modvisor_client.patterns import matches
from modvisor_client.session import Answered, Complained, Delivered, Identity, Lost, Refused, Session, Welcomed

FRAMES = Path(__file__).parents[3] / "docs" / "openapi" / "frames.json"

LIMITS = {"message_bytes": 1, "credit": 64, "in_flight": 9, "ping": 20.0}


@cache
def validator(kind: str) -> Any:
    document = json.loads(FRAMES.read_text())
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": document["$defs"]})


def checked(frame: dict[str, Any]) -> dict[str, Any]:
    """The frame, which the network takes."""
    validator("FromClient").validate(frame)
    return frame


def welcome(**more: Any) -> dict[str, Any]:
    frame = {
        "type": "welcome", "id": 0, "agent_id": "ann", "network_id": "n", "network_name": "n", "assigned_group": None,
        "cursor": "1.0", "resumed": False, "limits": LIMITS, **more,
    }  # fmt: skip
    validator("FromNetwork").validate(frame)
    return frame


def pushed(number: int) -> dict[str, Any]:
    event = {
        "event_name": "test.count", "source_id": "agent:bob", "event_id": f"e{number}", "timestamp": 1, "source_type": "agent",
        "payload": {"i": number}, "metadata": {}, "destination_id": "ann", "visibility": "network", "relevant_mod": None,
        "requires_response": False, "response_to": None, "thread_name": None, "text_representation": None,
        "allowed_agents": None, "secret": None, "source_agent_group": None,
    }  # fmt: skip
    return {"cursor": f"1.{number}", "event": event}


def make(secret: str | None = None, **joining: Any) -> Session[str]:
    return Session(Identity("ann", secret, joining), Inflow(64))


def test_an_agent_without_a_secret_registers_and_comes_back_with_what_it_got() -> None:
    session = make(group="crew", password_hash="00", metadata={"name": "Ann"}, invite=None)
    assert checked(session.hello()) == {
        "type": "register", "id": 0, "agent_id": "ann", "credit": 64,
        "group": "crew", "password_hash": "00", "metadata": {"name": "Ann"},
    }  # fmt: skip
    outcome = session.received(welcome(secret="s3", assigned_group="crew"))
    assert isinstance(outcome, Welcomed)
    assert (outcome.group, outcome.is_new, outcome.limits["ping"]) == ("crew", True, 20.0)
    session.disconnected(was_refused=False)
    assert checked(session.hello()) == {
        "type": "resume", "id": 0, "agent_id": "ann", "credit": 64, "secret": "s3", "cursor": "1.0",
    }  # fmt: skip


def test_requests_without_an_answer_are_sent_again_as_they_were() -> None:
    session = make("s")
    session.hello()
    session.received(welcome(resumed=True))
    event = {"event_name": "test.ping", "event_id": "e1", "payload": {"i": 1}}
    _, first = session.request("send", {"event": event}, "first")
    number, second = session.request("send", {"event": {**event, "event_id": "e2"}}, "second")
    assert list(session.messages()) == [first, second]
    checked(unpack(first))
    answer = {"type": "response", "id": number, "success": True, "message": "pong", "data": {"i": 1}}
    assert session.received(answer) == Answered("second", Response(True, "pong", {"i": 1}))
    session.disconnected(was_refused=False)
    session.hello()
    assert list(session.messages()) == []
    session.received(welcome(resumed=True))
    assert list(session.messages()) == [first]


def test_no_more_requests_are_under_way_than_the_network_reads() -> None:
    session = make("s")
    session.received(welcome(resumed=True, limits={**LIMITS, "in_flight": 2}))
    sent = [session.request("send", {"event": {"event_name": "test.ping"}}, str(i)) for i in range(4)]
    session.forget(sent[2][0])
    assert list(session.messages()) == [sent[0][1], sent[1][1]]
    session.forget(sent[1][0])  # the network works on it all the same
    assert list(session.messages()) == []
    session.received({"type": "response", "id": sent[1][0], "success": True, "message": "", "data": None})
    assert list(session.messages()) == [sent[3][1]]


def test_an_answer_that_nobody_waits_for_is_let_go() -> None:
    session = make("s")
    session.received(welcome())
    number, _ = session.request("send", {"event": {"event_name": "test.ping"}}, "one")
    session.forget(number)
    assert session.received({"type": "response", "id": number, "success": True, "message": "", "data": None}) is None
    assert list(session.messages()) == session.waiters() == []


def test_events_are_acked_and_credit_comes_back() -> None:
    session = make("s")
    session.received(welcome())
    outcome = session.received({"type": "events", "events": [pushed(i) for i in range(1, 33)]})
    assert isinstance(outcome, Delivered)
    assert [arrived.event.payload["i"] for arrived in outcome.events] == [*range(1, 33)]
    for arrived in outcome.events:
        session.inflow.handled(arrived)
    reports = [checked(frame) for frame in session.reports()]
    assert reports == [{"type": "ack", "cursor": "1.32"}, {"type": "credit", "events": 32}]
    assert list(session.reports()) == []


def test_nothing_is_reported_before_the_network_knows_the_agent() -> None:
    session = make("s")
    session.received(welcome())
    outcome = session.received({"type": "events", "events": [pushed(1)]})
    assert isinstance(outcome, Delivered)
    session.disconnected(was_refused=False)
    session.inflow.handled(outcome.events[0])
    session.hello()
    assert list(session.reports()) == []


def test_the_error_of_a_request_goes_to_who_asked() -> None:
    session = make("s")
    session.received(welcome())
    number, _ = session.request("send", {"event": {"event_name": "test.ping", "colour": 1}}, "one")
    outcome = session.received(
        {"type": "error", "id": number, "error": "bad_input", "message": "colour: unknown", "data": {}}
    )
    assert isinstance(outcome, Answered)
    assert (outcome.waiter, outcome.answer.error, outcome.answer.message) == ("one", "bad_input", "colour: unknown")
    outcome = session.received({"type": "error", "error": "bad_input", "message": "cursor: unknown", "data": {}})
    assert isinstance(outcome, Complained)
    outcome = session.received({"type": "dropped", "events": 3, "sources": {"agent:bob": 3}})
    assert outcome == Lost(3, {"agent:bob": 3})


def test_an_agent_that_the_network_forgot_registers_anew_with_its_old_secret_once() -> None:
    session = make("old")
    session.hello()
    refusal = {"type": "error", "id": 0, "error": "unauthenticated", "message": "no such agent", "data": {}}
    outcome = session.received(refusal)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, Unauthenticated)
    session.disconnected(was_refused=True)
    assert session.may_register_instead(outcome.error)
    assert checked(session.hello()) == {"type": "register", "id": 0, "agent_id": "ann", "credit": 64, "secret": "old"}
    outcome = session.received(refusal)
    session.disconnected(was_refused=True)
    assert isinstance(outcome, Refused)
    assert not session.may_register_instead(outcome.error)


def test_an_agent_that_was_removed_while_it_was_connected_may_register_anew() -> None:
    session = make()
    session.hello()
    session.received(welcome(secret="s"))
    outcome = session.received({"type": "closing", "error": "unauthenticated", "message": "removed"})
    session.disconnected(was_refused=True)
    assert isinstance(outcome, Refused)
    assert session.may_register_instead(outcome.error)


def test_an_id_that_is_taken_may_be_held_by_a_registration_without_an_answer() -> None:
    session = make()
    session.hello()
    session.disconnected(was_refused=False)
    assert session.may_hold_the_id
    session.hello()
    outcome = session.received({"type": "error", "id": 0, "error": "id_taken", "message": "taken", "data": {}})
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, IdTaken)
    assert not session.may_register_instead(outcome.error)
    session.received(welcome(secret="s"))
    assert not session.may_hold_the_id


def test_a_message_of_a_newer_network_is_let_go_and_a_malformed_one_is_an_error() -> None:
    session = make("s")
    session.received(welcome(news=1))
    assert session.received({"type": "weather", "sun": True}) is None
    for malformed in ({"type": "events"}, {"type": "events", "events": [1]}, {"type": "response"}, {"type": "welcome"}):
        with pytest.raises(RemoteProtocolError, match=malformed["type"]):
            session.received(malformed)


def test_what_cannot_travel_is_refused_before_anybody_waits_for_it() -> None:
    session = make("s")
    session.received(welcome())
    with pytest.raises(BadUse, match="cannot be sent: can not serialize 'object'"):
        session.request("send", {"event": {"payload": {"x": object()}}}, "one")
    assert session.waiters() == []


_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=4))
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
_keys = ("id", "error", "message", "data", "events", "cursor", "sources", "limits", "resumed", "secret", "success")
_frames = st.fixed_dictionaries(
    {"type": st.sampled_from(["welcome", "response", "error", "events", "dropped", "closing", "pong", "weather"])},
    optional={
        **dict.fromkeys(_keys, _values),
        "events": st.one_of(
            _values, st.lists(st.fixed_dictionaries({"cursor": _values, "event": _values}), max_size=3)
        ),
    },
)


@pytest.mark.parametrize("examples", [10, pytest.param(150, marks=pytest.mark.slow)])
def test_whatever_a_network_sends_is_understood_or_an_error_of_its_protocol(examples: int) -> None:
    @settings(max_examples=examples)
    @given(st.lists(_frames, max_size=6))
    def tried(frames: list[dict[str, Any]]) -> None:
        session = make("s")
        session.received(welcome())
        session.request("send", {"event": {"event_name": "test.ping"}}, "one")
        for frame in frames:
            try:
                outcome = session.received(frame)
            except RemoteProtocolError:
                return
            for arrived in outcome.events if isinstance(outcome, Delivered) else ():
                assert matches("*", arrived.event.event_name) or matches("a.*", arrived.event.event_name)
                session.inflow.handled(arrived)
            list(session.messages())

    tried()


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_are_an_error_of_its_protocol(data: bytes) -> None:
    try:
        assert isinstance(unpack(data)["type"], str)
    except RemoteProtocolError:
        return
