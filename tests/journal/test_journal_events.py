"""What the journal keeps of events and states: durable events, dead letters, checkpoints, their limits, and many askers."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modvisor.ipc.errors import ModvisorError, Unserializable
from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack
from modvisor.supervisor.config.network.network import JournalConfig
from modvisor.supervisor.journal import journal as journal_module
from modvisor.supervisor.journal.deaths import Record
from modvisor.supervisor.journal.journal import Journal
from modvisor.supervisor.journal.records import Checkpoint, DeadLetter, JournalError, StorageFull
from modvisor.supervisor.journal.store import Store
from modvisor.supervisor.journal.writer import Job

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "network.db"


@pytest.fixture
def opened(file: Path) -> Iterator[Callable[..., Journal]]:
    """Journals of one file, one after the other, with the given limits."""
    journals: list[Journal] = []

    def make(**limits: Any) -> Journal:
        if journals:
            journals[-1].close()
        journals.append(Journal(file, JournalConfig(**limits)))
        journals[-1].open()
        return journals[-1]

    yield make
    for journal in journals:
        journal.close()


class Gate:
    """While it is closed the writer does nothing, and what is asked for gathers behind it."""

    def __init__(self, journal: Journal, *, wait: bool = True) -> None:
        self._opened, self.reached = threading.Event(), threading.Event()
        assert journal._writer is not None
        journal._writer.submit(Job("gate", self._stand))
        if wait:
            self.reached.wait()

    def _stand(self, store: Store) -> None:
        self.reached.set()
        self._opened.wait()

    def open(self) -> None:
        self._opened.set()


def event(name: str = "wiki.page.create", **fields: Any) -> Event:
    return Event(name, "agent:alice", **fields)


def letter(mod_id: str = "wiki", **changed: Any) -> DeadLetter:
    made = DeadLetter(None, mod_id, event().to_dict(), 2, "dead_lettered", "took two processes down", None, time.time())
    return replace(made, **changed)


def damage(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(statement)


async def turns(number: int = 5) -> None:
    """Let other tasks come to where they wait."""
    for _ in range(number):
        await asyncio.sleep(0)


# -- durable events


async def test_an_accepted_event_is_pending_until_it_is_answered(opened: Callable[..., Journal]) -> None:
    journal = opened()
    first, other, second = event(payload={"n": 1, "raw": b"\0"}, timeout=2.5, hops=3), event(), event()
    seqs = [
        await journal.accept("wiki", first),
        await journal.accept("chat", other),
        await journal.accept("wiki", second),
    ]
    assert seqs == sorted(set(seqs))
    journal = opened()
    [found, last] = await journal.pending("wiki")
    assert (found.seq, found.mod_id, found.event, found.attempt) == (seqs[0], "wiki", first, 1)
    assert abs(found.accepted_at - time.time()) < 60
    assert await journal.pending("wiki", after=found.seq) == [last]
    assert await journal.pending("wiki", limit=1) == [found]
    assert await journal.pending_counts() == {"wiki": 2, "chat": 1}
    journal.charge(last.seq, Record(2, 1, 1, 2))
    journal.answered(found.seq)
    journal.answered(found.seq)  # twice is as good as once
    assert await journal.pending("wiki") == [replace(last, attempt=2, record=Record(2, 1, 1, 2))]
    journal = opened()
    assert await journal.pending("wiki") == [replace(last, attempt=2, record=Record(2, 1, 1, 2))]
    assert await journal.pending("unknown") == []


async def test_an_event_of_another_owner_is_another_event(opened: Callable[..., Journal]) -> None:
    journal, same = opened(), event(event_id="e1")
    owners = ["agent:alice 1.0", "agent:alice 2.0", "agent:alice 1.0"]
    first, second, again = [await journal.accept("wiki", same, owner) for owner in owners]
    assert (first == again, first == second) == (True, False)
    assert [kept.owner for kept in await opened().pending("wiki")] == owners[:2]


async def test_a_number_is_never_given_twice(opened: Callable[..., Journal]) -> None:
    journal = opened()
    first = await journal.accept("wiki", event())
    journal.answered(first)
    journal = opened()
    assert await journal.accept("wiki", event()) > first


async def test_an_attempt_counted_before_is_kept_with_the_event(opened: Callable[..., Journal]) -> None:
    journal = opened()
    await journal.accept("wiki", event(attempt=3))
    assert [found.attempt for found in await journal.pending("wiki")] == [3]


async def test_no_secret_comes_to_the_disk(file: Path, opened: Callable[..., Journal]) -> None:
    journal = opened()
    await journal.accept("wiki", event(secret="s3cret-of-alice"))
    await journal.bury(letter(event=event(secret="s3cret-of-alice").to_dict()))
    assert [found.event.secret for found in await journal.pending("wiki")] == [None]
    journal.close()
    assert b"s3cret-of-alice" not in file.read_bytes()


async def test_an_event_the_disk_cannot_carry_is_named(opened: Callable[..., Journal]) -> None:
    journal = opened()
    with pytest.raises(Unserializable, match=r"payload\.x"):
        await journal.accept("wiki", event(payload={"x": object()}))
    with pytest.raises(JournalError, match=r"event: .*surrogates") as caught:
        await journal.accept("wiki\ud800", event())
    assert caught.value.code == "internal_error"
    assert journal.stats()["durable_events"] == 0


async def test_at_most_so_many_events_are_kept(opened: Callable[..., Journal]) -> None:
    journal = opened(durable_events=2)
    seqs = [await journal.accept("wiki", event()) for _ in range(2)]
    with pytest.raises(StorageFull, match="durable_events") as caught:
        await journal.accept("chat", event())
    assert caught.value.code == "storage_full"
    journal.answered(seqs[0])
    await journal.accept("wiki", event())
    journal = opened(durable_events=2)
    with pytest.raises(StorageFull):
        await journal.accept("wiki", event())
    assert await journal.pending_counts() == {"wiki": 2}
    assert journal.stats()["write_errors"] == 0  # a refusal is no failure


async def test_at_most_so_many_bytes_of_events_are_kept(opened: Callable[..., Journal]) -> None:
    large = event(payload={"x": "y" * 500})
    size = len(pack(large.to_dict()))
    journal = opened(durable_bytes=2 * size)
    seq = await journal.accept("wiki", large)
    await journal.accept("wiki", event(payload=large.payload))
    assert journal.stats()["durable_bytes"] == 2 * size
    with pytest.raises(StorageFull, match="durable_bytes"):
        await journal.accept("wiki", event())
    journal.answered(seq)
    await journal.accept("wiki", event())


async def test_of_many_at_once_as_many_are_accepted_as_there_is_room_for(opened: Callable[..., Journal]) -> None:
    journal = opened(durable_events=30)
    gate = Gate(journal)
    asked = [asyncio.create_task(journal.accept("wiki", event(event_id=str(number)))) for number in range(100)]
    await turns()
    gate.open()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    accepted = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(accepted) == 30
    assert all(isinstance(outcome, StorageFull) for outcome in outcomes if not isinstance(outcome, int))
    assert [found.event.event_id for found in await journal.pending("wiki")] == [str(number) for number in range(30)]
    assert accepted == sorted(accepted)


async def test_a_disk_that_hangs_refuses_events_instead_of_gathering_them(
    opened: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_WAITING", 10)
    journal = opened(durable_bytes=1_000_000)
    gate = Gate(journal)
    large = asyncio.create_task(journal.accept("wiki", event(payload={"x": "y" * 900_000})))
    await turns()
    with pytest.raises(StorageFull, match="wait for the disk"):
        await journal.accept("wiki", event(payload={"x": "y" * 200_000}))
    small = [asyncio.create_task(journal.accept("wiki", event())) for _ in range(9)]
    await turns()
    with pytest.raises(StorageFull, match="changes wait for the disk"):
        await journal.accept("wiki", event())
    gate.open()
    await asyncio.gather(large, *small)
    await journal.accept("wiki", event())


async def test_a_sender_cancelled_before_its_event_is_written_leaves_nothing(opened: Callable[..., Journal]) -> None:
    journal = opened()
    gate = Gate(journal)
    task = asyncio.create_task(journal.accept("wiki", event()))
    await turns()
    task.cancel()
    await asyncio.wait([task])
    gate.open()
    assert task.cancelled()
    assert await journal.pending_counts() == {}
    assert await journal.accept("wiki", event()) == 1  # it never came to the disk


async def test_a_sender_cancelled_while_its_event_is_written_leaves_nothing(opened: Callable[..., Journal]) -> None:
    journal = opened()
    first = Gate(journal)
    task = asyncio.create_task(journal.accept("wiki", event()))
    await turns()
    behind = Gate(journal, wait=False)  # in one transaction with the event
    first.open()
    await asyncio.to_thread(behind.reached.wait)
    assert journal.stats()["durable_events"] == 1
    task.cancel()
    await asyncio.wait([task])
    behind.open()
    assert task.cancelled()
    assert await journal.pending_counts() == {}
    assert journal.stats()["durable_events"] == 0


async def test_a_sender_cancelled_between_commit_and_answer_leaves_nothing(opened: Callable[..., Journal]) -> None:
    journal = opened()
    task = asyncio.create_task(journal.accept("wiki", event()))
    await turns(1)
    journal.flush()  # blocks the loop: the event is on disk, and its sender cannot know yet
    assert journal.stats()["durable_events"] == 1
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await journal.pending_counts() == {}
    assert journal.stats()["durable_events"] == journal.stats()["durable_bytes"] == 0


async def test_what_is_accepted_of_many_cancelled_at_any_moment_is_what_is_pending(
    opened: Callable[..., Journal],
) -> None:
    journal = opened()
    tasks = [asyncio.create_task(journal.accept("wiki", event())) for _ in range(500)]
    for number, task in enumerate(tasks):
        if number % 3 == 0:
            await turns(1)
            task.cancel()
    await asyncio.wait(tasks)
    accepted = {task.result() for task in tasks if not task.cancelled()}
    assert {found.seq for found in await journal.pending("wiki")} == accepted
    assert journal.stats()["durable_events"] == len(accepted)


def test_a_loop_that_ended_while_an_event_was_written_harms_nobody(opened: Callable[..., Journal]) -> None:
    journal = opened()
    gate = Gate(journal)

    async def ask_and_go() -> None:
        asking = asyncio.ensure_future(journal.accept("wiki", event()))
        await turns()
        tasks.append(asking)

    tasks: list[asyncio.Future[int]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask_and_go())
    tasks[0].cancel()
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(tasks[0])
    loop.close()
    gate.open()
    journal.flush()
    assert asyncio.run(journal.pending_counts()) == {}


async def test_an_event_that_cannot_be_read_back_is_dropped_and_told(
    file: Path, opened: Callable[..., Journal], caplog: pytest.LogCaptureFixture
) -> None:
    journal = opened()
    seqs = [await journal.accept("wiki", event()) for _ in range(4)]
    journal.close()
    damage(file, f"UPDATE durable SET event = X'c1' WHERE seq = {seqs[0]}")
    damage(file, f"UPDATE durable SET event = X'80' WHERE seq = {seqs[1]}")  # an empty mapping: no event
    journal = opened()
    assert [found.seq for found in await journal.pending("wiki", limit=1)] == [seqs[2]]
    assert "2 durable events (" in caplog.text
    assert await journal.pending_counts() == {"wiki": 2}
    assert journal.stats()["durable_events"] == 2


# -- dead letters


async def test_a_dead_letter_takes_the_place_of_the_durable_event(opened: Callable[..., Journal]) -> None:
    journal = opened()
    seq = await journal.accept("wiki", event())
    report = {"cause": "signal", "frames": [{"line": 3}]}
    buried = letter(report=report, attempts=5, at=1_700_000_000.25 + 1e9)
    letter_id = await journal.bury(buried, seq=seq)
    assert await journal.pending_counts() == {}
    journal = opened()
    assert await journal.dead_letter(letter_id) == replace(buried, letter_id=letter_id)
    assert await journal.dead_letter(letter_id + 1) is None
    assert journal.stats()["dead_letters"] == 1
    assert journal.stats()["durable_events"] == journal.stats()["durable_bytes"] == 0


async def test_a_letter_that_cannot_be_kept_leaves_the_durable_event(opened: Callable[..., Journal]) -> None:
    journal = opened()
    seq = await journal.accept("wiki", event())
    with pytest.raises(JournalError, match="dead letter: "):
        await journal.bury(letter(reason="\ud800"), seq=seq)
    with pytest.raises(Unserializable):
        await journal.bury(letter(report={"x": object()}), seq=seq)
    assert await journal.pending_counts() == {"wiki": 1}
    assert journal.stats()["durable_events"] == 1
    assert journal.stats()["dead_letters"] == journal.stats()["dead_letter_bytes"] == 0


async def test_dead_letters_are_listed_newest_first_page_by_page(opened: Callable[..., Journal]) -> None:
    journal = opened()
    ids = [await journal.bury(letter("wiki" if number % 2 else "chat")) for number in range(10)]
    listed = await journal.dead_letters(limit=4)
    assert [found.letter_id for found in listed] == ids[:5:-1]
    assert [found.letter_id for found in await journal.dead_letters(limit=100, before=ids[6])] == ids[5::-1]
    assert [found.letter_id for found in await journal.dead_letters("wiki")] == ids[9::-2]
    assert await journal.dead_letters("unknown") == []


async def test_heads_of_dead_letters_are_the_same_page_without_what_is_large(
    file: Path, opened: Callable[..., Journal]
) -> None:
    journal = opened()
    report = {"cause": "signal", "log": ["x" * 10_000]}
    buried = letter(report=report)
    ids = [await journal.bury(buried) for _ in range(4)]
    newest, older = await journal.letter_heads("wiki", limit=2)
    assert (newest.letter_id, older.letter_id) == (ids[3], ids[2])
    assert newest.event == {
        key: buried.event.get(key) for key in ("event_id", "event_name", "source_id", "destination_id")
    }
    assert (newest.attempts, newest.code, newest.reason, newest.at) == (
        buried.attempts, buried.code, buried.reason, buried.at,
    )  # fmt: skip
    assert newest.size == len(pack(buried.event)) + len(pack(report))
    journal.close()
    damage(file, f"UPDATE dead_letter SET event = X'c1' WHERE letter_id = {ids[3]}")
    journal = opened()
    assert [head.letter_id for head in await journal.letter_heads(before=ids[3] + 1)] == ids[2::-1]


async def test_dead_letters_are_forgotten_by_what_is_given(opened: Callable[..., Journal]) -> None:
    journal = opened()
    now = time.time()
    old, new = [await journal.bury(letter(at=now - age)) for age in (3600, 0)]
    chat = await journal.bury(letter("chat", at=now - 3600))

    async def left() -> list[int | None]:
        return [found.letter_id for found in await journal.dead_letters()]

    assert await journal.forget_dead_letters(mod_id="wiki", older_than=60) == 1
    assert await left() == [chat, new]
    assert await journal.forget_dead_letters(letter_id=old) == 0
    assert await journal.forget_dead_letters(letter_id=new, mod_id="chat") == 0
    assert await journal.forget_dead_letters(letter_id=new) == 1
    assert await left() == [chat]
    await journal.bury(letter())
    assert await journal.forget_dead_letters() == 2
    assert journal.stats()["dead_letters"] == journal.stats()["dead_letter_bytes"] == 0


async def test_at_most_so_many_dead_letters_are_kept_the_oldest_go_first(opened: Callable[..., Journal]) -> None:
    journal = opened(dead_letters=3)
    ids = [await journal.bury(letter()) for _ in range(5)]
    assert [found.letter_id for found in await journal.dead_letters()] == ids[:1:-1]
    journal = opened(dead_letters=0)
    seq = await journal.accept("wiki", event())
    await journal.bury(letter(), seq=seq)
    assert await journal.dead_letters() == []
    assert await journal.pending_counts() == {}


async def test_at_most_so_many_bytes_of_dead_letters_are_kept(
    opened: Callable[..., Journal], caplog: pytest.LogCaptureFixture
) -> None:
    size = len(pack(letter().event))
    journal = opened(dead_letter_bytes=3 * size + 10)
    ids = [await journal.bury(letter()) for _ in range(5)]
    assert [found.letter_id for found in await journal.dead_letters()] == ids[:1:-1]
    await journal.bury(letter("huge", report={"x": "y" * 4 * size}))  # would cost all others, and still be too much
    assert [found.letter_id for found in await journal.dead_letters()] == ids[:1:-1]
    assert "a dead letter of mod huge" in caplog.text
    assert journal.stats()["dead_letter_bytes"] == 3 * size


async def test_old_dead_letters_go(opened: Callable[..., Journal]) -> None:
    journal = opened()
    now = time.time()
    for age in (7200, 0, 7200, 0):
        await journal.bury(letter(at=now - age))
    journal = opened(dead_letter_age=3600.0)
    await journal.bury(letter(at=now))
    assert [found.at for found in await journal.dead_letters()] == [now, now, now]


async def test_dead_letters_that_cannot_be_read_back_are_left_out(
    file: Path, opened: Callable[..., Journal], caplog: pytest.LogCaptureFixture
) -> None:
    journal = opened()
    ids = [await journal.bury(letter(report={})) for _ in range(4)]
    journal.close()
    damage(file, f"UPDATE dead_letter SET event = X'c1' WHERE letter_id = {ids[3]}")
    damage(file, f"UPDATE dead_letter SET report = X'01' WHERE letter_id = {ids[2]}")
    journal = opened()
    assert [found.letter_id for found in await journal.dead_letters(limit=1)] == [ids[1]]
    assert await journal.dead_letter(ids[3]) is None
    assert f"2 dead letters ({ids[3]}, {ids[2]}) cannot be read back" in caplog.text


# -- checkpoints


async def test_the_last_checkpoint_of_a_mod_is_kept(opened: Callable[..., Journal]) -> None:
    journal = opened()
    await journal.save_checkpoint("wiki", "1.0", {"pages": 1})
    state = {"pages": {"a": [1, 2.5, None, b"\0"]}}
    await journal.save_checkpoint("wiki", "1.1", state)
    await journal.save_checkpoint("chat", "2", None)
    journal = opened()
    found = await journal.checkpoint("wiki")
    assert found is not None
    assert found == Checkpoint("wiki", "1.1", state, found.at, len(pack(state)))
    assert abs(found.at - time.time()) < 60
    assert journal.stats()["checkpoints"] == 2
    journal.drop_checkpoint("wiki")
    assert await journal.checkpoint("wiki") is None
    assert journal.stats()["checkpoints"] == 1


async def test_a_checkpoint_that_is_refused_leaves_the_former_one(opened: Callable[..., Journal]) -> None:
    journal = opened(checkpoint_bytes=1000)
    await journal.save_checkpoint("wiki", "1", "first")
    with pytest.raises(ModvisorError, match="checkpoint_bytes") as caught:
        await journal.save_checkpoint("wiki", "1", "x" * 1000)
    assert caught.value.code == "too_large"
    with pytest.raises(Unserializable):
        await journal.save_checkpoint("wiki", "1", {"x": {1, 2}})
    with pytest.raises(JournalError):
        await journal.save_checkpoint("wiki", "\ud800", "second")
    found = await journal.checkpoint("wiki")
    assert found is not None
    assert found.state == "first"
    assert journal.stats()["checkpoints"] == 1


async def test_a_checkpoint_that_cannot_be_read_back_is_none(
    file: Path, opened: Callable[..., Journal], caplog: pytest.LogCaptureFixture
) -> None:
    journal = opened()
    await journal.save_checkpoint("wiki", "1", "state")
    journal.close()
    damage(file, "UPDATE checkpoint SET state = X'c1'")
    journal = opened()
    assert await journal.checkpoint("wiki") is None
    assert "1 checkpoint (wiki) cannot be read back" in caplog.text
    await journal.save_checkpoint("wiki", "1", "state")
    assert (await journal.checkpoint("wiki")) is not None


# -- many askers


async def test_one_bad_job_of_many_at_once_fails_alone(opened: Callable[..., Journal]) -> None:
    journal = opened()
    gate = Gate(journal)
    ids = ["wiki"] * 20
    ids[7] = "bad\ud800"
    asked = [asyncio.create_task(journal.accept(mod_id, event())) for mod_id in ids]
    await turns()
    gate.open()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int] * 7 + [JournalError] + [int] * 12
    assert journal.stats()["durable_events"] == 19
    assert {found.seq for found in await journal.pending("wiki")} == {
        found for found in outcomes if isinstance(found, int)
    }


async def test_what_is_asked_first_is_seen_by_what_is_asked_next(opened: Callable[..., Journal]) -> None:
    """Also within one transaction."""
    journal = opened()
    gate = Gate(journal)
    accepting = asyncio.create_task(journal.accept("wiki", event()))
    await turns()
    reading = asyncio.create_task(journal.pending("wiki"))
    burying = asyncio.create_task(journal.bury(letter()))
    await turns()
    counting = asyncio.create_task(journal.dead_letters())
    await turns()
    gate.open()
    assert [found.seq for found in await reading] == [await accepting]
    assert [found.letter_id for found in await counting] == [await burying]


async def test_closing_commits_what_is_queued_and_answers_who_waits(opened: Callable[..., Journal]) -> None:
    journal = opened()
    gate = Gate(journal)
    asked = [asyncio.create_task(journal.accept("wiki", event())) for _ in range(50)]
    await turns()
    closing_it = asyncio.create_task(asyncio.to_thread(journal.close))
    gate.open()
    await closing_it
    seqs = await asyncio.gather(*asked)
    journal = opened()
    assert [found.seq for found in await journal.pending("wiki")] == seqs


# -- against a model

_MODS = st.sampled_from(["wiki", "chat"])
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), _MODS, st.integers(0, 300)),
        st.tuples(st.sampled_from(["answered", "bury", "withdraw"]), st.integers(0, 12), st.none()),
        st.tuples(st.just("charge"), st.integers(0, 12), st.integers(1, 5)),
        st.tuples(st.just("forget"), _MODS, st.none()),
        st.tuples(st.just("reopen"), st.none(), st.none()),
    ),
    max_size=40,
)
_LIMITS = JournalConfig(durable_events=6, durable_bytes=1500, dead_letters=4, dead_letter_bytes=2000)


class Model:
    """What the journal should hold, as lists in memory."""

    def __init__(self) -> None:
        self.durable: dict[int, tuple[str, Event, int, int]] = {}  # seq: mod, event, attempt, size
        self.letters: list[tuple[int, str, int]] = []  # id, mod, size; oldest first
        self.known: list[int] = []  # every number ever given

    def full(self, size: int) -> bool:
        taken = sum(row[3] for row in self.durable.values())
        return len(self.durable) >= _LIMITS.durable_events or taken + size > _LIMITS.durable_bytes

    def bury(self, letter_id: int, mod_id: str, size: int) -> None:
        self.letters.append((letter_id, mod_id, size))
        while len(self.letters) > _LIMITS.dead_letters or self.letter_bytes() > _LIMITS.dead_letter_bytes:
            del self.letters[0]

    def letter_bytes(self) -> int:
        return sum(size for *_, size in self.letters)


async def play(journal: Journal, model: Model, operation: str, first: Any, second: Any) -> None:
    seq = model.known[first % len(model.known)] if isinstance(first, int) and model.known else 999
    match operation:
        case "accept":
            made = event(payload={"x": "y" * second})
            size = len(pack(made.to_dict()))
            if model.full(size):
                with pytest.raises(StorageFull):
                    await journal.accept(first, made)
                return
            seq = await journal.accept(first, made)
            assert seq not in model.known
            model.known.append(seq)
            model.durable[seq] = (first, made, 1, size)
        case "answered":
            journal.answered(seq)
            model.durable.pop(seq, None)
        case "withdraw":
            task = asyncio.create_task(journal.accept("wiki", event()))
            await turns(first % 3)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or isinstance(task.exception(), StorageFull) or task.result()
            if not task.cancelled() and task.exception() is None:
                journal.answered(task.result())
        case "charge":
            journal.charge(seq, Record(second))
            if seq in model.durable:
                mod_id, made, _, size = model.durable[seq]
                model.durable[seq] = (mod_id, made, second, size)
        case "bury":
            mod_id, made, _, size = model.durable.pop(seq, ("wiki", event(), 1, 0))
            buried = letter(mod_id, event=made.to_dict())
            model.bury(await journal.bury(buried, seq=seq), mod_id, len(pack(buried.event)))
        case "forget":
            before = len(model.letters)
            model.letters = [row for row in model.letters if row[1] != first]
            assert await journal.forget_dead_letters(mod_id=first) == before - len(model.letters)


async def compare(journal: Journal, model: Model) -> None:
    for mod_id in ("wiki", "chat"):
        expected = [(seq, row[1], row[2]) for seq, row in sorted(model.durable.items()) if row[0] == mod_id]
        assert [(found.seq, found.event, found.attempt) for found in await journal.pending(mod_id)] == expected
    assert [found.letter_id for found in await journal.dead_letters()] == [row[0] for row in reversed(model.letters)]
    stats = journal.stats()
    assert (stats["durable_events"], stats["durable_bytes"], stats["dead_letters"], stats["dead_letter_bytes"]) == (
        len(model.durable),
        sum(row[3] for row in model.durable.values()),
        len(model.letters),
        model.letter_bytes(),
    )
    assert stats["write_errors"] == 0


@given(_OPERATIONS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_journal_does_what_a_model_in_memory_does(operations: list[tuple[str, Any, Any]]) -> None:
    async def run(folder: Path) -> None:
        model, journal = Model(), Journal(folder / "network.db", _LIMITS)
        journal.open()
        try:
            for operation in operations:
                if operation[0] == "reopen":
                    journal.close()
                    assert journal.open().clean
                else:
                    await play(journal, model, *operation)
            await compare(journal, model)
            journal.close()
            journal.open()
            await compare(journal, model)
        finally:
            journal.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
