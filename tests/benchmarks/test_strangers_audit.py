"""The run against strangers notices what it is there to notice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.strangers.honest import Notes
from benchmarks.strangers.run import ALL, Phase, Summary, _judge, run
from benchmarks.strangers.summary import lines


def phase(attack: str, refused: int = 0, p99: float = 4.0, health: float = 10.0, memory: float = 1.0) -> Phase:
    return Phase(attack, refused, 1.0, p99, health, memory, 100, 0.0)


@pytest.mark.parametrize(
    ("attacked", "problem"),
    [
        (phase("x", refused=2), "x: 2 requests of honest agents were refused, such as ['why']"),
        (phase("x", p99=13.0), "x: the p99 of honest agents grew 3.2 times"),
        (phase("x", health=2000.0), "x: /api/health waited 2000 ms"),
        (phase("x", memory=900.0), "x: the memory grew by 900 MB"),
    ],
)
def test_every_bound_that_does_not_hold_is_a_problem(attacked: Phase, problem: str) -> None:
    summary = Summary([phase("quiet")])
    _judge(summary, Notes())
    assert summary.problems == []
    summary.phases.append(attacked)
    _judge(summary, Notes(refused=["why", "and more"]))
    assert summary.problems == [problem]
    assert f"PROBLEM {problem}" in lines(summary)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_honest_agents_are_not_refused_while_strangers_attack(tmp_path: Path) -> None:
    """Figures of time depend on the machine; these do not."""
    summary = asyncio.run(run(tmp_path, 1.5, ALL))
    assert [(each.attack, each.refused) for each in summary.phases] == [(name, 0) for name in ["quiet", *ALL]]
    assert not [problem for problem in summary.problems if "p99" not in problem and "health" not in problem]
