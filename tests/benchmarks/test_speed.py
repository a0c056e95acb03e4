"""Test what `make bench` makes of its figures: ratios, goals, rows, growth; and that it measures honestly."""

from __future__ import annotations

import asyncio
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.speed import growth, leftovers, ours, timing
from benchmarks.speed.asking import PEERS, Peer, PeerFailed, ask, other_checkout
from benchmarks.speed.calibration import CPU, JOB, PER_CPU, WORKERS
from benchmarks.speed.chart import PANELS, draw
from benchmarks.speed.plan import SMOKE
from benchmarks.speed.profiling import profiled
from benchmarks.speed.record import Record, machine, read
from benchmarks.speed.rows import (
    COLUMNS,
    FAST,
    FLOOR,
    OPENAGENTS,
    OURS,
    PIPE,
    ROWS,
    SLOW,
    TWO_CORES,
    Goal,
    Row,
    at_least,
    matching,
    short,
)
from benchmarks.speed.run import Run
from benchmarks.speed.serving import Scene
from benchmarks.speed.showing import number, page, table
from benchmarks.speed.verdict import MET, MISSED, UNMEASURED, Spread, judged, line, ratios, wakeups
from benchmarks.speed.work import EVENT_SIZE, WrongAnswer, blob, check, echo, ping
from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
RTT, OFF, MANY, FAN_OUT = (matching([key])[0] for key in ("rtt_p50_us", "off_p50_us", "in_flight_64", "fan_out"))
positive = st.floats(min_value=1e-3, max_value=1e9)


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


@given(st.lists(positive, min_size=1, max_size=500))
def test_quantiles_are_values_that_were_measured(times: list[float]) -> None:
    found = timing.latencies(times)
    assert min(times) * 1e6 <= found["p50_us"] <= found["p99_us"] <= max(times) * 1e6


async def test_each_answer_over_http_is_counted_and_its_processor_time_is_told(tmp_path: Path) -> None:
    found = await ours.http(Scene(SMOKE, tmp_path))
    told = {row.key for row in ROWS if row.part == "http"}
    assert found.keys() == told | {"http_64" + what for what in (CPU, WORKERS, JOB, PER_CPU)}
    assert all(value > 0 for value in found.values())


# -- taking turns


def watched(measure: Any) -> tuple[Any, list[str]]:
    record = a_record()
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


@pytest.mark.parametrize("peer", [*OWN, other_checkout(sys.executable)], ids=lambda peer: peer.column)
def test_a_peer_is_asked_in_a_process_of_its_own(peer: Peer, tmp_path: Path) -> None:
    found = ask(peer, SMOKE, tmp_path)
    beside = {row.key + what for row in ROWS for what in ("", CPU, WORKERS, JOB, PER_CPU)}
    assert found.keys() <= beside
    assert all(value > 0 for value in found.values())
    assert "benchmarks" not in {path.name for path in tmp_path.iterdir()}


def test_a_peer_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="No module named"):
        ask(Peer(OPENAGENTS, "benchmarks.speed.peers.nobody"), SMOKE, tmp_path)


def test_a_peer_whose_environment_is_missing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODVISOR_PEERS_DIR", str(tmp_path))
    with pytest.raises(PeerFailed, match="not installed"):
        ask(PEERS[0], SMOKE, tmp_path)


# -- ratios and goals


def rounds(*figures: tuple[float, float | None], key: str = "rtt_p50_us", column: str = FLOOR) -> list[dict[str, Any]]:
    return [{OURS: {key: ours}, column: {} if theirs is None else {key: theirs}} for ours, theirs in figures]


def test_a_ratio_is_taken_within_a_round() -> None:
    """The second round was on a machine of half the speed: the medians' ratio would be another one."""
    found = rounds((30, 30), (100, 50), (20, None))
    assert ratios(RTT, FLOOR, found) == [1.0, 2.0]
    judged = line(RTT, found)
    assert judged.marks[0].ratio == Spread(1.5, 1.0, 2.0)
    figures = {column: cell.figure for column, cell in judged.cells.items()}
    assert figures == {OURS: Spread(30, 20, 100), FLOOR: Spread(40, 30, 50)}


def test_what_has_another_key_with_the_others() -> None:
    found = [
        {OURS: {"off_p50_us": 90.0, "off_p50_us" + CPU: 8.0}, FLOOR: {"rtt_p50_us": 45.0, "rtt_p50_us" + CPU: 4.0}}
    ]
    (mark,) = line(OFF, found).marks
    assert (mark.ratio, mark.cpu, mark.verdict) == (Spread(2, 2, 2), Spread(2, 2, 2), MET)


def test_a_row_with_two_goals_is_judged_by_each_beside_the_ratio_of_processor_time() -> None:
    """Where more is better, both ratios say so: half the processor time is twice as good."""
    ours = {"in_flight_64": 100.0, "in_flight_64" + CPU: 5.0, "in_flight_64" + WORKERS: 3.0, "in_flight_64" + JOB: 1.0}
    theirs = {"in_flight_64": 40.0, "in_flight_64" + CPU: 10.0}
    found = line(MANY, [{OURS: ours, OPENAGENTS: theirs, PIPE: {"in_flight_64": 200.0}}])
    told = [(mark.reference, mark.ratio and mark.ratio.median, mark.cpu, mark.verdict) for mark in found.marks]
    assert told == [(OPENAGENTS, 2.5, Spread(2, 2, 2), MET), (PIPE, 0.5, None, MISSED)]
    assert found.missed
    assert found.cells[OURS].workers == Spread(3, 3, 3)


@pytest.mark.parametrize(
    ("floor", "host", "limits"),
    [
        (58.0, SLOW, [Goal(0.9, FLOOR, wakeups=SLOW), None]),
        (17.0, FAST, [Goal(2.5, FLOOR, wakeups=FAST), Goal(1.5, OPENAGENTS, wakeups=FAST)]),
    ],
)
def test_a_round_trip_is_judged_by_how_fast_the_host_wakes_a_process(
    floor: float, host: str, limits: list[Goal | None]
) -> None:
    found = [{OURS: {"rtt_p50_us": 40.0}, FLOOR: {"rtt_p50_us": floor, TWO_CORES: floor}}]
    assert wakeups(found) == host
    marks = line(RTT, found).marks
    assert [mark.goal for mark in marks] == limits
    assert [mark.reference for mark in marks] == [FLOOR, OPENAGENTS]


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=9))
def test_a_goal_is_met_or_missed_by_the_median_of_the_ratios(figures: list[tuple[float, float]]) -> None:
    mark = line(RTT, rounds(*figures)).marks[0]
    middle = statistics.median(ours / theirs for ours, theirs in figures)
    assert mark.verdict == (MET if middle <= 0.9 else MISSED)
    assert mark.ratio is not None
    assert mark.ratio.low <= mark.ratio.median <= mark.ratio.high


@pytest.mark.parametrize(
    ("goal", "ours", "verdict"),
    [(Goal(6), 6.0, MET), (Goal(6), 6.1, MISSED), (at_least(1200), 1200.0, MET), (at_least(1200), 1199.0, MISSED)],
)
def test_a_goal_in_the_rows_own_unit(goal: Goal, ours: float, verdict: str) -> None:
    assert judged(goal, Spread(ours, ours, ours), None) == verdict


@pytest.mark.parametrize(
    ("goal", "ratio", "verdict"),
    [
        (at_least(2, OPENAGENTS), 2.0, MET),
        (at_least(2, OPENAGENTS), 1.9, MISSED),
        (Goal(3, FLOOR), 3.1, MISSED),
        (Goal(3, FLOOR), None, UNMEASURED),
    ],
)
def test_a_goal_beside_another(goal: Goal, ratio: float | None, verdict: str) -> None:
    spread = None if ratio is None else Spread(ratio, ratio, ratio)
    assert judged(goal, Spread(1, 1, 1), spread) == verdict
    assert short(goal.of or "") in str(goal)


def test_a_goal_in_the_rows_own_unit_has_the_ratio_beside_it() -> None:
    (mark,) = line(FAN_OUT, rounds((2e6, 1e6), key="fan_out", column=OPENAGENTS)).marks
    assert (mark.verdict, mark.reference, mark.ratio) == (MET, OPENAGENTS, Spread(2, 2, 2))


# -- rows


def test_each_row_has_a_key_of_its_own_and_something_that_measures_it() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.part in ours.PARTS | growth.PARTS, row
        assert {row.compared, *(goal.of for goal in row.goals)} <= {None, *COLUMNS}, row


def test_rows_are_chosen_by_any_of_their_names() -> None:
    assert matching([]) == list(ROWS)
    assert [row.key for row in matching(["USS", "fan_out"])] == [
        "fan_out",
        "uss_idle_MB",
        "uss_busy_MB",
        "uss_warden_MB",
    ]
    with pytest.raises(ValueError, match="--only nonsense: no row has this name; there are rtt_p50_us"):
        matching(["nonsense"])


def shown(rows: list[Row], found: list[dict[str, Any]], goals: bool = True) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table(Record("", {}, found), rows, goals))
    return capture.get()


def test_the_table_says_what_was_missed_and_what_is_not_there() -> None:
    text = shown([RTT, FAN_OUT], rounds((80.0, 40.0), (90.0, 30.0)))
    assert "MISSED" in text
    assert "85.0" in text
    assert "(80.0 to 90.0)" in text
    assert "2.50 × raw socket pair" in text
    assert UNMEASURED in text
    assert "–" in text
    assert "MISSED" not in shown([RTT], rounds((80.0, 40.0)), goals=False)
    assert "MISSED" not in shown([RTT], rounds((30.0, 40.0)))


def test_the_processor_time_and_the_job_stand_beside_the_wall_clock() -> None:
    figures = {"in_flight_64": 46_000.0, "in_flight_64" + CPU: 21.5, "in_flight_64" + WORKERS: 14.2}
    found = [{OURS: figures | {"in_flight_64" + JOB: 0.93}, OPENAGENTS: {"in_flight_64": 23_000.0}}]
    text = shown([MANY], found)
    assert "CPU 21.5 + 14.2 µs, job 0.93" in text
    assert "2.00 × OpenAgents" in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1234567.8, "1,234,568"),
        (100, "100"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.0, "0"),
        (1e-15, "0"),
        (0.0024, "0.0024"),
        (0.1, "0.10"),
    ],
)
def test_numbers_have_three_digits_or_so(value: float, said: str) -> None:
    assert number(value) == said


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


# -- what is kept


def a_record() -> Record:
    made = Record("2025-01-01", machine())
    made.rounds += rounds((80.0, 40.0), (90.0, 30.0))
    made.absent[OPENAGENTS] = "not installed"
    return made


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(a_record().to_json())
    assert read(tmp_path / "run.json") == a_record()


@pytest.mark.parametrize("broken", ["", "{}", a_record().to_json().replace('"format": 2', '"format": 1')])
def test_a_file_that_is_no_record_is_refused(broken: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(broken)
    with pytest.raises(
        ValueError, match=r"Expecting value|run\.json: expected the record of a run; --json FILE writes"
    ):
        read(tmp_path / "run.json")


def test_the_page_shows_every_row_and_what_was_absent() -> None:
    text = page(a_record())
    assert all(row.label in text for row in ROWS)
    assert "MISSED" in text
    assert "85.0 (80.0 to 90.0)" in text
    assert "OpenAgents, in-process: not installed" in text


def test_the_chart_has_a_dot_for_everyone_who_was_measured() -> None:
    text = draw(a_record())
    assert text.count("<circle") == 2
    assert all(title in text for _, title, _ in PANELS)
    assert draw(a_record()) == text


def test_the_chart_in_docs_shows_figures_of_the_page_in_docs() -> None:
    chart = ElementTree.parse(ROOT / "docs" / "speed.svg")
    texts = ["".join(each.itertext()) for each in chart.iter("{http://www.w3.org/2000/svg}text")]
    page = (ROOT / "docs" / "figures.md").read_text()
    table = {
        cells[1]: cells[3:] for cells in (re.split(r" *\| *", text) for text in page.splitlines()) if len(cells) > 5
    }
    names = table[""][: table[""].index("ratio")]
    for key, title, _ in PANELS:
        (start,) = (place for place, text in enumerate(texts) if text.startswith(title))
        for name, cell in zip(names, table[matching([key])[0].label], strict=False):
            figure = re.split(" |<br>", cell)[0]
            assert (name, figure) == tuple(texts[start + 1 : start + 3]), "make bench writes both anew"
            start += 2
