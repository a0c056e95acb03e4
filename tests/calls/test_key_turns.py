"""Whose turn it is among events of one key."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.supervisor.calls.admission import Unanswered
from modvisor.supervisor.calls.journey import Journey
from modvisor.supervisor.calls.key_turns import KeyTurns, has_turns
from modvisor.supervisor.config.mods.mod import ModConfig

pytestmark = pytest.mark.anyio

PATH = "payload.key"


def journey_of(key: object, parent: Journey | None = None) -> Journey:
    return Journey(Event("test.ask", "agent:alice", payload={"key": key}), math.inf, parent)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["comes", "leaves", "gives up"])), max_size=60))
def test_one_of_a_key_at_a_time_in_the_order_in_which_they_came(steps: list[tuple[str, str]]) -> None:
    asyncio.run(_walk(steps))


async def _walk(steps: list[tuple[str, str]]) -> None:
    """Compare with a queue for each key, whose first event has the turn."""
    turns, lines = KeyTurns(), defaultdict[str, deque[Journey]](deque)
    waits: dict[Journey, asyncio.Future[None]] = {}
    for key, step in steps:
        line = lines[key]
        if step == "comes":
            journey = journey_of(key)
            turn = turns.enter(journey, PATH)
            assert (turn is None) == (not line)
            line.append(journey)
            if turn is not None:
                waits[journey] = turn
        elif line:
            gone = line.popleft() if step == "leaves" or len(line) == 1 else line.pop()
            turns.leave(gone)
            waits.pop(gone, None)
        having = {each[0] for each in lines.values() if each}
        assert {journey for journey, turn in waits.items() if turn.done()} == having & set(waits)
        assert len(turns) == sum(max(0, len(each) - 1) for each in lines.values())
    for line in lines.values():
        for journey in line:
            turns.leave(journey)
    assert (len(turns), turns.waiting_bytes, turns._lines, turns._keys) == (0, 0, {}, {})


@pytest.mark.parametrize("key", ["a", 7, None, [1, {"b": 2}], {"a": [1]}, b"x", 1.5, True])
async def test_a_key_is_any_value_that_travels(key: object) -> None:
    turns = KeyTurns()
    assert turns.enter(journey_of(key), PATH) is None
    assert turns.enter(journey_of(key), PATH) is not None
    assert turns.enter(journey_of("another"), PATH) is None


async def test_an_event_without_the_value_has_its_source_as_the_key() -> None:
    turns = KeyTurns()
    assert turns.enter(Journey(Event("test.ask", "agent:alice"), math.inf), PATH) is None
    assert turns.enter(Journey(Event("test.ask", "agent:alice"), math.inf), PATH) is not None
    assert turns.enter(Journey(Event("test.ask", "agent:bob"), math.inf), PATH) is None


async def test_a_descendant_of_the_holder_needs_no_turn() -> None:
    turns = KeyTurns()
    holder = journey_of("a")
    assert turns.enter(holder, PATH) is None
    waiting = journey_of("a")
    turn = turns.enter(waiting, PATH)
    assert turn is not None
    grandchild = journey_of("a", journey_of("b", holder))
    assert turns.enter(grandchild, PATH) is None
    turns.leave(grandchild)
    assert not turn.done(), "a descendant that ends hands nothing on"
    turns.leave(holder)
    assert turn.done()


async def test_those_who_wait_fail_when_the_mod_is_away() -> None:
    turns = KeyTurns()
    first, second, third = (journey_of("a") for _ in range(3))
    assert turns.enter(first, PATH) is None
    waits = [turns.enter(journey, PATH) for journey in (second, third)]
    turns.refuse(Unanswered("away", code="mod_unloaded"))
    errors = [turn.exception() for turn in waits if turn is not None]
    assert [getattr(error, "code", None) for error in errors] == ["mod_unloaded"] * 2
    assert errors[0] is not errors[1]
    turns.leave(first)
    turns.leave(second)
    turns.leave(third)
    assert turns.enter(journey_of("a"), PATH) is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ModConfig("./mod", "mod"), False),
        (ModConfig("./mod", "mod", workers=3), False),
        (ModConfig("./mod", "mod", partition_by="least_loaded"), False),
        (ModConfig("./mod", "mod", partition_by="source"), True),
        (ModConfig("./mod", "mod", workers=3, partition_by="payload.key"), True),
        (ModConfig("./mod", "mod", partition_by="payload.key", overlap=True), False),
    ],
)
def test_which_mods_have_turns(config: ModConfig, expected: bool) -> None:
    assert has_turns(config) is expected
