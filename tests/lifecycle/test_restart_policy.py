"""The restart policy: time and history in, decision out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config import ConfigError, RestartConfig, mod_config
from modvisor.supervisor.lifecycle.restart_policy import (
    MOST_TOLD,
    STARVED,
    GiveUp,
    Restart,
    RestartHistory,
    RestartPolicy,
)


def no_jitter() -> float:
    return 0.0


def steady(**options: Any) -> RestartPolicy:
    """A policy without chance in it."""
    return RestartPolicy(RestartConfig(**options), jitter=no_jitter)


def delays_of(policy: RestartPolicy, exits: int) -> list[float]:
    """The delays after quick failures at one moment; they must all be restarts."""
    decisions = [policy.exited(0.0, clean=False, uptime=0.0) for _ in range(exits)]
    assert all(isinstance(decision, Restart) for decision in decisions)
    return [decision.delay for decision in decisions if isinstance(decision, Restart)]


@pytest.mark.parametrize(
    ("policy", "clean", "comes_back"),
    [
        ("permanent", True, True),
        ("permanent", False, True),
        ("transient", True, False),
        ("transient", False, True),
        ("temporary", True, False),
        ("temporary", False, False),
    ],
)
def test_who_comes_back(policy: str, clean: bool, comes_back: bool) -> None:
    decision = RestartPolicy(RestartConfig(policy=policy)).exited(10.0, clean=clean, uptime=1.0)
    assert isinstance(decision, Restart) if comes_back else decision is None


def test_a_start_that_the_supervisor_lacked_means_for_never_counts() -> None:
    policy = RestartPolicy(RestartConfig(max_restarts=1, first_delay=1.0, max_delay=4.0), jitter=lambda: 0.0)
    delays = [policy.exited(0.0, clean=False, uptime=0.0, starved=True) for _ in range(5)]
    assert delays == [Restart(1.0), Restart(2.0), Restart(4.0), Restart(4.0), Restart(4.0)]


def test_a_start_that_the_supervisor_lacked_means_for_is_never_tried_again_without_a_pause() -> None:
    policy = steady(first_delay=0.0, max_delay=0.0)
    delays = [policy.exited(0.0, clean=False, uptime=0.0, starved=True) for _ in range(3)]
    assert delays == [Restart(STARVED)] * 3


def test_an_exit_that_needs_no_restart_is_not_counted() -> None:
    policy = steady(policy="transient", max_restarts=1)
    for _ in range(5):
        assert policy.exited(0.0, clean=True, uptime=0.0) is None
    assert policy.exited(0.0, clean=False, uptime=0.0) == Restart(0.1)


def test_the_delay_doubles_up_to_the_ceiling() -> None:
    assert delays_of(steady(max_restarts=10, first_delay=0.5, max_delay=3.0), 5) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_ceiling_below_the_first_delay_holds_from_the_start() -> None:
    assert delays_of(steady(first_delay=5.0, max_delay=1.0), 2) == [1.0, 1.0]


def test_a_healthy_spell_makes_the_delay_the_first_again() -> None:
    policy = steady(healthy_after=60.0)
    delays_of(policy, 3)
    assert policy.exited(100.0, clean=False, uptime=60.0) == Restart(0.1)


def test_one_more_than_allowed_within_the_window_is_given_up() -> None:
    policy = steady(max_restarts=2, window=60.0, healthy_after=1.0)  # each spell is healthy: only the window counts
    assert policy.exited(0.0, clean=False, uptime=1.0) == Restart(0.1)
    assert policy.exited(30.0, clean=False, uptime=1.0) == Restart(0.1)
    decision = policy.exited(60.0, clean=False, uptime=1.0)
    assert isinstance(decision, GiveUp)
    assert decision.reason == "ended 3 times within 60 s; the limit is 2 restarts"


def test_an_exit_older_than_the_window_is_forgotten() -> None:
    policy = steady(max_restarts=2, window=60.0, healthy_after=1.0)
    for now in (0.0, 30.0, 60.1, 90.2):
        assert isinstance(policy.exited(now, clean=False, uptime=1.0), Restart)


def test_slow_failures_in_a_row_are_given_up_too() -> None:
    policy = steady(max_restarts=2, window=10.0, healthy_after=60.0)
    assert isinstance(policy.exited(0.0, clean=False, uptime=5.0), Restart)
    assert isinstance(policy.exited(100.0, clean=False, uptime=5.0), Restart)
    decision = policy.exited(200.0, clean=False, uptime=5.0)
    assert isinstance(decision, GiveUp)
    assert decision.reason == "ended 3 times in a row before it had run 60 s; the limit is 2 restarts"


def test_no_restarts_allowed() -> None:
    assert isinstance(RestartPolicy(RestartConfig(max_restarts=0)).exited(0.0, clean=False, uptime=1000.0), GiveUp)


def test_reset_forgets_everything() -> None:
    policy = steady(max_restarts=3)
    delays_of(policy, 3)
    assert isinstance(policy.exited(0.0, clean=False, uptime=0.0), GiveUp)
    policy.reset()
    assert delays_of(policy, 3) == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "sometimes"},
        {"max_restarts": -1},
        {"window": -1.0},
        {"first_delay": float("nan")},
        {"max_delay": float("inf")},
        {"healthy_after": -1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_mistake_is_named_when_the_config_is_read(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        mod_config("./wiki", base_dir=Path(), restart=options)


# -- whatever happens

seconds = st.floats(min_value=0.0, max_value=1e6)
exits = st.lists(st.tuples(seconds, st.booleans(), seconds), min_size=1, max_size=60)  # since the former, clean, uptime


@given(seconds, seconds, st.floats(min_value=0.0, max_value=1.0), exits)
def test_delays_are_bounded_and_grow_until_a_healthy_spell(
    first_delay: float, max_delay: float, chance: float, exits: list[tuple[float, bool, float]]
) -> None:
    options: dict[str, Any] = {"max_restarts": 10_000, "first_delay": first_delay, "max_delay": max_delay}
    plain, shaken = steady(**options), RestartPolicy(RestartConfig(**options), jitter=lambda: chance)
    now, former = 0.0, 0.0
    for gap, clean, uptime in exits:
        now += gap
        decision = plain.exited(now, clean=clean, uptime=uptime)
        with_jitter = shaken.exited(now, clean=clean, uptime=uptime)
        assert isinstance(decision, Restart)
        assert isinstance(with_jitter, Restart)
        healthy = uptime >= 60.0
        assert (0.0 if healthy else former) <= decision.delay <= max_delay
        assert not healthy or decision.delay <= first_delay
        assert 0.75 * decision.delay <= with_jitter.delay <= decision.delay
        former = decision.delay


@given(st.integers(0, 20), st.lists(st.floats(0.0, 59.0), min_size=21, max_size=21), st.floats(0.0, 1e9))
def test_gives_up_after_exactly_the_allowed_number_of_quick_failures(
    max_restarts: int, uptimes: list[float], gap: float
) -> None:
    policy = RestartPolicy(RestartConfig(max_restarts=max_restarts))
    decisions = [policy.exited(i * gap, clean=False, uptime=uptime) for i, uptime in enumerate(uptimes)]
    assert all(isinstance(decision, Restart) for decision in decisions[:max_restarts])
    assert isinstance(decisions[max_restarts], GiveUp)


@given(st.integers(1, 5), st.lists(st.floats(min_value=60.001, max_value=1e6), max_size=60))
def test_never_gives_up_when_failures_are_rare_and_spells_healthy(max_restarts: int, gaps: list[float]) -> None:
    policy = RestartPolicy(RestartConfig(max_restarts=max_restarts, window=60.0, healthy_after=60.0))
    now = 0.0
    for gap in gaps:
        now += gap
        assert isinstance(policy.exited(now, clean=False, uptime=gap), Restart)


@given(st.integers(0, 5), exits)
def test_the_history_is_bounded(max_restarts: int, exits: list[tuple[float, bool, float]]) -> None:
    policy = RestartPolicy(RestartConfig(max_restarts=max_restarts))
    now = 0.0
    for gap, clean, uptime in exits:
        now += gap
        policy.exited(now, clean=clean, uptime=uptime)
        assert len(policy._exits) <= max_restarts + 1


def told(policy: RestartPolicy, now: float, at: float = 1000.0, served_since: float = 0.0) -> RestartHistory:
    return replace(policy.history("as asked", now, at), served_since=served_since)


def test_another_node_goes_on_counting_where_one_has_stopped() -> None:
    here, there = steady(max_restarts=2, window=60.0), steady(max_restarts=2, window=60.0)
    for now in (10.0, 20.0):
        assert isinstance(here.exited(now, clean=False, uptime=1.0), Restart)
    there.recall(told(here, 20.0), now=5.0, at=1030.0)  # 30 s later, by a clock of its own
    decision = there.exited(10.0, clean=False, uptime=1.0)
    assert decision == GiveUp("ended 3 times within 60 s; the limit is 2 restarts")


def test_what_another_node_has_counted_grows_old_too() -> None:
    here, there = steady(max_restarts=2, window=60.0), steady(max_restarts=2, window=60.0)
    here.exited(10.0, clean=False, uptime=1.0)
    here.exited(65.0, clean=False, uptime=1.0)
    there.recall(told(here, 65.0, served_since=1001.0), now=0.0, at=1061.0)  # it had a healthy spell there
    assert there.exited(1.0, clean=False, uptime=1.0) == Restart(0.1), "both ends lie too long ago"


def test_delays_go_on_growing_on_another_node_unless_the_mod_was_healthy() -> None:
    here = steady(first_delay=1.0, healthy_after=60.0)
    assert delays_of(here, 2) == [1.0, 2.0]
    for served_since, delay in ((0.0, 4.0), (1010.0, 4.0), (1001.0, 1.0)):
        there = steady(first_delay=1.0, healthy_after=60.0)
        there.recall(told(here, 0.0, served_since=served_since), now=0.0, at=1061.0)
        assert there.exited(1.0, clean=False, uptime=1.0) == Restart(delay)


def test_what_one_node_tells_another_one_is_bounded_and_a_clock_that_is_behind_does_no_harm() -> None:
    here, there = steady(max_restarts=1000), steady(max_restarts=MOST_TOLD)
    for _ in range(900):
        here.exited(0.0, clean=False, uptime=100.0)
    history = told(here, 0.0)
    assert len(history.ages) == MOST_TOLD
    there.recall(history, now=0.0, at=500.0)
    assert isinstance(there.exited(0.0, clean=False, uptime=100.0), GiveUp)
