from __future__ import annotations

from pathlib import Path

import pytest

from modvisor.supervisor.lifecycle import TABLE, Action, IllegalTransition, State, Trigger, diagram, next_move

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


@pytest.mark.parametrize("state", [State.FAILED, State.QUARANTINED, State.PROBING, State.STOPPED, State.BACKOFF])
def test_a_mod_that_is_down_may_be_started_by_hand(state: State) -> None:
    assert next_move(state, Trigger.START_REQUESTED).state is State.STARTING


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_a_move_is_in_the_table_or_a_typed_error(state: State, trigger: Trigger) -> None:
    if (state, trigger) in TABLE:
        assert next_move(state, trigger) is TABLE[state, trigger]
    else:
        with pytest.raises(IllegalTransition, match=f"{trigger} cannot happen to a mod that is {state}"):
            next_move(state, trigger)


def test_events_are_never_fed_where_the_mod_is_down() -> None:
    """Whoever is fed events is ready, and whoever stops being ready lets them wait or refuses them."""
    for (state, _), move in TABLE.items():
        assert (Action.SERVE in move.actions) <= (move.state is State.READY)
        if state is State.READY and move.state not in (State.READY, State.BACKOFF):
            assert {Action.HOLD, Action.REFUSE} & set(move.actions)


def test_the_drawing_is_of_this_table() -> None:
    assert diagram() in PAGE.read_text(), "stale: run 'make diagram'"
