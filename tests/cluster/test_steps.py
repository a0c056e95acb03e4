"""The steps of commands on mods with copies: whatever order nodes answer and die in, all copies end up alike."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.cluster.mods.steps import (
    DO,
    LOAD,
    RELOAD,
    RESTART,
    SETTLE,
    UNDO,
    UNLOAD,
    Step,
    Turn,
    outcome,
    turns,
)

UNITS = ["wiki#0", "wiki#1", "wiki#2"]


def done(step: str = DO, token: int = 1, *, ok: bool = True, **data: Any) -> Step:
    return Step(step, token, "a", {"success": ok, "message": "it broke" if not ok else "done", "data": data})


def at_first(_unit: str) -> int:
    return 1


def test_a_reload_takes_one_copy_after_the_other_and_then_settles_all() -> None:
    assert turns(RELOAD, UNITS, {}, at_first) == [Turn("wiki#0", DO)]
    assert turns(RELOAD, UNITS, {"wiki#0": done()}, at_first) == [Turn("wiki#1", DO)]
    all_done = {unit: done() for unit in UNITS}
    assert turns(RELOAD, UNITS, all_done, at_first) == [Turn(unit, SETTLE) for unit in UNITS]
    assert turns(RELOAD, UNITS, {unit: done(SETTLE) for unit in UNITS}, at_first) == []


def test_a_reload_that_fails_takes_back_the_copies_before() -> None:
    steps = {"wiki#0": done(), "wiki#1": done(ok=False)}
    assert turns(RELOAD, UNITS, steps, at_first) == [Turn("wiki#0", UNDO)]
    steps["wiki#0"] = done(UNDO)
    assert turns(RELOAD, UNITS, steps, at_first) == []
    answer = outcome(RELOAD, "wiki", "./wiki", UNITS, steps)
    assert (answer.success, answer.data["copy"]) == (False, "wiki#1")
    assert "mod wiki was not reloaded: it broke" in str(answer.message)


def test_a_copy_whose_node_died_before_it_settled_is_reloaded_by_the_next_one() -> None:
    steps = {unit: done() for unit in UNITS}
    moved = {"wiki#0": 1, "wiki#1": 9, "wiki#2": 1}
    assert turns(RELOAD, UNITS, steps, moved.get) == [Turn("wiki#1", DO)]
    assert turns(RELOAD, UNITS, steps | {"wiki#1": done(SETTLE)}, moved.get) == [
        Turn("wiki#0", SETTLE),
        Turn("wiki#2", SETTLE),
    ]


def test_a_load_of_which_one_copy_fails_ends_all() -> None:
    steps = {"wiki#1": done(ok=False)}
    assert turns(LOAD, UNITS, steps, at_first) == [Turn(unit, UNDO) for unit in UNITS]


def test_an_unload_ends_all_at_once_and_a_restart_stops_at_the_first_failure() -> None:
    assert turns(UNLOAD, UNITS, {}, at_first) == [Turn(unit, DO) for unit in UNITS]
    assert turns(RESTART, UNITS, {"wiki#0": done()}, at_first) == [Turn("wiki#1", DO)]
    assert turns(RESTART, UNITS, {"wiki#0": done(ok=False)}, at_first) == []


def test_the_outcome_of_a_reload_adds_up_the_copies() -> None:
    steps = {unit: done(SETTLE, pause_ms=float(number), queued=1) for number, unit in enumerate(UNITS)}
    answer = outcome(RELOAD, "wiki", "./wiki", UNITS, steps)
    assert answer.success
    assert (answer.data["pause_ms"], answer.data["queued"], answer.data["workers"]) == (2.0, 3, 3)
    assert answer.data["copies"] == dict.fromkeys(UNITS, "a")


@given(st.data())
def test_a_reload_ends_with_one_version_whoever_dies_before_it_settles(data: st.DataObject) -> None:
    tokens, runs_new, steps = dict.fromkeys(UNITS, 1), dict.fromkeys(UNITS, False), dict[str, Step]()
    fails = data.draw(st.sampled_from([None, *UNITS]))
    settled, deaths = False, data.draw(st.integers(0, 5))
    for _ in range(60):
        due = turns(RELOAD, UNITS, steps, tokens.get)
        if not due:
            break
        unit, step = data.draw(st.sampled_from(due))
        former = steps.get(unit)
        if step == DO:
            steps[unit] = done(DO, tokens[unit], ok=unit != fails)
            runs_new[unit] = unit != fails
        else:
            runs_new[unit] = runs_new[unit] if step == SETTLE else False
            settled = settled or step == SETTLE
            steps[unit] = Step(step, tokens[unit], "a", former.answer if former is not None else {})
        if not settled and deaths and data.draw(st.booleans()):  # a node dies: what was tentative is lost
            dead, deaths = data.draw(st.sampled_from(UNITS)), deaths - 1
            tokens[dead] += 1
            runs_new[dead] = False
    assert turns(RELOAD, UNITS, steps, tokens.get) == []
    assert set(runs_new.values()) == {fails is None}
