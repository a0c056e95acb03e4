"""What the audit of `make chaos` finds: each promise, broken once by hand. And that a schedule is its seed's alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.chaos import audit
from benchmarks.chaos.diaries import Beginning, Diaries, Diary
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.mischief import INSIDE, TABLE
from benchmarks.chaos.mods.player.acts import ACTS
from benchmarks.chaos.outside import End
from benchmarks.chaos.players import MAD, MODS
from benchmarks.chaos.schedule import Act, plan
from modvisor.supervisor import EventResponse
from modvisor.supervisor.process.crashes import Cause


class Case:
    """A run in which all went well: one event for each of four mods, answered."""

    def __init__(self) -> None:
        self.ledger = Ledger(100)
        self.diaries = Diaries({})
        self.acts: list[Act] = []
        self.outside: Any = SimpleNamespace(deeds={}, replaced=set(), ends=[], unloaded=defaultdict(list), felled=[])
        self.load: Any = SimpleNamespace(wrong=[])
        self.letters: dict[int, str] = {}
        self.samples = [100_000_000] * 30
        for mod_id in MODS:
            self.diaries.of[mod_id] = [Diary(mod_id, 1, started=0.0, active=0.0)]
        for mod_id in ("steady0", "mad0", "mad1", "mad3"):
            self.handled(mod_id, EventResponse(True))

    def handled(self, mod_id: str, response: EventResponse, times: int = 1) -> int:
        number = self.ledger.open(mod_id, agent=0)
        for attempt in range(times):
            self.diaries.beginnings[number].append(Beginning(0.0, attempt + 1, 1))
            self.diaries.of[mod_id][0].begun.append(number)
        self.ledger.settle(number, response)
        return number

    def act(self, name: str, mod_id: str = "mad0") -> None:
        self.diaries.of[mod_id][0].acts.append((len(self.acts), name))
        self.acts.append(Act(0.0, mod_id, name, "now", 0))

    def ended(self, cause: Cause, pid: int | None = 1, mod_id: str = "mad0") -> None:
        self.outside.ends.append(End(mod_id, 1, pid, cause, "so", 100.0, ""))

    def problems(self) -> list[str]:
        ledger, diaries = self.ledger, self.diaries
        return [
            *audit.events(ledger, self.load, self.letters),
            *audit.handling(ledger, diaries),
            *audit.order(ledger, diaries),
            *audit.checkpoints(diaries, self.outside),
            *audit.causes(self.acts, diaries, self.outside),
            *audit.unreported(self.acts, diaries, self.outside),
            *audit.memory(self.samples),
        ]


def dead(letter: int) -> EventResponse:
    return EventResponse.failure("dead_lettered", "it kills", dead_letter=letter)


def lost(case: Case) -> None:
    case.ledger.open("mad0", 0)


def promised_and_lost(case: Case) -> None:
    case.handled("mad3", EventResponse.failure("pending", "later"))


def answered_twice(case: Case) -> None:
    case.ledger.settle(0, EventResponse(True))


def nameless(case: Case) -> None:
    case.handled("mad0", EventResponse(False, "something"))


def letter_without_event(case: Case) -> None:
    case.letters[7] = "e99"


def letter_not_in_the_store(case: Case) -> None:
    case.handled("mad0", dead(7), times=2)


def one_letter_for_two(case: Case) -> None:
    case.letters[7] = f"e{case.handled('mad0', dead(7), times=2)}"
    case.letters[7] = f"e{case.handled('mad0', dead(7), times=2)}"


def handled_by_nobody(case: Case) -> None:
    case.handled("mad0", EventResponse(True), times=0)


def given_up_too_early(case: Case) -> None:
    case.letters[7] = f"e{case.handled('mad0', dead(7))}"


def handled_more_than_once(case: Case) -> None:
    case.handled("mad1", EventResponse.failure("mod_crashed", "it ended"), times=2)


def handled_though_refused(case: Case) -> None:
    case.handled("mad0", EventResponse.failure("overloaded", "no room"))


def handled_after_its_answer(case: Case) -> None:
    case.diaries.beginnings[1].append(Beginning(float("inf"), 2, 2))


def same_attempt_twice(case: Case) -> None:
    case.diaries.beginnings[1].append(Beginning(0.0, 1, 2))


def never_sent(case: Case) -> None:
    case.diaries.beginnings[99].append(Beginning(0.0, 1, 1))


def out_of_order(case: Case) -> None:
    case.handled("steady0", EventResponse(True))
    case.diaries.of["steady0"][0].begun.reverse()


def old_checkpoint(case: Case) -> None:
    case.diaries.of["mad3"][0].acked.append((1.0, 5))
    case.diaries.of["mad3"].append(Diary("mad3", 2, started=2.0, active=3.0, restored=[(2.5, 4)]))


def no_checkpoint(case: Case) -> None:
    case.diaries.of["mad3"][0].acked.append((1.0, 5))
    case.diaries.of["mad3"].append(Diary("mad3", 2, started=2.0, active=3.0))


def wrong_cause(case: Case) -> None:
    case.act("segfault")
    case.ended(Cause.EXITED)


def end_without_reason(case: Case) -> None:
    case.ended(Cause.SIGNAL)


def end_of_a_steady_mod(case: Case) -> None:
    case.act("segfault")
    case.ended(Cause.SIGNAL)
    case.ended(Cause.SIGNAL, mod_id="steady0")


def unasked_start_failure(case: Case) -> None:
    case.ended(Cause.START_FAILURE, pid=None)


def no_report(case: Case) -> None:
    case.act("spin")


def growth(case: Case) -> None:
    case.samples = [100_000_000 + 5_000_000 * n for n in range(30)]


BROKEN: dict[Callable[[Case], None], str] = {
    lost: "lost",
    promised_and_lost: "lost",
    answered_twice: "answered twice",
    nameless: "without a reason",
    letter_without_event: "dead letter 7",
    letter_not_in_the_store: "dead letter 7",
    one_letter_for_two: "the same dead letter",
    handled_by_nobody: "no handler began with it",
    given_up_too_early: "given up after 1 of 2 attempts",
    handled_more_than_once: "handled 2 times, at most 1",
    handled_though_refused: "handled all the same",
    handled_after_its_answer: "handled again after its end",
    same_attempt_twice: "do not count up",
    never_sent: "never sent",
    out_of_order: "began with event",
    old_checkpoint: "was given the count 4",
    no_checkpoint: "was given the count 0",
    wrong_cause: "reported as exited",
    end_without_reason: "gone through nothing",
    end_of_a_steady_mod: "steady0",
    unasked_start_failure: "without being told to",
    no_report: "no crash report",
    growth: "grew from",
}


def test_a_run_in_which_all_went_well_has_no_problems() -> None:
    case = Case()
    case.act("segfault")
    case.ended(Cause.SIGNAL)
    case.act("stubborn", "mad2")
    case.letters[3] = f"e{case.handled('mad0', dead(3), times=2)}"
    case.handled("mad1", EventResponse.failure("mod_crashed", "it ended"))
    late = case.handled("mad3", EventResponse.failure("pending", "later"))
    case.ledger.settle(late, EventResponse(True))
    assert case.problems() == []
    assert (case.ledger.sent, case.ledger.late, case.ledger.unsettled) == (7, 1, 0)
    assert case.ledger.counts(["mad0", "mad1"]) == {"answered": 2, "dead_lettered": 1, "mod_crashed": 1}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_found(broken: Callable[[Case], None]) -> None:
    case = Case()
    broken(case)
    assert any(BROKEN[broken] in problem for problem in case.problems()), case.problems()


def test_the_table_and_the_mods_know_the_same_ways_to_misbehave() -> None:
    assert {mischief.act or name for name, mischief in INSIDE.items()} == set(ACTS)


def test_a_schedule_follows_from_its_seed_alone() -> None:
    script = (
        "from benchmarks.chaos.schedule import plan; from benchmarks.chaos.players import MAD; print(plan(7, MAD, 60))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout.decode().strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert told == {str(plan(7, MAD, 60))}
    assert plan(8, MAD, 60) != plan(7, MAD, 60)


def test_every_way_to_misbehave_has_its_turn() -> None:
    names = {act.name for act in plan(1, MAD, 120)}
    assert names >= set(TABLE)
