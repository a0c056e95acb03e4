"""One event on its way: whose content it is, how it is packed, where it came from."""

from __future__ import annotations

import math

import pytest

from modvisor.ipc.errors import Unserializable
from modvisor.ipc.event import Event
from modvisor.ipc.messages import unpack
from modvisor.supervisor.calls.journey import Journey, events_of
from modvisor.supervisor.config import Split
from modvisor.supervisor.config.mods.audience import Audience, FamilyVersion


def journey(n: int = 0, parent: Journey | None = None, *, is_shared: bool = False) -> Journey:
    return Journey(Event("test.ask", "agent:alice", payload={"n": [n]}), math.inf, parent, is_shared=is_shared)


def test_a_shared_event_is_copied_once_when_the_network_keeps_it() -> None:
    sent = journey(1, is_shared=True)
    theirs = sent.event.payload
    sent.own()
    theirs["n"].append(2)
    assert sent.event.payload == {"n": [1]}
    ours = sent.event.payload
    sent.own()
    assert sent.event.payload is ours


def test_an_event_that_was_sent_stays_as_it_was_sent() -> None:
    sent = journey(1, is_shared=True)
    assert unpack(sent.packed)["payload"] == {"n": [1]}
    sent.event.payload["n"].append(2)
    sent.own()
    assert sent.event.payload == {"n": [1]}


def test_an_event_is_packed_once_for_all_mods_and_anew_for_each_further_attempt() -> None:
    sent = journey()
    assert sent.packed is sent.packed
    assert "attempt" not in unpack(sent.packed)
    sent.attempt = 2
    assert unpack(sent.packed)["attempt"] == 2


def test_a_large_event_is_not_kept_packed() -> None:
    sent = Journey(Event("test.ask", payload={"text": "x" * 100_000}), math.inf, is_shared=True)
    theirs = sent.event.payload
    assert sent.packed is not sent.packed
    assert sent.event.payload is not theirs, "it was packed from its sender's payload, so that must not change"


def test_an_event_that_cannot_be_packed_weighs_nothing_and_is_refused_when_it_is_sent() -> None:
    sent = Journey(Event("test.ask", payload={"it": object()}), math.inf)
    assert sent.size == 0
    with pytest.raises(Unserializable):
        _ = sent.packed


def test_ancestors_are_known_through_any_number_of_events() -> None:
    first = journey()
    second = journey(parent=first)
    third = journey(parent=second)
    assert third.descends_from({first})
    assert third.descends_from({second, journey()})
    assert not third.descends_from({third})
    assert not first.descends_from({second, third})


def test_a_changed_event_keeps_its_deadline_its_cause_and_its_versions() -> None:
    first = Journey(Event("test.ask"), 7.0, journey(), allowed=3.0)
    first.settle("wiki", "wiki@2")
    later = first.with_event(Event("test.changed"))
    assert later.event.event_name == "test.changed"
    assert (later.deadline, later.parent, later.allowed) == (7.0, first.parent, 3.0)
    assert later.versions == {"wiki": "wiki@2"}


def test_the_version_of_a_family_is_picked_once() -> None:
    sent = journey()
    old = Split("wiki", (FamilyVersion("wiki", None), FamilyVersion("wiki@2", Audience())))
    new = Split(
        "wiki", (FamilyVersion("wiki", None), FamilyVersion("wiki@2", Audience(agents=frozenset({"agent:alice"}))))
    )
    assert sent.version_of(old) == sent.version_of(new) == "wiki"
    assert journey().version_of(new) == "wiki@2"


def test_settling_a_version_does_not_change_the_journey_it_was_copied_from() -> None:
    first = journey()
    first.settle("wiki", "wiki")
    later = first.with_event(first.event)
    later.settle("wiki", "wiki@2")
    assert (first.versions, later.versions) == ({"wiki": "wiki"}, {"wiki": "wiki@2"})


def test_an_event_without_a_source_comes_from_the_network() -> None:
    assert Journey(Event("test.ask"), math.inf).source == "system:system"
    assert journey().source == "agent:alice"


def test_a_report_names_events_without_their_payloads() -> None:
    sent = journey(5)
    sent.attempt = 2
    assert events_of([sent]) == [
        {"event_id": sent.event.event_id, "event_name": "test.ask", "source_id": "agent:alice", "attempt": 2}
    ]
