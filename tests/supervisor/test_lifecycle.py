from __future__ import annotations

import pytest

from modvisor.supervisor.lifecycle import TABLE, IllegalTransition, State, Trigger, next_state


def test_every_state_can_be_reached_and_left_or_is_the_end() -> None:
    reached = {State.STARTING}
    while True:
        more = reached | {TABLE[state, trigger] for state, trigger in TABLE if state in reached}
        if more == reached:
            break
        reached = more
    assert reached == set(State)
    assert {state for state, _ in TABLE} == set(State)


@pytest.mark.parametrize("state", State)
def test_an_unload_is_possible_in_every_state(state: State) -> None:
    if state is not State.DRAINING:
        assert next_state(state, Trigger.UNLOAD_REQUESTED) is State.DRAINING


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_a_move_is_in_the_table_or_a_typed_error(state: State, trigger: Trigger) -> None:
    if (state, trigger) in TABLE:
        assert next_state(state, trigger) is TABLE[state, trigger]
    else:
        with pytest.raises(IllegalTransition, match=f"{trigger} cannot happen to a mod that is {state}"):
            next_state(state, trigger)
