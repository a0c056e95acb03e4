"""Which mods must yield: decided from what they used, and done to real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modvisor.supervisor.config.mods.mod import LimitsConfig
from modvisor.supervisor.fleet.figures.monitor import ResourceMonitor
from modvisor.supervisor.limits.background import SMALL_NICE
from modvisor.supervisor.limits.greed import MODEST_FOR, STALE, Greed
from modvisor.supervisor.limits.tripwires import Tripwires
from modvisor.supervisor.limits.watchdog import Watchdog
from tests.conftest import until

SPIN = "print('up', flush=True)\nwhile True: pass"


def take(greed: Greed, *cores: float, step: float = 0.1) -> list[bool]:
    """Let a mod use so many cores from look to look; what was decided each time."""
    found, at, used = [], 10.0, 5.0
    greed.take(at, used)
    for each in cores:
        at, used = at + step, used + each * step
        greed.take(at, used)
        found.append(greed.yields)
    return found


def test_a_mod_that_computes_yields_at_the_second_look() -> None:
    assert take(Greed(0.8), 1.0) == [True]
    assert take(Greed(0.8), 0.79, 0.5, 0.79) == [False, False, False]
    assert take(Greed(None), 8.0, 8.0) == [False, False]


def test_it_has_its_share_again_after_it_was_modest_for_a_while() -> None:
    modest = [0.3] * int(MODEST_FOR / 0.1)
    assert all(take(Greed(0.8), 1.0, 1.0, *modest, 0.5, *modest))
    assert take(Greed(0.8), 1.0, 1.0, *modest, 0.3, 0.3, 0.3)[-1] is False


def test_a_figure_of_long_ago_decides_nothing() -> None:
    assert take(Greed(0.8), 1.0, 1.0, step=STALE + 0.1) == [False, False]


@pytest.fixture
def spinning() -> Iterator[int]:
    """A process in a session of its own, as a worker is."""
    command = [sys.executable, "-c", SPIN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process.pid
        process.kill()


def shares(pid: int) -> set[str]:
    """Return the nicenesses of the process and of its session, as far as there are such."""
    session = Path(f"/proc/{pid}/autogroup")
    found = {session.read_text().split()[-1]} if session.exists() else set()
    return found | ({str(os.getpriority(os.PRIO_PROCESS, pid))} if os.geteuid() == 0 else set())


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
async def test_a_spinning_process_has_a_smaller_share_while_it_spins(spinning: int) -> None:
    if not shares(spinning):
        pytest.skip("no autogroups, and not root")
    watchdog = Watchdog(ResourceMonitor(list).take)
    watchdog.watch("mad", 1, spinning, LimitsConfig(cpu_yield=0.05), lambda *_: None)

    def yields() -> bool:
        watchdog.judge_greed(crowded=True)
        return watchdog.yields(spinning)

    await until(yields)
    assert shares(spinning) == {str(SMALL_NICE)}
    os.kill(spinning, signal.SIGSTOP)
    await until(lambda: not yields())
    assert shares(spinning) == {"0"}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_a_mod_without_such_a_limit_is_left_alone(spinning: int) -> None:
    watchdog = Watchdog(ResourceMonitor(list).take)
    watchdog.watch("free", 1, spinning, LimitsConfig(cpu_yield=None), lambda *_: None)
    (tree,) = watchdog._trees()
    for at in (1.0, 1.1, 1.2):
        tree.judge_greed(at)
    assert not watchdog.yields(spinning)


def test_a_machine_is_crowded_when_more_runs_than_it_has_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    tripwires = Tripwires()
    monkeypatch.setattr("modvisor.supervisor.limits.tripwires.CORES", 0)
    assert tripwires.crowded() is (sys.platform == "linux"), "this thread runs"
    monkeypatch.setattr("modvisor.supervisor.limits.tripwires.CORES", 10**6)
    assert not tripwires.crowded()
    tripwires.close()
    assert not tripwires.crowded()
