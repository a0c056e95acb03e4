"""Test that `make bench` measures honestly: the work, the loops, taking turns, growth, the profile."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed import growth, leftovers, ours, timing
from benchmarks.speed.asking import PEERS, Peer, PeerFailed, ask, other_checkout
from benchmarks.speed.calibration import CPU, JOB, PER_CPU, QUEUED, WORKERS
from benchmarks.speed.plan import SMOKE
from benchmarks.speed.profiling import profiled
from benchmarks.speed.record import Record
from benchmarks.speed.rows import OPENAGENTS, ROWS
from benchmarks.speed.run import Run
from benchmarks.speed.serving import Scene
from benchmarks.speed.work import EVENT_SIZE, WrongAnswer, blob, check, echo, ping
from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack

pytestmark = pytest.mark.anyio


# -- the work


def test_the_event_has_the_size_that_is_told_and_never_comes_twice() -> None:
    assert len(pack(Event(**ping()).to_dict())) == EVENT_SIZE
    assert len({ping()["event_id"] for _ in range(1000)}) == 1000


def test_a_wrong_answer_is_found() -> None:
    fields = ping()
    response = echo(fields)
    check(fields, response["success"], response["data"])
    check(large := blob(b"x"), success=True, data=echo(large)["data"])
    with pytest.raises(WrongAnswer, match=r"bench\.blob"):
        check(large, success=True, data={"blob": b""})
    for success, data in ((False, response["data"]), (True, None), (True, {"pong": fields["payload"]["i"] + 1})):
        with pytest.raises(WrongAnswer, match=r"bench\.ping"):
            check(fields, success, data)


@pytest.mark.parametrize(("events", "width"), [(0, 4), (1, 4), (3, 4), (50, 4), (50, 1), (50, 50)])
async def test_so_many_are_in_flight_and_each_is_sent_once(events: int, width: int) -> None:
    sent, running, most = [], 0, 0

    async def send(event: int) -> None:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        sent.append(event)
        await asyncio.sleep(0)
        running -= 1

    assert await timing.in_flight(send, range(events), width) == events
    assert sorted(sent) == list(range(events))
    assert most == min(events, width)


async def test_an_event_that_fails_ends_the_measurement() -> None:
    async def send(event: int) -> None:
        if event == 5:
            raise WrongAnswer("5")

    with pytest.raises(WrongAnswer, match="5"):
        await timing.in_flight(send, range(100), 3)


@given(st.lists(st.floats(min_value=1e-3, max_value=1e9), min_size=1, max_size=500))
def test_quantiles_are_values_that_were_measured(times: list[float]) -> None:
    found = timing.latencies(times)
    assert min(times) * 1e6 <= found["p50_us"] <= found["p99_us"] <= max(times) * 1e6


async def test_each_answer_over_http_is_counted_and_its_processor_time_is_told(tmp_path: Path) -> None:
    found = await ours.http(Scene(SMOKE, tmp_path))
    told = {row.key for row in ROWS if row.part == "http"}
    assert found.keys() == told | {"http_64" + what for what in (CPU, WORKERS, JOB, QUEUED, PER_CPU)}
    assert all(value > 0 or key.endswith(QUEUED) for key, value in found.items())


# -- taking turns


def watched(measure: Any) -> tuple[Any, list[str]]:
    record = Record("", {})
    return Run(SMOKE, [], record, lambda text: None)._watched("part", measure), record.problems


def test_a_part_that_leaves_nothing_behind() -> None:
    async def tidy(scene: Scene) -> dict[str, float]:
        (scene.folder / "journal").write_text("its folder goes, and the journal with it")
        return {"found": 3}

    assert watched(tidy) == ({"found": 3}, [])


def test_what_a_part_leaves_behind_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE", 0.0)
    left: list[Any] = []

    async def untidy(scene: Scene) -> None:
        left.append(asyncio.create_task(asyncio.Event().wait()))
        left.append(socket.socketpair())
        left.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        (scene.folder / "socket.d").mkdir()
        left.append(socket.socket(socket.AF_UNIX))
        left[-1].bind(str(scene.folder / "socket.d" / "s"))
        with tempfile.NamedTemporaryFile(delete=False):
            pass

    try:
        _, problems = watched(untidy)
    finally:
        _, pair, process, bound = left
        process.communicate()
        for each in (*pair, bound):
            each.close()
    told = "\n".join(problems)
    for what in ("descriptors: {", "tasks: {", f"process {process.pid} (python", "file /", "socket.d/s"):
        assert f"part has left behind: {what}" in told or what in told, (what, told)


OWN = [each for each in PEERS if each.python() == sys.executable]


@pytest.mark.slow  # `make bench-smoke` asks them all, too
@pytest.mark.parametrize("peer", [*OWN, other_checkout(sys.executable)], ids=lambda peer: peer.column)
def test_a_peer_is_asked_in_a_process_of_its_own(peer: Peer, tmp_path: Path) -> None:
    found = ask(peer, SMOKE, tmp_path)
    beside = {row.key + what for row in ROWS for what in ("", CPU, WORKERS, JOB, QUEUED, PER_CPU)}
    assert found.keys() <= beside
    assert all(value > 0 or key.endswith(QUEUED) for key, value in found.items())
    assert "benchmarks" not in {path.name for path in tmp_path.iterdir()}


def test_a_peer_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="No module named"):
        ask(Peer(OPENAGENTS, "benchmarks.speed.peers.nobody"), SMOKE, tmp_path)


def test_a_peer_whose_environment_is_missing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODVISOR_PEERS_DIR", str(tmp_path))
    with pytest.raises(PeerFailed, match="not installed"):
        ask(PEERS[0], SMOKE, tmp_path)


# -- growth


def test_growth_is_the_median_of_the_pairs_in_percent() -> None:
    assert growth.growth([(20.0, 22.0)]) == pytest.approx(10)
    assert growth.growth([(20.0, 19.0), (10.0, 9.5), (20.0, 90.0)]) == pytest.approx(-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", growth.HOLD)
async def test_networks_that_hold_many_and_one_take_turns(kind: str, tmp_path: Path) -> None:
    scene = Scene(replace(SMOKE, rounds=1), tmp_path)
    (found,) = await growth.measured(kind, scene)
    assert -100 < found < 1000
    assert scene.notes == []


async def test_a_profile_counts_the_calls_of_an_event_on_both_sides(tmp_path: Path) -> None:
    found = await profiled(Scene(SMOKE, tmp_path), width=4, count=20)
    calls = {side: {each.name: each.calls for each in called} for side, called in found.items()}
    assert any(name.endswith(" process_event") and count == 20 for name, count in calls["supervisor"].items())
    assert any(name.startswith("profiled/mod.py") and count == 20 for name, count in calls["worker"].items())
