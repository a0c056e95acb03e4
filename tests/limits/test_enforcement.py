"""Which mechanism enforces each limit, and what a worker is told to enforce itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modvisor.supervisor.config.mods.mod import LimitsConfig, ModConfig
from modvisor.supervisor.limits.cgroups import Cgroup
from modvisor.supervisor.limits.enforcement import LIMITS, Enforcement, LimitsInForce, enforced_by, limits_stats

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def in_force(limits: LimitsConfig, cgroup: Cgroup | None = None) -> LimitsInForce:
    enforcement = Enforcement("net", False, lambda _pids, _members: {})
    config = ModConfig(mod_id="wiki", path="pkg.wiki", limits=limits)
    return LimitsInForce(enforcement, config, 1, Path("/nowhere"), cgroup)


def test_the_worker_is_told_the_limits_that_it_sets_itself() -> None:
    told = in_force(LimitsConfig(memory=1000, disk=2000, open_files=30, threads=40, concurrency=5)).worker_limits()
    assert told == {
        "memory": 1000, "cpu_seconds": None, "open_files": 30, "disk": 2000, "tasks": 40, "stacks": 5,
    }  # fmt: skip


def test_a_worker_whose_cgroup_counts_threads_counts_none_itself(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path, {"threads": "cgroup pids.max"})
    assert in_force(LimitsConfig(threads=40), cgroup).worker_limits()["tasks"] is None
    assert in_force(LimitsConfig(threads=40), Cgroup(tmp_path)).worker_limits()["tasks"] == 40


@on_linux
def test_the_watchdog_stands_behind_the_other_means() -> None:
    assert enforced_by({}, {}) == {
        "memory": "watchdog", "memory_soft": "watchdog", "disk": "watchdog", "cpu": "SCHED_IDLE",
        "cpu_seconds": None, "open_files": None, "processes": "watchdog", "threads": "watchdog",
    }  # fmt: skip
    rlimits = {"memory": "RLIMIT_DATA", "disk": "RLIMIT_FSIZE", "cpu_seconds": "RLIMIT_CPU", "tasks": "RLIMIT_NPROC"}
    groups = {"memory": "cgroup memory.max", "memory_soft": "cgroup memory.high", "cpu": "cgroup cpu.idle"}
    by = enforced_by(rlimits, groups)
    assert by["memory"] == "cgroup memory.max, watchdog, RLIMIT_DATA of each process"
    assert by["memory_soft"] == "watchdog, cgroup memory.high"
    assert by["disk"] == "watchdog, RLIMIT_FSIZE of each file"
    assert by["cpu"] == "cgroup cpu.idle"
    assert by["cpu_seconds"] == "RLIMIT_CPU of each process"
    assert by["threads"] == "RLIMIT_NPROC, watchdog"


def test_a_limit_that_is_not_set_is_enforced_by_nothing() -> None:
    stats = limits_stats(LimitsConfig(memory=None, threads=7), {}, None)
    assert tuple(stats) == LIMITS
    assert stats["memory"] == {"limit": None, "enforced_by": None}
    assert stats["threads"] == {"limit": 7, "enforced_by": "watchdog"}


def test_the_cgroup_of_an_incarnation_that_failed_to_start_is_removed_too(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path)
    limits = in_force(LimitsConfig(), cgroup)
    limits.ended()
    assert limits.owner._gone.get_nowait() is cgroup
