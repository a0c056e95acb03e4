"""The events of an agent over broken connections and restarts: none lost, none repeated, no more than the credit."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modvisor_client.inflow import Arrived, Inflow

WINDOW = 4


def event(number: int) -> dict[str, Any]:
    return {"event_name": "test.count", "source_id": "agent:ann", "event_id": f"e{number}", "payload": {"i": number}}


class Stream(RuleBasedStateMachine):
    """A network that keeps events until they are acked, and a client that handles them in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.inflow = Inflow(WINDOW)
        self.numbers = itertools.count()
        self.waiting: list[tuple[int, int]] = []  # position in the stream, number of the event
        self.position = itertools.count(1)
        self.epoch = 0
        self.pushed_to = self.acked_to = 0
        self.credit = 0
        self.is_connected = False
        self.held: list[Arrived] = []
        self.got: list[int] = []
        self.sent: list[int] = []

    @rule()
    def the_agent_gets_an_event(self) -> None:
        number = next(self.numbers)
        self.sent.append(number)
        self.waiting.append((next(self.position), number))

    @precondition(lambda self: not self.is_connected)
    @rule()
    def it_connects(self) -> None:
        cursor, resumed = self.inflow.cursor, False
        if cursor is not None and int(cursor.split(".")[0]) == self.epoch:
            resumed, self.acked_to = True, max(self.acked_to, int(cursor.split(".")[1]))
            self.waiting = [entry for entry in self.waiting if entry[0] > self.acked_to]
        self.pushed_to, self.credit, self.is_connected = self.acked_to, WINDOW, True
        self.inflow.connected(f"{self.epoch}.{self.acked_to}", is_resumed=resumed)

    @precondition(lambda self: self.is_connected)
    @rule()
    def the_connection_breaks(self) -> None:
        self.is_connected = False

    @precondition(lambda self: not self.is_connected)
    @rule()
    def the_network_restarts_and_counts_anew(self) -> None:
        self.epoch += 1
        self.position = itertools.count(1)
        self.waiting = [(next(self.position), number) for _, number in self.waiting]
        self.acked_to = 0

    @precondition(lambda self: self.is_connected)
    @rule(most=st.integers(1, 3))
    def it_pushes(self, most: int) -> None:
        due = [entry for entry in self.waiting if entry[0] > self.pushed_to][: min(most, self.credit)]
        for position, number in due:
            self.pushed_to = position
            self.credit -= 1
            arrived = self.inflow.arrived(f"{self.epoch}.{position}", event(number))
            if arrived is not None:
                self.got.append(number)
                self.held.append(arrived)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def an_event_is_handled(self, data: st.DataObject) -> None:
        self.inflow.handled(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @precondition(lambda self: self.is_connected)
    @rule()
    def the_client_reports(self) -> None:
        cursor = self.inflow.take_ack()
        if cursor is not None:
            epoch, position = map(int, cursor.split("."))
            assert epoch == self.epoch, "acked an event of another epoch"
            self.acked_to = position
            self.waiting = [entry for entry in self.waiting if entry[0] > position]
        self.credit += self.inflow.take_credit()

    @invariant()
    def none_is_repeated_and_none_is_left_out(self) -> None:
        assert self.got == self.sent[: len(self.got)]

    @invariant()
    def no_more_are_held_than_the_credit_allows(self) -> None:
        assert len(self.held) <= WINDOW
        assert self.inflow.waiting == len(self.held)

    @invariant()
    def what_is_not_handled_is_kept_by_the_network(self) -> None:
        kept = {number for _, number in self.waiting}
        assert {arrived.event.payload["i"] for arrived in self.held} <= kept

    def teardown(self) -> None:
        """All of it gets through in the end."""
        if not self.is_connected:
            self.it_connects()
        for _ in range(10 * (len(self.waiting) + WINDOW)):
            self.it_pushes(3)
            while self.held:
                self.inflow.handled(self.held.pop())
            self.the_client_reports()
        assert self.got == self.sent
        assert not self.waiting


TestStream = Stream.TestCase


@given(st.permutations(range(6)))
def test_only_the_handled_beginning_of_the_stream_is_acked(order: list[int]) -> None:
    inflow = Inflow(8)
    inflow.connected("1.0", is_resumed=False)
    arrived = [inflow.arrived(f"1.{i + 1}", event(i)) for i in range(6)]
    handled: set[int] = set()
    for i in order:
        one = arrived[i]
        assert one is not None
        inflow.handled(one)
        handled.add(i)
        beginning = next(n for n in range(7) if n not in handled)
        assert inflow.cursor == f"1.{beginning}"


def test_an_event_for_two_is_handled_when_both_are_done() -> None:
    inflow = Inflow(4)
    inflow.connected("1.0", is_resumed=False)
    arrived = inflow.arrived("1.1", event(1))
    assert arrived is not None
    arrived.waiting = 2
    inflow.handled(arrived)
    assert inflow.take_ack() is None
    inflow.handled(arrived)
    assert inflow.take_ack() == "1.1"
    assert inflow.take_ack() is None


def test_an_event_that_is_slow_does_not_stop_those_behind_it() -> None:
    """Its credit alone is missing."""
    inflow = Inflow(4)
    inflow.connected("1.0", is_resumed=False)
    slow = inflow.arrived("1.1", event(1))
    credit = 3
    for i in range(2, 200):
        assert credit > 0, f"no credit for event {i}"
        arrived = inflow.arrived(f"1.{i}", event(i))
        assert arrived is not None
        inflow.handled(arrived)
        credit += inflow.take_credit() - 1
    assert slow is not None
    assert inflow.take_ack() is None
    inflow.handled(slow)
    assert inflow.take_ack() == "1.199"


def test_what_is_remembered_behind_a_slow_event_is_bounded() -> None:
    inflow = Inflow(4)
    inflow.connected("1.0", is_resumed=False)
    inflow.arrived("1.1", event(1))
    credit, i = 3, 2
    while credit:
        arrived = inflow.arrived(f"1.{i}", event(i))
        assert arrived is not None
        inflow.handled(arrived)
        credit += inflow.take_credit() - 1
        i += 1
        assert i < 1000, "the credit never ends"
    assert len(inflow._unacked) < 300
