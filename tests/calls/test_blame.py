"""Who is to blame for the death of a worker, told from its mark and its end."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.ipc.mark import Marks
from modvisor.supervisor.calls.blame import End, Verdict, end_of, halves, judge
from modvisor.supervisor.calls.deaths import Deaths
from modvisor.supervisor.calls.journey import Journey
from modvisor.supervisor.process.crashes import Cause, CrashReport

NOBODY = Marks()


def journeys(count: int) -> list[tuple[int, Journey]]:
    return [(n, Journey(Event("a.b", "agent:x", payload={"n": n}), math.inf)) for n in range(count)]


def report(cause: Cause = Cause.EXITED, detail: str = "exit code 3", traceback: str | None = None) -> CrashReport:
    return CrashReport("work", None, 1, 1, 0.0, 0.0, cause, detail, traceback, [], [], 0)


def verdict(count: int, marks: Marks | None, told: CrashReport | None = None, *, in_trial: bool = False) -> Verdict:
    dead = journeys(count)
    return judge(dead, marks, told or report(), tried=[journey for _, journey in dead] if in_trial else [])


def numbers(events: tuple[Journey, ...]) -> list[int]:
    return [event.event.payload["n"] for event in events]


def guilty(found: Verdict) -> int | None:
    return None if found.guilty is None else found.guilty.event.payload["n"]


@pytest.mark.parametrize(
    ("cause", "detail", "end"),
    [
        (Cause.EXITED, "exit code 3", End.OWN),
        (Cause.SIGNAL, "signal SIGSEGV", End.OWN),
        (Cause.SIGNAL, "signal SIGABRT", End.OWN),
        (Cause.SIGNAL, "signal SIGKILL", End.OUTSIDE),
        (Cause.SIGNAL, "signal SIGTERM", End.OUTSIDE),
        (Cause.HANG, "its event loop was blocked for more than 5 s", End.OWN),
        (Cause.LIMIT_HIT, "cpu_seconds: used up all of 3", End.OWN),
        (Cause.LIMIT_HIT, "memory: used 612.4 MB of 500.0 MB", End.LIMIT),
        (Cause.OUT_OF_MEMORY, "killed by the kernel", End.LIMIT),
        (Cause.PROTOCOL_VIOLATION, "a frame too large", End.OWN),
    ],
)
def test_the_kind_of_an_end_is_read_from_its_report(cause: Cause, detail: str, end: End) -> None:
    assert end_of(report(cause, detail)) is end
    assert end_of(None) is End.ASKED


def test_the_one_whose_handler_ran_is_guilty_and_the_others_are_innocent() -> None:
    found = verdict(50, Marks(loop=7))
    assert (guilty(found), found.groups, found.is_of_mod) == (7, (), True)


def test_a_call_for_the_end_names_the_guilty_whatever_else_ran_and_however_it_ended() -> None:
    told = report(Cause.SIGNAL, "signal SIGKILL")
    assert guilty(verdict(9, Marks(caught=4, loop=2, threads={11: 3}), told)) == 4


def test_of_several_threads_the_one_that_faulted_is_guilty() -> None:
    marks = Marks(loop=1, threads={0x7F01: 2, 0x7F02: 3})
    dump = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f02 (most recent call first):\n  File"
    assert guilty(verdict(5, marks, report(Cause.SIGNAL, "signal SIGSEGV", dump))) == 3
    main = dump.replace("7f02", "6000")
    assert guilty(verdict(5, marks, report(Cause.SIGNAL, "signal SIGSEGV", main))) == 1


def test_of_a_blocked_loop_the_step_on_it_is_guilty() -> None:
    assert guilty(verdict(5, Marks(loop=1, threads={9: 2}), report(Cause.HANG, "its event loop was blocked"))) == 1


def test_several_that_ran_are_suspects_and_the_others_innocent() -> None:
    found = verdict(9, Marks(threads={1: 4, 2: 5, 3: 6}))
    assert guilty(found) is None
    assert [numbers(group) for group in found.groups] == [[4, 5], [6]]


def test_where_nobody_is_named_all_are_suspects_in_two_halves() -> None:
    for marks, told in ((NOBODY, report()), (Marks(loop=2), report(Cause.SIGNAL, "signal SIGKILL"))):
        found = verdict(5, marks, told)
        assert [numbers(group) for group in found.groups] == [[0, 1, 2], [3, 4]]
        assert guilty(found) is None
        assert found.unproven is None


def test_what_belongs_to_none_of_the_events_leaves_all_of_them_innocent() -> None:
    for found in (verdict(5, Marks(loop=99)), verdict(1, Marks(loop=99), in_trial=True)):
        assert (guilty(found), found.groups, found.is_of_mod) == (None, (), True)


def test_the_one_that_dies_alone_in_a_trial_is_guilty_of_an_end_of_its_own() -> None:
    found = verdict(1, NOBODY, in_trial=True)
    assert (guilty(found), found.is_of_mod) == (0, False)


def test_nobody_is_charged_for_a_kill_from_outside_even_alone_unless_it_ran() -> None:
    killed = report(Cause.SIGNAL, "signal SIGKILL")
    waiting = verdict(1, NOBODY, killed, in_trial=True)
    assert (guilty(waiting), waiting.unproven, waiting.is_of_mod) == (None, None, True)
    running = verdict(1, Marks(loop=0), killed, in_trial=True)
    assert guilty(running) is None
    assert running.unproven is not None


def test_memory_is_nobodys_until_an_event_is_alone() -> None:
    told = report(Cause.OUT_OF_MEMORY, "killed by the kernel")
    assert [numbers(group) for group in verdict(2, Marks(loop=0), told).groups] == [[0], [1]]
    assert guilty(verdict(1, NOBODY, told, in_trial=True)) == 0


@pytest.mark.parametrize("told", [report(), None])
def test_an_end_that_the_network_asked_for_blames_nobody(told: Any) -> None:
    found = judge(journeys(3 if told is None else 0), NOBODY, told)
    assert found == Verdict()


@pytest.mark.parametrize("marks", [NOBODY, None, Marks(loop=1), Marks(loop=1, threads={5: 0})])
@pytest.mark.parametrize("on_trial", [False, True])
def test_what_an_event_causes_at_the_same_mod_is_blamed_on_it(marks: Marks | None, on_trial: bool) -> None:
    """The second event was sent by the handler of the first one, and ends with it."""
    (_, first), (_, other) = journeys(2)
    nested = Journey(Event("a.b", "mod:work"), math.inf, parent=first)
    dead = [(0, first), (1, nested)]
    found = judge(dead, marks, report(), tried=[first] if on_trial else [])
    assert nested not in [event for group in found.groups for event in group]
    if on_trial or marks != NOBODY:
        assert found.guilty is first
    among = judge([*dead, (2, other)], Marks(loop=1), report())
    assert (among.guilty, among.named, among.groups) == (first, (nested,), ())


def test_what_is_known_of_a_suspect_outlives_a_quarantine() -> None:
    """Else a mod that is tried again would die of all of them together, over and over."""
    found, group = verdict(2, NOBODY), object()
    again = [Deaths.of(found.applied_to(journey).record(2), group) for part in found.groups for journey in part]
    assert [(deaths.is_suspect, deaths.is_last, deaths.group) for deaths in again] == [(True, True, group)] * 2
    in_trial = verdict(2, NOBODY, in_trial=True)
    alone = [Deaths.of(in_trial.applied_to(part[0]).record(3), group) for part in in_trial.groups]
    assert group not in [deaths.group for deaths in alone]


@settings(max_examples=60)
@given(st.data())
def test_a_death_in_a_trial_that_is_not_the_mods_brings_the_trial_further(data: st.DataObject) -> None:
    """Somebody is charged, or the suspects of the next trial are fewer. Else a crash could be repeated for ever."""
    dead = journeys(data.draw(st.integers(1, 6)))
    tried = [journey for _, journey in dead][: data.draw(st.integers(1, len(dead)))]
    ids = st.one_of(st.none(), st.integers(0, 8))
    marks = Marks(data.draw(ids), data.draw(ids), dict(enumerate(data.draw(st.lists(st.integers(0, 8), max_size=3)))))
    told = data.draw(st.sampled_from([
        report(), report(Cause.SIGNAL, "signal SIGKILL"), report(Cause.SIGNAL, "signal SIGSEGV"),
        report(Cause.OUT_OF_MEMORY, "killed by the kernel"), report(Cause.HANG, "its event loop was blocked"),
    ]))  # fmt: skip
    found = judge(dead, data.draw(st.sampled_from([marks, NOBODY, None])), told, tried=tried)
    if not found.is_of_mod:
        charged = [event for event in (found.guilty, found.unproven) if event is not None]
        assert set(charged) & set(tried) or all(len(group) < len(tried) for group in found.groups)


@given(st.integers(1, 200), st.integers(0, 199))
def test_halving_finds_one_poison_in_so_many_deaths_as_it_has_digits(count: int, poison: int) -> None:
    """Each death of a group that holds it is halved again, until it dies alone."""
    poison %= count
    group, deaths = tuple(journey for _, journey in journeys(count)), 1
    while len(group) > 1:
        parts = halves(group)
        assert sorted(numbers(tuple(event for part in parts for event in part))) == numbers(group)
        group = next(part for part in parts if poison in numbers(part))
        deaths += 1
    assert numbers(group) == [numbers(group)[0]]
    assert deaths <= math.ceil(math.log2(count)) + 1
