"""The run of agents on WebSockets notices what it is there to notice, and a short one finds nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.agents.audit import audit
from benchmarks.agents.deaf import deafness
from benchmarks.agents.diary import Diary
from benchmarks.agents.soak import soak


def diary(folder: Path, name: str, text: str) -> Diary:
    (folder / name).write_text(text)
    found = Diary(folder / name)
    found.close()
    return found


def test_a_diary_is_read_again_after_a_kill(tmp_path: Path) -> None:
    first = Diary(tmp_path / "alice")
    for line in (
        ("secret", "s"),
        ("send", "e1", "bob"),
        ("send", "e2", "bob"),
        ("done", "e1"),
        ("got", "x.1", "e0", "1.5"),
    ):
        first.write(*line)
    first.close()
    again = Diary(tmp_path / "alice")
    again.close()
    assert (again.secret, again.cursor, again.unanswered, again.done) == ("s", "x.1", {"e2": "bob"}, {"e1"})


def test_what_is_lost_or_repeated_is_counted(tmp_path: Path) -> None:
    sender = diary(tmp_path, "alice", "send e1 bob\ndone e1\nsend e2 bob\ndone e2\nsend e3 bob\n")
    receiver = diary(tmp_path, "bob", "got x.1 e1 2.0\ngot x.2 e1 -\ntold 3\n")
    found = audit([sender, receiver])
    assert (found.sent, found.handled, found.unanswered, found.told) == (2, 2, 1, 3)
    assert (found.lost, found.repeated, found.is_settled) == (1, 1, False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_lost_or_repeated_when_agents_are_killed(tmp_path: Path) -> None:
    run = asyncio.run(soak(tmp_path, agents=20, rate=100, seconds=4, kills=10, processes=4))
    assert run.killed == 10
    assert [run.found[key] for key in ("lost", "repeated", "unanswered", "told")] == [0, 0, 0, 0]
    assert run.found["handled"] >= run.found["sent"] > 20


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_agents_that_never_read_cost_what_their_inboxes_may(tmp_path: Path) -> None:
    run = asyncio.run(deafness(tmp_path, agents=100, seconds=3))
    assert run.sent > 100
    assert run.memory_mb < run.bound_mb
