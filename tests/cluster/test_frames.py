"""What nodes say to each other about events: whatever comes, it is read or refused, and nothing else happens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack
from modvisor.supervisor.calls import Journey, Unanswered
from modvisor.supervisor.cluster.events.frames import AskAgain, BadFrame, Question, encoded, event_of, heard, sent
from modvisor.supervisor.cluster.events.recent import Recent

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=11) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=15,
)
QUESTION: list[Any] = [0, "run", 1, False, 1.5, None, 1, "agent:a", None, [], b""]


def packed() -> bytes:
    return Journey(Event("test.it", "agent:a", payload={"i": 1}), 0.0).packed


@settings(max_examples=40)
@given(body=PLAIN)
def test_any_body_is_a_question_or_refused(body: Any) -> None:
    with pytest.raises(BadFrame):
        sent(pack(body))


@settings(max_examples=40)
@given(body=st.binary(max_size=40))
def test_any_bytes_are_a_question_or_refused(body: bytes) -> None:
    try:
        sent(body)
    except BadFrame:
        return


@settings(max_examples=40)
@given(at=st.integers(0, len(QUESTION) - 1), value=PLAIN)
def test_a_question_with_one_wrong_value_is_read_or_refused(at: int, value: Any) -> None:
    body = [*QUESTION[:-1], packed()]
    body[at] = value
    try:
        question = sent(pack(body))
    except BadFrame:
        return
    if not isinstance(question, Question):
        return
    try:
        question.journey(0.0)
    except BadFrame:
        return


@settings(max_examples=40)
@given(data=st.binary(max_size=40))
def test_any_bytes_are_an_event_or_refused(data: bytes) -> None:
    try:
        event_of(data)
    except BadFrame:
        return


@settings(max_examples=40)
@given(reply=PLAIN)
def test_any_reply_is_an_answer_or_a_failure(reply: Any) -> None:
    try:
        heard(reply, Journey(Event("test.it"), 0.0))
    except (BadFrame, Unanswered, AskAgain):
        return


def test_a_question_comes_over_whole() -> None:
    question = sent(encoded(Question("run", 7, True, 1.5, 0.5, 2, "agent:a", {"f": "f@2"}, [("other", 3)], packed())))
    assert isinstance(question, Question)
    assert question.passage == ("run", 7)
    assert question.chain == [("other", 3)]
    journey = question.journey(10.0)
    assert (journey.deadline, journey.allowed, journey.attempt) == (11.5, 0.5, 2)
    assert (journey.owner, journey.versions, journey.event.payload) == ("agent:a", {"f": "f@2"}, {"i": 1})


def test_what_was_answered_long_ago_is_known_to_be_unknown() -> None:
    recent = Recent(most=2)
    for number in (1, 2, 3):
        recent.add(("run", number), b"x")
    assert ("run", 1) not in recent
    assert not recent.is_known(("run", 1))
    assert recent["run", 3] == b"x"
    assert recent.is_known(("run", 4)), "it never came"


def test_an_older_answer_that_is_forgotten_later_does_not_make_a_newer_one_known() -> None:
    recent = Recent(most=1)
    for number in (5, 3, 6):
        recent.add(("run", number), b"x")
    assert not recent.is_known(("run", 5)), "it was answered, and forgotten before the third"
