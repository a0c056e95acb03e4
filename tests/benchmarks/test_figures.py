"""Test what `make bench` makes of its figures: ratios, goals, rows, the page and the chart."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.speed import growth, ours
from benchmarks.speed.calibration import CPU, JOB, QUEUED, WORKERS
from benchmarks.speed.chart import PANELS, draw
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
from benchmarks.speed.showing import number, page, table
from benchmarks.speed.verdict import MET, MISSED, UNMEASURED, Spread, judged, line, ratios, wakeups

ROOT = Path(__file__).parent.parent.parent
RTT, OFF, MANY, FAN_OUT = (matching([key])[0] for key in ("rtt_p50_us", "off_p50_us", "in_flight_64", "fan_out"))
positive = st.floats(min_value=1e-3, max_value=1e9)


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
    figures |= {"in_flight_64" + JOB: 0.93, "in_flight_64" + QUEUED: 0.31}
    found = [{OURS: figures, OPENAGENTS: {"in_flight_64": 23_000.0}}]
    text = shown([MANY], found)
    assert "CPU 21.5 + 14.2 µs, job 0.93, queued 31%" in text
    assert "| 46,000<br>CPU 21.5 + 14.2 µs, job 0.93, queued 31% |" in page(Record("", machine(), found))
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
