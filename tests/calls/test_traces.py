"""The files that an incarnation leaves for the case that it dies, or the supervisor."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc import mark
from modvisor.supervisor.calls.traces import Traces, forget_last_run, left_by_last_run
from modvisor.supervisor.journal.deaths import BOOT_ID, Begun


def marked(file: Path, **words: int) -> None:
    page = bytearray(file.read_bytes())
    view = memoryview(page).cast("Q")
    view[mark.IN_USE] = 1
    for name, value in words.items():
        view[getattr(mark, name)] = value
    file.write_bytes(page)


def test_what_was_sent_and_whose_handler_ran_outlives_the_supervisor(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "marks" / "wiki#0.3", durable=True)
    for request, seq in ((0, 70), (1, 71), (2, 72)):
        traces.sends(request, seq, attempt=seq - 69)
    marked(traces.mark_file, LOOP=2, CAUGHT=3)
    traces.close()
    [group] = left_by_last_run(tmp_path / "marks")
    assert group.boot == BOOT_ID
    assert group.events == (Begun(70, 1), Begun(71, 2, is_running=True), Begun(72, 3, is_caught=True))
    forget_last_run(tmp_path / "marks")
    assert left_by_last_run(tmp_path / "marks") == []


@pytest.mark.anyio
async def test_the_place_of_an_event_is_used_again_when_its_answer_is_committed(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "wiki.1", durable=True)
    commit = asyncio.Event()

    async def committed() -> None:
        await commit.wait()

    traces.committed = committed
    for request in range(1000):
        traces.sends(request, seq=request + 1, attempt=1)
        if request % 10:
            traces.done(request)
    await asyncio.sleep(0)
    traces.sends(2000, 2001, 1)
    assert {event.seq for event in left_by_last_run(tmp_path)[0].events} == {*range(1, 1001), 2001}
    commit.set()
    for _ in range(5):
        await asyncio.sleep(0)
    for request in range(3000, 3900):
        traces.sends(request, seq=request + 1, attempt=1)
    traces.sends(5000, 1, 1)
    traces.sends(5000, 2, 1)  # not sent after all, and the next event got its request
    traces.close()
    [group] = left_by_last_run(tmp_path)
    assert {event.seq for event in group.events} >= {2, 2001, *range(1, 1000, 10), *range(3001, 3901)}
    assert len(group.events) <= 1004
    traces.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_marks_nothing_says_nothing(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "wiki.1", durable=False)
    assert traces.marks() is None
    traces.sends(1, 1, 1)  # of a mod that is not durable, nothing is kept
    assert [file.name for file in tmp_path.iterdir()] == ["wiki.1.mark"]
    marked(traces.mark_file)
    assert traces.marks() == mark.Marks()


def test_a_folder_that_cannot_be_written_costs_the_evidence_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "marks").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        traces = Traces(tmp_path / "marks" / "wiki.1", durable=True)
        for request in range(3):
            traces.sends(request, 1, 1)
    assert not traces.has_mark
    assert caplog.text.count("cannot be written") == 2, "once for each file"
    assert left_by_last_run(tmp_path / "marks") == []
    traces.remove()


@given(st.binary(max_size=300))
def test_a_damaged_file_is_read_without_a_failure(data: bytes) -> None:
    assert mark.read(data) is None
    assert mark.read((data + bytes(mark.SIZE))[: mark.SIZE]) is None or data
