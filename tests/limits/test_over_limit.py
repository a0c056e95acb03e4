"""What is over a limit and when, on made-up readings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modvisor.supervisor.config.mods.mod import LimitsConfig
from modvisor.supervisor.limits.over_limit import REPEAT, Exceeded, Reading, Watch

NO_LIMITS = LimitsConfig(open_files=None, processes=None, threads=None)
QUIET = Reading(at=0.0, memory=1_000_000, processes=1, threads=2)


def texts(limits: LimitsConfig, reading: Reading) -> list[str]:
    return [each.text for each in Watch(limits).take(reading)]


# -- decisions


def test_what_is_within_its_limits_is_not_told() -> None:
    limits = LimitsConfig(memory=10_000_000, memory_soft=5_000_000, processes=3, threads=9)
    assert Watch(limits).take(replace(QUIET, memory=5_000_000, processes=3, threads=9)) == []
    assert Watch(NO_LIMITS).take(replace(QUIET, memory=10**12, processes=10**6, threads=10**6)) == []


@pytest.mark.parametrize(
    ("limits", "reading", "expected"),
    [
        (
            LimitsConfig(memory=500_000_000),
            replace(QUIET, memory=612_400_000),
            Exceeded("memory", 612_400_000, 500_000_000, True, "memory: used 612.4 MB of 500.0 MB"),
        ),
        (
            LimitsConfig(memory=500_000_000, memory_soft=400_000_000),
            replace(QUIET, memory=450_000_000),
            Exceeded("memory_soft", 450_000_000, 400_000_000, False, "memory_soft: used 450.0 MB of 400.0 MB"),
        ),
        (
            LimitsConfig(processes=100),
            replace(QUIET, processes=131),
            Exceeded("processes", 131, 100, True, "processes: 131 of 100"),
        ),
        (LimitsConfig(threads=5), replace(QUIET, threads=6), Exceeded("threads", 6, 5, True, "threads: 6 of 5")),
        (
            LimitsConfig(processes=10),
            replace(QUIET, zombies=101),
            Exceeded("processes", 101, 10, True, "processes: 101 that ended and were not waited for, 10 allowed"),
        ),
    ],
)
def test_what_is_over_its_limit_is_told(limits: LimitsConfig, reading: Reading, expected: Exceeded) -> None:
    assert Watch(limits).take(reading) == [expected]


def test_above_the_hard_limit_the_soft_one_is_no_news() -> None:
    limits = LimitsConfig(memory=500_000_000, memory_soft=400_000_000)
    assert texts(limits, replace(QUIET, memory=600_000_000)) == ["memory: used 600.0 MB of 500.0 MB"]


def test_several_are_told_at_once() -> None:
    limits = LimitsConfig(processes=1, threads=1)
    assert texts(limits, replace(QUIET, processes=2, threads=2)) == ["processes: 2 of 1", "threads: 2 of 1"]


def test_the_same_is_told_again_after_a_while() -> None:
    watch = Watch(LimitsConfig(threads=1))
    told = [bool(watch.take(replace(QUIET, at=at))) for at in (0.0, 1.0, REPEAT - 0.1, REPEAT, 11.0)]
    assert told == [True, False, False, True, False]


def test_a_folder_that_is_too_large() -> None:
    watch = Watch(LimitsConfig(disk=1_000_000))
    assert watch.take_disk(1_000_000, 0.0) == []
    (found,) = watch.take_disk(1_500_000, 1.0)
    assert found == Exceeded("disk", 1_500_000, 1_000_000, True, "disk: used 1.5 MB of 1.0 MB")
    assert watch.take_disk(1_500_000, 2.0) == []
    assert Watch(NO_LIMITS).take_disk(10**12, 0.0) == []


def test_memory_is_measured_exactly_before_anybody_is_ended_for_it() -> None:
    watch = Watch(LimitsConfig(memory=5_000_000, memory_soft=3_000_000))
    assert not watch.doubts(replace(QUIET, memory=3_000_000))
    assert watch.doubts(replace(QUIET, memory=3_000_001))
    assert not watch.doubts(replace(QUIET, memory=6_000_000, memory_exact=True))
    assert not Watch(NO_LIMITS).doubts(replace(QUIET, memory=10**12))


@pytest.mark.parametrize(
    ("limits", "near", "far"),
    [
        (LimitsConfig(memory=1000), {"memory": 801}, {"memory": 800}),
        (LimitsConfig(memory=1000, memory_soft=500), {"memory": 401}, {"memory": 400}),
        (LimitsConfig(processes=10), {"processes": 9}, {"processes": 8}),
        (LimitsConfig(processes=10), {"zombies": 80}, {"zombies": 79}),
        (LimitsConfig(threads=10), {"threads": 9}, {"threads": 8}),
        (LimitsConfig(cpu=0.5), {"cores": 0.41}, {"cores": 0.4}),
    ],
)
def test_what_is_near_its_limit_is_looked_at_more_often(
    limits: LimitsConfig, near: dict[str, Any], far: dict[str, Any]
) -> None:
    low = Reading(at=0.0, memory=0, processes=1, threads=1)
    assert Watch(limits).is_near(replace(low, **near))
    assert not Watch(limits).is_near(replace(low, **far))
    assert not Watch(NO_LIMITS).is_near(replace(low, **near))


# -- behind the others


def idles(watch: Watch, *figures: tuple[float, float | None]) -> list[bool]:
    found = []
    for at, cores in figures:
        watch.take(replace(QUIET, at=at, cores=cores))
        found.append(watch.idle)
    return found


def test_over_its_share_for_a_while_a_mod_gets_what_others_leave() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    assert idles(watch, (0.0, 0.9), (0.9, 0.9), (1.0, 0.9)) == [False, False, True]


def test_a_short_burst_does_not_count() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    assert idles(watch, (0.0, 0.9), (0.9, 0.4), (1.0, 0.9), (1.9, 0.9)) == [False] * 4


def test_well_below_its_share_for_a_while_it_has_it_again() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    idles(watch, (0.0, 0.9), (1.0, 0.9))
    assert idles(watch, (2.0, 0.45), (6.0, 0.45)) == [True, True], "in the dead band nothing changes"
    assert idles(watch, (7.0, 0.3), (8.0, 0.45), (9.0, 0.3), (11.9, 0.3), (12.0, 0.3)) == [True] * 4 + [False]


def test_what_is_not_known_changes_nothing() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    assert idles(watch, (0.0, None), (0.1, 0.9), (0.6, None), (1.1, 0.9)) == [False, False, False, True]
    assert idles(Watch(NO_LIMITS), (0.0, 9.0), (9.0, 9.0)) == [False, False]
