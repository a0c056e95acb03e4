"""What `make reloads` finds: each promise, broken once by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.reloads import audit
from benchmarks.reloads.mods.counting import SHOWN, Counting
from benchmarks.reloads.run import Plan, Summary, quantiles
from benchmarks.reloads.summary import lines
from modvisor.mods import Event

pytestmark = pytest.mark.anyio


def told(**other: Any) -> dict[str, Any]:
    return {"begun": {"agent:a": 2}, "done": {"agent:a": 2}, "wrong": [], "wrong_count": 0, "handovers": 3, **other}


def stats(**other: Any) -> dict[str, Any]:
    traffic = dict.fromkeys(("redelivered", "dead_lettered", "durable_under_way", "in_flight", "queue_depth"), 0)
    zero: dict[str, Any] = dict.fromkeys(("crashes", "restarts", "rollbacks", "recycled"), 0)
    return {**zero, "traffic": traffic, **other}


SENT = Counter({"agent:a": 2})


def test_a_run_without_problems() -> None:
    assert list(audit.events(SENT, SENT, Counter(), 0)) == []
    assert list(audit.counts(SENT, told())) == []
    assert list(audit.handovers(3, told(), stats())) == []


@pytest.mark.parametrize(
    ("answered", "failed", "unanswered", "said"),
    [
        (1, {}, 1, "1 events were lost"),
        (1, {"overloaded": 1}, 0, "1 events failed: overloaded"),
        (1, {}, 0, "1 events were neither answered"),
        (3, {}, 0, "-1 events were neither answered"),
    ],
)
def test_an_event_that_has_no_good_end(answered: int, failed: dict[str, int], unanswered: int, said: str) -> None:
    problems = list(audit.events(SENT, Counter({"agent:a": answered}), Counter(failed), unanswered))
    assert any(problem.startswith(said) for problem in problems), problems


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"done": {"agent:a": 1}}, "agent:a: 2 events sent, 1 done"),
        ({"begun": {"agent:a": 3}}, "agent:a: 2 events sent, 3 begun"),
        ({"done": {"agent:a": 2, "agent:b": 1}}, "agent:b: 0 events sent, 1 done"),
        ({"wrong": ["twice"], "wrong_count": 3}, "and 2 more of the kind"),
    ],
)
def test_a_count_that_is_not_exact(other: dict[str, Any], said: str) -> None:
    assert said in list(audit.counts(SENT, told(**other)))


@pytest.mark.parametrize(
    ("asked", "other", "said"),
    [
        (4, {}, "4 reloads, but the counts were handed over 3 times"),
        (3, {"crashes": 1}, "1 crashes"),
        (3, {"rollbacks": 2}, "2 rollbacks"),
        (3, {"traffic": {**stats()["traffic"], "durable_under_way": 5}}, "5 events durable under way"),
    ],
)
def test_a_process_that_came_otherwise(asked: int, other: dict[str, Any], said: str) -> None:
    assert said in list(audit.handovers(asked, told(), stats(**other)))


async def test_the_mod_sees_what_comes_twice_too_early_or_not_at_all() -> None:
    mod = Counting()
    mod.config = {}

    async def handle(number: int) -> None:
        await mod.up(Event("count.up", "agent:a", payload={"n": number}))

    for number in (1, 2, 2, 3, 5):
        await handle(number)
    assert mod.wrong == ["agent:a: event 2 came after event 2", "agent:a: event 5 came after event 3"]
    successor = Counting()
    successor.set_state(mod.get_state(), "1")
    assert (successor.begun, successor.done) == ({"agent:a": 5}, {"agent:a": 5})
    assert (successor.handovers, len(successor.spent), successor.wrong_count) == (1, 1, 2)
    successor.config, successor.begun = {}, {"agent:a": 6}
    successor.get_state()
    assert successor.wrong[-1] == "its state was asked for while it was handling events"
    for number in range(100, 0, -1):
        await successor.up(Event("count.up", "agent:a", payload={"n": number}))
    assert (len(successor.wrong), successor.wrong_count) == (SHOWN, 103)


def summary(rate: float, pause: float, own: float) -> Summary:
    times = [float(pause)] * 100
    made = Summary(
        Plan(), sent=10, seconds=1.0, rates={"reloads": rate}, pauses=times, own=[own] * 100, queued=[1] * 100
    )
    made.latency = {"reloads": quantiles(times)}
    return made


@pytest.mark.parametrize(
    ("rate", "pause", "own", "said"),
    [
        (5000, 19, 0, "met"),
        (5000, 21, 0, "MISSED"),
        (5000, 21, 2, "met"),
        (4000, 1, 0, "4,000 per second; NOT THE 5,000 ASKED FOR"),
    ],
)
def test_what_is_said_of_the_goal_and_of_the_rate(rate: float, pause: float, own: float, said: str) -> None:
    text = "\n".join(lines(summary(rate, pause, own)))
    assert said in text
    assert ("MISSED" in text) is (said == "MISSED")
    assert ("NOT THE" in text) is (rate < 5000)
