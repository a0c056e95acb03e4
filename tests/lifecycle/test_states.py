from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modvisor.supervisor.lifecycle.states import TABLE, Action, IllegalTransition, State, Trigger, diagram, next_move

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def test_every_state_can_be_reached_and_left_or_is_the_end() -> None:
    reached = {State.STARTING}
    while True:
        more = reached | {move.state for (state, _), move in TABLE.items() if state in reached}
        if more == reached:
            break
        reached = more
    assert reached == set(State)
    assert {state for state, _ in TABLE} == set(State)


def test_every_trigger_and_action_is_in_use() -> None:
    assert {trigger for _, trigger in TABLE} == set(Trigger)
    assert {action for move in TABLE.values() for action in move.actions} == set(Action)


@pytest.mark.parametrize("state", State)
def test_an_unload_is_possible_in_every_state(state: State) -> None:
    if state is not State.DRAINING:
        assert next_move(state, Trigger.UNLOAD_REQUESTED).state is State.DRAINING


@pytest.mark.parametrize("state", [State.FAILED, State.QUARANTINED, State.PROBING, State.STOPPED])
def test_a_mod_that_is_down_may_be_started_by_hand(state: State) -> None:
    assert next_move(state, Trigger.START_REQUESTED).state is State.STARTING


def test_a_move_is_in_the_table_or_a_typed_error() -> None:
    for state, trigger in product(State, Trigger):
        if (state, trigger) in TABLE:
            assert next_move(state, trigger) is TABLE[state, trigger], (state, trigger)
        else:
            with pytest.raises(IllegalTransition, match=f"{trigger} cannot happen to a mod that is {state}"):
                next_move(state, trigger)


def test_events_are_never_fed_where_the_mod_is_down() -> None:
    """Only a ready mod is fed events. One that stops being ready lets them wait or refuses them."""
    for (state, _), move in TABLE.items():
        assert (Action.SERVE in move.actions) <= (move.state is State.READY)
        if state is State.READY and move.state not in (State.READY, State.BACKOFF):
            assert {Action.HOLD, Action.REFUSE} & set(move.actions)


def test_the_drawing_is_of_this_table() -> None:
    assert diagram() in PAGE.read_text(), "stale: run 'make diagram'"


class Life(RuleBasedStateMachine):
    """What the actions do to a mod, whatever happens in whatever order, kept apart from the table."""

    def __init__(self) -> None:
        super().__init__()
        self._begin()

    def _begin(self) -> None:
        self.state = State.STARTING
        self.is_fed = False
        self.is_kept = False  # in the journal, as one that is in quarantine

    @rule(trigger=st.sampled_from(Trigger))
    def happens(self, trigger: Trigger) -> None:
        try:
            move = next_move(self.state, trigger)
        except IllegalTransition:
            return
        self.is_fed = self.is_fed and trigger is not Trigger.EXITED
        self.is_kept = self.is_kept or trigger is Trigger.QUARANTINE_KEPT
        for action in move.actions:
            self._done(action)
        self.state = move.state
        if trigger is Trigger.UNLOADED:
            self._begin()

    def _done(self, action: Action) -> None:
        match action:
            case Action.SERVE:
                self.is_fed = True
            case Action.HOLD | Action.REFUSE:
                self.is_fed = False
            case Action.KEEP_QUARANTINE:
                self.is_kept = True
            case Action.RELEASE:
                self.is_kept = False
            case Action.DUMP | Action.KILL | Action.KILL_SOON:
                assert not self.is_fed, "no event goes to a process that is being killed"

    @invariant()
    def events_are_fed_to_a_mod_that_is_ready_and_to_no_other(self) -> None:
        assert self.is_fed == (self.state is State.READY)

    @invariant()
    def a_quarantine_is_kept_as_long_as_it_lasts(self) -> None:
        if self.state is not State.DRAINING:
            assert self.is_kept == (self.state in (State.QUARANTINED, State.PROBING))

    @invariant()
    def it_can_be_brought_back_and_be_unloaded(self) -> None:
        if self.state is not State.DRAINING:
            assert {State.READY, State.DRAINING} <= _reachable(self.state)


def _reachable(state: State) -> set[State]:
    found = {state}
    while more := {move.state for (former, _), move in TABLE.items() if former in found} - found:
        found |= more
    return found


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=50)
