"""The run with several machines: what it does is decided by the seed, and its audit finds what must not be."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from benchmarks.nodes.audit import Sent, audit
from benchmarks.nodes.hosts import cut
from benchmarks.nodes.schedule import CUT, KINDS, plan


def line(event: str, token: int = 1, *, mod: str = "desk", attempt: int = 1, at: float = 0.0) -> dict[str, Any]:
    return {"mod": mod, "part": None, "token": token, "event": event, "attempt": attempt, "at": at}


def test_the_seed_decides_what_goes_wrong_one_thing_at_a_time() -> None:
    acts = plan(7, 3, 180, have_wires=True)
    assert acts == plan(7, 3, 180, have_wires=True) != plan(8, 3, 180, have_wires=True)
    assert {act.kind for act in acts} == set(KINDS)
    assert {act.host for act in acts} == {1, 2, 3}
    assert all(one.at + one.lasts < other.at for one, other in pairwise(acts))
    assert not {act.kind for act in plan(7, 3, 180, have_wires=False)} & CUT


def test_a_wire_is_cut_both_ways_or_one_way() -> None:
    assert set(cut(1, [2, 3], fault={"loss": 1.0})) == {(1, 2), (1, 3), (2, 1), (3, 1)}
    assert set(cut(1, [2, 3], fault={"loss": 1.0}, back=False)) == {(1, 2), (1, 3)}


def test_events_that_are_answered_are_well() -> None:
    sent = [Sent("a", "desk", False, 0.0, "answered"), Sent("b", "desk", True, 0.0, "pending")]
    found = audit(sent, [line("a"), line("b")], frozenset({"desk"}))
    assert (found.answered, found.pending, found.handled) == (1, 1, 2)
    assert [*found.lost, *found.repeated, *found.two_holders, *found.unreasoned] == []


@pytest.mark.parametrize("outcome", ["answered", "pending"])
def test_an_accepted_durable_event_that_no_mod_handled_is_lost(outcome: str) -> None:
    sent = [
        Sent("a", "ledger", True, 0.0, outcome),
        Sent("b", "ledger", True, 0.0, "mod_away"),
        Sent("c", "ledger", True, 0.0),
    ]
    assert audit(sent, [], frozenset()).lost == ["a"]


def test_a_second_handling_must_say_that_it_is_one() -> None:
    assert audit([], [line("a"), line("a", attempt=2)], frozenset()).repeated == []
    assert audit([], [line("a"), line("a")], frozenset()).repeated == ["desk a"]


def test_an_older_holder_that_writes_after_a_newer_one_is_found() -> None:
    lines = [line("a", 1, at=1.0), line("b", 2, at=2.5), line("c", 2, at=3.0)]
    found = audit([], lines, frozenset({"desk"}))
    assert (found.two_holders, found.away) == ([], [(1.0, 1.5)])
    assert len(audit([], [*lines, line("d", 1, at=4.0)], frozenset({"desk"})).two_holders) == 1
    assert audit([], [*lines, line("d", 1, at=4.0)], frozenset()).two_holders == [], "it runs on all nodes"


def test_a_plain_event_may_fail_with_a_reason_only() -> None:
    sent = [Sent("a", "desk", False, 0.0, "mod_away"), Sent("b", "desk", False, 0.0, "internal_error")]
    found = audit(sent, [], frozenset())
    assert (found.failed, found.unreasoned) == ({"mod_away": 1, "internal_error": 1}, {"internal_error": 1})
