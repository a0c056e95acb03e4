"""The scaled figures: what is scaled by what, and that two checkouts can be measured in turns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.speed import calibration, cost, instructions
from benchmarks.speed.calibration import QUIET, STEPS, Meter, Scale
from benchmarks.speed.floor import pinned
from benchmarks.speed.verdict import Spread

ROOT = Path(__file__).parent.parent.parent


def test_the_job_is_the_same_amount_of_work_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(calibration, "ping", lambda: done.append(1) or {"event_id": len(done), "payload": {"i": 0}})
    assert calibration.step_us() > 0
    assert len(done) == STEPS


def test_a_machine_of_half_the_speed_is_scaled_away(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([2 * QUIET, 2 * QUIET])
    monkeypatch.setattr(calibration, "step_us", lambda: next(took))
    with Scale() as scale:
        pass
    assert scale.factor == pytest.approx(0.5)


def test_a_meter_tells_for_how_long_the_process_waited_for_a_core() -> None:
    """Two processes that never sleep share one core: each of them waits for half of the time."""
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as rival, pinned(core):
        os.sched_setaffinity(rival.pid, {core})
        with Meter() as meter:
            end = time.process_time() + 0.1
            while time.process_time() < end:
                pass
        rival.kill()
    assert meter.beside("key", 1)["key.queued"] > 0.2


def test_a_meter_keeps_the_processes_apart() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as idle:
        assert idle.stdout is not None
        idle.stdout.readline()
        with Meter([idle.pid, os.getpid()]) as meter:
            sum(range(100_000))
        idle.communicate(b"\n")
    asleep, itself = meter.others
    assert asleep < meter.own
    assert itself > 0
    found = meter.throughput("key", 10)
    assert found.keys() == {"key", "key.cpu_us", "key.workers_us", "key.job_us", "key.queued", "key.per_cpu_s"}
    assert found["key.cpu_us"] == pytest.approx(meter.own * 1e5)
    assert found["key.per_cpu_s"] == pytest.approx(10 / (meter.own + sum(meter.others)))


def test_a_ratio_is_of_a_pair_of_rounds() -> None:
    ours, theirs = [{"worker_us": 10.0}, {"worker_us": 30.0}], [{"worker_us": 10.0}, {"worker_us": 20.0}]
    assert cost.ratios(ours, theirs) == [{"worker_us": 1.0}, {"worker_us": 1.5}]
    assert cost.spreads(ours) == {"worker_us": Spread(20.0, 10.0, 30.0)}
    assert cost.middle_half([1.0, 2.0, 3.0, 4.0, 500.0]).median == 3.0
    (told,) = cost.lines([cost.spreads(ours), cost.spreads(theirs)])
    assert told.split()[-8:-4] == ["20.000", "(10.000", "to", "30.000)"]


def test_two_checkouts_take_turns_and_neither_is_always_first() -> None:
    turns = []

    class Stub(cost.Checkout):
        def __init__(self, name: str) -> None:
            self.name = name

        def warm_up(self) -> None:
            turns.append(f"warm {self.name}")

        def round(self, quick: bool) -> cost.Round:
            turns.append(self.name)
            return {"worker_us": float(len(turns))}

    found = cost.measured([Stub("a"), Stub("b")], rounds=2, quick=False)
    assert turns == ["warm a", "warm b", *"ab", *"ba"]
    assert found == [[{"worker_us": 3.0}, {"worker_us": 6.0}], [{"worker_us": 4.0}, {"worker_us": 5.0}]]


@pytest.mark.slow
def test_it_measures_any_checkout_beside_this_one() -> None:
    command = [sys.executable, "-m", "benchmarks.speed.cost", "--quick", "--json", "--rounds", "1", "--against"]
    done = subprocess.run([*command, sys.executable], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["roots"] == [str(ROOT)] * 2
    for column in ("this", "other", "this / other"):
        assert found[column].keys() == cost.LABELS.keys()
        assert all(spread["median"] > 0 for spread in found[column].values())


@pytest.mark.slow  # a network starts in valgrind
@pytest.mark.skipif(shutil.which("callgrind_control") is None, reason="valgrind is not installed")
def test_the_instructions_of_an_event_are_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    checkout = cost.Checkout(sys.executable, tmp_path)
    first, second = (instructions.per_event(checkout, "many", 500, tmp_path) for _ in range(2))
    assert first > 10_000
    assert second == pytest.approx(first, rel=0.05)
