"""The journal and its disk: a process killed at any moment, a disk that is full, room given back, and copies."""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.ipc.event import Event
from modvisor.supervisor.config.network.network import JournalConfig
from modvisor.supervisor.journal import backup as journal_backup
from modvisor.supervisor.journal import writer as journal_writer
from modvisor.supervisor.journal.journal import Journal
from modvisor.supervisor.journal.opening import WAL_LIMIT
from modvisor.supervisor.journal.records import DeadLetter, JournalError, Quarantine, StorageFull
from modvisor.supervisor.journal.writer import Job
from tests.conftest import until
from tests.disks import fill, in_memory

pytestmark = pytest.mark.anyio

FORMER = b"SQLite format 3\0 of a former copy"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "network.db")
    journal.open()
    yield journal
    await asyncio.to_thread(journal.close)


def event(size: int = 0, **fields: Any) -> Event:
    return Event("wiki.page.create", "agent:alice", payload={"text": "x" * size}, **fields)


def letter(made: Event | None = None) -> DeadLetter:
    return DeadLetter(None, "wiki", (made or event()).to_dict(), 2, "dead_lettered", "…", None, time.time())


def registered(agent_id: str) -> tuple[str, dict[str, Any]]:
    data = {"agent_id": agent_id, "metadata": b"\x80", "group": None, "secret_hash": b"x", "registered_at": 1.0}
    return "register", data


# -- killed

ACCEPTING = """
    import asyncio, os, sys, time
    from pathlib import Path
    from modvisor.ipc.event import Event
    from modvisor.supervisor.journal.journal import Journal
    from modvisor.supervisor.journal.records import DeadLetter

    async def accept(journal, prefix):
        for number in range(1_000_000):
            event = Event("wiki.page.create", "agent:alice", event_id=f"{prefix}-{number}")
            seq = await journal.accept("wiki", event)
            os.write(1, f"accepted {event.event_id}\\n".encode())
            if number % 3 == 0:
                letter = DeadLetter(None, "wiki", event.to_dict(), 1, "dead_lettered", "", None, time.time())
                await journal.bury(letter, seq=seq)
                os.write(1, f"buried {event.event_id}\\n".encode())
            if number % 3 == 1:
                journal.answered(seq)
                await journal.pending_counts()
                os.write(1, f"answered {event.event_id}\\n".encode())

    async def main(file, prefix):
        journal = Journal(Path(file))
        journal.open()
        await asyncio.gather(*(accept(journal, f"{prefix}-{number}") for number in range(8)))

    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
async def test_what_was_committed_when_the_process_was_killed_is_there(tmp_path: Path, seed: int) -> None:
    """Three times in a row in one file: each process finds what the killed ones left."""
    chance = random.Random(seed)
    told: dict[str, str] = {}  # event id to what was told of it last
    for life in range(3):
        for line in await asyncio.to_thread(run_and_kill, tmp_path / "network.db", str(life), chance.randrange(1, 600)):
            what, event_id = line.split()
            told[event_id] = what
    journal = Journal(tmp_path / "network.db")
    assert not journal.open().clean
    pending = [found.event.event_id for found in await journal.pending("wiki", limit=1_000_000)]
    buried = [found.event["event_id"] for found in await journal.dead_letters(limit=1_000_000)]
    stats = journal.stats()
    journal.close()
    assert len(pending) == len(set(pending)) == stats["durable_events"]
    assert len(buried) == len(set(buried)) == stats["dead_letters"]
    assert not set(pending) & set(buried)
    assert {event_id for event_id, what in told.items() if what == "buried"} <= set(buried)
    assert not {event_id for event_id, what in told.items() if what == "answered"} & set(pending)
    accepted = {event_id for event_id, what in told.items() if what == "accepted"}
    missing = accepted - set(pending) - set(buried)
    assert all(
        int(event_id.rpartition("-")[2]) % 3 == 1 for event_id in missing
    )  # answered, and killed before it said so
    assert len(missing) <= 3 * 8


def run_and_kill(file: Path, prefix: str, after: int) -> list[str]:
    """The whole lines a process printed that was killed after it had printed ``after`` of them."""
    script = [sys.executable, "-c", textwrap.dedent(ACCEPTING), str(file), prefix]
    with subprocess.Popen(script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(after)]
        finally:
            process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
    assert process.returncode == -signal.SIGKILL
    return [line.decode() for line in lines + rest if line.endswith(b"\n")]


# -- a disk without room

Room = Callable[[], None]  # makes room again


@contextmanager
def a_full_disk(folder: Path, journal: Journal) -> Iterator[Room]:
    """A file system of its own, 2 MB, filled to the last byte."""
    yield fill(folder).unlink


@contextmanager
def no_more_pages(folder: Path, journal: Journal) -> Iterator[Room]:
    """SQLite's own limit: SQLITE_FULL, wherever this runs."""

    def limit(pages: int) -> None:
        assert journal._writer is not None
        run = lambda store: store.connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()  # noqa: E731
        journal._writer.submit(Job("limit", run))
        journal.flush()

    limit(1)  # the least it takes is what there is
    yield lambda: limit(1 << 30)


@contextmanager
def no_larger_files(folder: Path, journal: Journal) -> Iterator[Room]:
    """Writes fail with EFBIG, which SQLite tells as SQLITE_IOERR."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def give() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "network.db-wal").stat().st_size, hard))
    try:
        yield give
    finally:
        give()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path / "disk", "2m") as folder:
        yield folder


async def refuses_until_there_is_room(
    folder: Path, fill: Callable[[Path, Journal], Any], caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(folder / "network.db")
    journal.open()
    large = 20_000  # bytes: more than a page that is there already holds
    try:
        seqs = [await journal.accept("wiki", event(event_id=str(number))) for number in range(3)]
        await journal.save_checkpoint("wiki", "1", "former")
        with fill(folder, journal) as make_room:
            before = journal.stats()
            with pytest.raises(StorageFull, match="event: ") as caught:
                await journal.accept("wiki", event(large))
            assert caught.value.code == "storage_full"
            with pytest.raises(StorageFull):
                await journal.save_checkpoint("wiki", "2", "x" * large)
            with pytest.raises(StorageFull):
                await journal.bury(letter(event(large)), seq=seqs[0])
            journal.quarantine(Quarantine("wiki", "pkg.wiki", "x" * large, 1.0, ""))
            refused = await asyncio.gather(
                *(journal.accept("wiki", event(large)) for _ in range(20)), return_exceptions=True
            )
            assert {type(outcome) for outcome in refused} == {StorageFull}
            assert [found.seq for found in await journal.pending("wiki")] == seqs
            found = await journal.checkpoint("wiki")
            assert found is not None
            assert found.state == "former"
            journal.answered(seqs[1])  # may need room too: then it is done later
            journal.flush()
            stats = journal.stats()
            assert stats["durable_bytes"] <= before["durable_bytes"]
            assert stats["dead_letters"] == 0
            assert stats["write_errors"] >= 24
            assert caplog.text.count("could not be kept") <= 2  # not a line for each
            make_room()
        later = await journal.accept("wiki", event(large))
        await journal.save_checkpoint("wiki", "2", "x" * large)
        await journal.bury(letter(event(large)), seq=seqs[0])
        assert [found.seq for found in await journal.pending("wiki")] == [seqs[2], later]
    finally:
        journal.close()
    assert journal.open().clean
    assert [found.seq for found in await journal.pending("wiki")] == [seqs[2], later]
    journal.close()


@pytest.mark.parametrize("fill", [no_more_pages, no_larger_files])
async def test_without_room_what_must_be_on_disk_is_refused_and_the_rest_goes_on(
    tmp_path: Path, fill: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await refuses_until_there_is_room(tmp_path, fill, caplog)


async def test_on_a_full_disk_what_must_be_on_disk_is_refused_and_the_rest_goes_on(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await refuses_until_there_is_room(small_disk, a_full_disk, caplog)


async def test_answers_given_while_the_disk_is_full_are_kept_by_the_next_chance(
    small_disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anybody asking for anything: the upkeep tries them again."""
    journal = Journal(small_disk / "network.db")
    journal.open()
    try:
        seqs = [await journal.accept("wiki", event()) for _ in range(50)]
        with a_full_disk(small_disk, journal) as make_room:
            for seq in seqs[:-1]:
                journal.answered(seq)
            journal.flush()
            assert journal.stats()["durable_events"] == 50
            assert "could not be kept" in caplog.text
            make_room()
        monkeypatch.setattr(journal_writer, "UPKEEP_EVERY", 0.02)
        journal.flush()  # a turn of the writer, in which it takes the shorter time
        await until(lambda: journal.stats()["durable_events"] == 1)
        assert [found.seq for found in await journal.pending("wiki")] == seqs[-1:]
    finally:
        journal.close()


async def test_quarantines_of_a_full_disk_are_kept_later_and_the_newest_word_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "network.db")
    journal.open()
    with no_more_pages(tmp_path, journal) as make_room:
        for mod_id in ("wiki", "chat", "shop"):
            journal.quarantine(Quarantine(mod_id, "pkg.x", "x" * 20_000, 1.0, ""))
        journal.release("chat")
        journal.flush()
        journal.quarantine(Quarantine("shop", "pkg.x", "short", 1.0, ""))
        journal.flush()
        assert "could not be kept" in caplog.text
        make_room()
    journal.release("other")  # any change: the postponed ones are tried after it
    journal.flush()
    journal.close()
    assert {found.mod_id: len(found.reason) for found in journal.open().quarantines.values()} == {
        "wiki": 20_000, "shop": len("short"),
    }  # fmt: skip
    journal.close()


async def test_a_journal_closed_on_a_full_disk_is_not_clean(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(small_disk / "network.db")
    journal.open()
    seq = await journal.accept("wiki", event())
    with a_full_disk(small_disk, journal) as make_room:
        journal.answered(seq)
        journal.close()
        assert "could not be closed cleanly" in caplog.text
        make_room()
    assert not journal.open().clean
    assert await journal.pending_counts() == {"wiki": 1}  # at least once: better twice than never
    journal.close()


async def test_a_start_on_a_full_disk_fails_and_leaves_the_file(small_disk: Path) -> None:
    journal = Journal(small_disk / "network.db")
    journal.open()
    seq = await journal.accept("wiki", event())
    journal.close()
    with a_full_disk(small_disk, journal) as make_room:
        with pytest.raises(ModvisorError, match="cannot be opened") as caught:
            journal.open()
        assert caught.value.code == "start_failed"
        make_room()
    assert journal.open().clean
    assert [found.seq for found in await journal.pending("wiki")] == [seq]
    journal.close()
    assert left_in(small_disk) == ["network.db"]


# -- room given back


async def test_a_burst_does_not_leave_a_large_file(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqs = await asyncio.gather(*(journal.accept("wiki", event(100_000)) for _ in range(300)))
    for _ in range(20):
        await journal.bury(letter(event(100_000)))

    def taken() -> int:
        return sum(found.stat().st_size for found in tmp_path.iterdir())

    assert taken() > 30_000_000
    monkeypatch.setattr(journal_writer, "UPKEEP_EVERY", 0.02)
    for seq in seqs:
        journal.answered(seq)
    await journal.forget_dead_letters()
    await until(lambda: taken() < WAL_LIMIT + 3_000_000)
    await until(lambda: (tmp_path / "network.db").stat().st_size < 2_000_000)
    await until(lambda: journal.stats()["file_bytes"] < WAL_LIMIT + 3_000_000)
    assert await journal.accept("wiki", event()) > seqs[-1]


async def test_old_dead_letters_go_without_anybody_asking(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await journal.bury(letter())
    journal.close()
    monkeypatch.setattr(journal_writer, "UPKEEP_EVERY", 0.02)
    other = Journal(tmp_path / "network.db", JournalConfig(dead_letters=2))
    other.open()
    try:
        await until(lambda: other.stats()["dead_letters"] == 2)
    finally:
        other.close()


# -- copies


def left_in(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir() if not found.name.endswith(("-wal", "-shm")))


async def test_a_copy_holds_all_there_was(tmp_path: Path, journal: Journal) -> None:
    journal.record(*registered("ann"))
    seqs = [await journal.accept("wiki", event(5000)) for _ in range(100)]
    target = tmp_path / "copy.db"
    target.write_bytes(FORMER)
    size = await journal.backup(target)
    assert (target.stat().st_size, stat.S_IMODE(target.stat().st_mode)) == (size, 0o600)
    assert sorted(found.name for found in tmp_path.iterdir() if found.name.startswith(("copy", "."))) == ["copy.db"]
    copy = Journal(target)
    found = copy.open()
    assert [agent.agent_id for agent in found.agents] == ["ann"]
    assert [found.seq for found in await copy.pending("wiki")] == seqs
    copy.close()


async def test_events_go_on_while_a_copy_is_made(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_backup, "_STEP_PAGES", 1)
    for _ in range(20):
        await journal.accept("wiki", event(5000))
    step = Steps(monkeypatch)
    copying = asyncio.create_task(journal.backup(tmp_path / "copy.db"))
    await step.reached()
    accepting = asyncio.create_task(journal.accept("wiki", event(5000)))
    second = asyncio.create_task(journal.backup(tmp_path / "second.db"))  # waits for the first
    await asyncio.sleep(0)
    step.go_on()
    await accepting
    assert not copying.done()
    step.finish()
    await asyncio.gather(copying, second)
    for name in ("copy.db", "second.db"):
        copy = Journal(tmp_path / name)
        copy.open()
        assert await copy.pending_counts() == {"wiki": 21}
        copy.close()


async def test_a_copy_does_not_hold_up_the_end(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.accept("wiki", event(50_000))
    monkeypatch.setattr(journal_backup, "_STEP_PAGES", 1)
    step = Steps(monkeypatch)
    copying = asyncio.create_task(journal.backup(tmp_path / "copy.db"))
    await step.reached()
    second = asyncio.create_task(journal.backup(tmp_path / "second.db"))
    await asyncio.sleep(0)
    ending = asyncio.create_task(asyncio.to_thread(journal.close))
    assert journal._writer is not None
    await until(lambda: journal._writer is not None and journal._writer._closed)
    step.finish()
    await ending
    for task in (copying, second):
        with pytest.raises(JournalError, match="backup: the journal was closed") as caught:
            await task
        assert caught.value.code == "not_running"
    assert left_in(tmp_path) == ["network.db"]
    assert journal.open().clean


class Steps:
    """Holds a copy at the first of its steps, then at the last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reached, self._first, self._last = threading.Event(), threading.Event(), threading.Event()
        original = journal_writer.copy_database

        def copy(source: sqlite3.Connection, file: Path, target: Path, between: Any) -> int:
            def held(status: int, remaining: int, total: int) -> None:
                self._reached.set()
                self._first.wait()
                between(status, remaining, total)
                if remaining == 0:
                    self._last.wait()

            return original(source, file, target, held)

        monkeypatch.setattr(journal_writer, "copy_database", copy)

    async def reached(self) -> None:
        await asyncio.to_thread(self._reached.wait)

    def go_on(self) -> None:
        self._first.set()

    def finish(self) -> None:
        self._first.set()
        self._last.set()


async def test_the_journal_is_not_copied_onto_itself(tmp_path: Path, journal: Journal) -> None:
    await journal.accept("wiki", event())
    (tmp_path / "link.db").symlink_to(tmp_path / "network.db")
    os.link(tmp_path / "network.db", tmp_path / "hard.db")
    for name in (
        "network.db",
        "network.db-wal",
        "network.db-shm",
        "link.db",
        "hard.db",
        "../" + tmp_path.name + "/network.db",
    ):
        with pytest.raises(JournalError, match="is the journal itself") as caught:
            await journal.backup(tmp_path / name)
        assert caught.value.code == "bad_input"
    assert await journal.pending_counts() == {"wiki": 1}


async def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path, small_disk: Path, journal: Journal) -> None:
    await journal.accept("wiki", event(4_000_000))
    target = small_disk / "copy.db"
    target.write_bytes(FORMER)
    with pytest.raises(StorageFull, match="backup: database or disk is full"):
        await journal.backup(target)
    assert target.read_bytes() == FORMER
    assert left_in(small_disk) == ["copy.db"]
    assert await journal.accept("wiki", event())


async def test_a_copy_goes_where_nothing_is_lost_by_it(tmp_path: Path, journal: Journal) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: demo}")
    (tmp_path / "empty").touch()  # as mktemp makes it
    other = Journal(tmp_path / "other.db")
    other.open()
    for name, why in {
        "network.yaml": "is there and is no copy of a journal; name another file",
        ".": "is there and is no copy of a journal",
        "other.db": "is there and is no copy of a journal",
        "/dev/null": "is there and is no copy of a journal",
        "missing/copy.db": "missing/copy.db cannot be written: No such file or directory",
        "network.yaml/copy.db": "cannot be written: Not a directory",
    }.items():
        with pytest.raises(JournalError, match=re.escape(why)) as caught:
            await journal.backup(tmp_path / name)
        assert caught.value.code == "bad_input"
    assert (tmp_path / "network.yaml").read_text() == "network: {name: demo}"
    other.close()
    assert left_in(tmp_path) == ["empty", "network.db", "network.yaml", "other.db"]
    assert await journal.backup(tmp_path / "empty") == (tmp_path / "empty").stat().st_size > 0


async def test_a_copy_is_one_whole_file(tmp_path: Path, journal: Journal) -> None:
    await journal.accept("wiki", event())
    await journal.backup(tmp_path / "copy.db")
    with closing(sqlite3.connect(f"file:{tmp_path / 'copy.db'}?mode=ro&immutable=1", uri=True)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT count(*) FROM durable").fetchone() == (1,)
