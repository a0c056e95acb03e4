"""Text without a line break becomes a line when it has stood for a while, or when its process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from modvisor.supervisor.process import lines as lines_module
from modvisor.supervisor.process.lines import OutputLines
from modvisor.supervisor.process.log import ModLog
from tests.conftest import until

pytestmark = pytest.mark.anyio

NEVER = 1000.0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ModLog]:
    log = ModLog(tmp_path / "wiki.log", max_bytes=1_000_000, backups=2)
    yield log
    log.close()


def texts(log: ModLog) -> list[str]:
    return [line.partition(" ")[2] for line in log.tail(100)]


async def test_last_words_are_a_line_and_the_next_process_begins_its_own(log: ModLog) -> None:
    old, new = OutputLines(log._publish, NEVER), OutputLines(log._publish, NEVER)
    old.feed(b"first\nlast wo")
    new.feed(b"I am ")
    old.feed(b"rds")
    assert texts(log) == ["first"]
    old.end()
    old.end()
    new.feed(b"new\n")
    new.end()
    assert texts(log) == ["first", "last words", "I am new"]


async def test_text_that_stands_becomes_a_line_and_its_late_line_break_is_no_second_one(log: ModLog) -> None:
    output = OutputLines(log._publish, 0.001)
    for line_break in (b"\n", b"\r\n"):
        output.feed(b"loading ...")
        await until(lambda: texts(log)[-1:] == ["loading ..."])
        output.feed(line_break + b"done\n")
    output.feed(b"\n")
    assert texts(log) == ["loading ...", "done", "loading ...", "done", ""]
    output.end()


async def test_a_progress_bar_is_seen_while_it_moves_and_once_in_its_last_state(
    log: ModLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "BAR", 0.002)
    seen: list[str] = []
    log.add_listener(seen.append)
    output = OutputLines(log._publish, 0.001)
    percent = 0

    def move() -> bool:
        nonlocal percent
        for _ in range(10):
            percent += 1
            output.feed(b"\r%d %%" % percent)
        return len(seen) >= 3

    await until(move)
    output.feed(b"\r99999 %\nafter the bar\n")
    assert texts(log)[-2:] == ["99999 %", "after the bar"]
    assert len(seen) < percent
    assert all("\r" not in line for line in seen)
    output.end()


async def test_what_never_overwrites_waits_for_its_end_as_long_as_more_comes(
    log: ModLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "BAR", 0.0)
    output = OutputLines(log._publish, 0.05)
    loop = asyncio.get_running_loop()
    begun, count = loop.time(), 0
    while loop.time() < begun + 0.06:
        output.feed(b"x")
        count += 1
        await asyncio.sleep(0)
    output.feed(b"\n")
    assert texts(log) == ["x" * count if count <= lines_module.MAX_LINE else texts(log)[0]]
    output.end()
