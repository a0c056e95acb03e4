"""The journal's tables on their own: totals, numbers and limits, without a writer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from modvisor.ipc.errors import Code
from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack
from modvisor.supervisor.config.network.network import JournalConfig
from modvisor.supervisor.journal.deaths import Record
from modvisor.supervisor.journal.durable_table import Accepted, Totals
from modvisor.supervisor.journal.records import DeadLetter, StorageFull
from modvisor.supervisor.journal.schema import migrate
from modvisor.supervisor.journal.store import Store

EVENT = pack(Event("wiki.page.create", "agent:alice", event_id="one").to_dict())


@pytest.fixture
def make() -> Iterator[Callable[..., Store]]:
    connections: list[sqlite3.Connection] = []

    def make(**limits: Any) -> Store:
        connections.append(sqlite3.connect(":memory:", isolation_level=None))
        migrate(connections[-1], 0)
        return Store(connections[-1], JournalConfig(**limits))

    yield make
    for connection in connections:
        with closing(connection):
            pass


def accept(store: Store, event_id: str, mod_id: str = "wiki") -> Accepted:
    return store.accept(mod_id, ("agent:alice", event_id), EVENT, 1, time.time())


def test_an_event_sent_again_keeps_its_number(make: Callable[..., Store]) -> None:
    store = make()
    assert accept(store, "one") == Accepted(1, fresh=True)
    assert accept(store, "one") == Accepted(1, fresh=False)
    assert store.totals == Totals(durable_events=1, durable_bytes=len(EVENT))


def test_a_number_is_never_given_twice(make: Callable[..., Store]) -> None:
    store = make()
    store.answered(accept(store, "one").seq)
    assert accept(store, "two").seq == 2
    store.answered(1)
    assert store.totals.durable_events == 1, "an answer that comes twice counts once"


def test_limits_of_events(make: Callable[..., Store]) -> None:
    few = make(durable_events=1)
    accept(few, "one")
    with pytest.raises(StorageFull, match=r"journal\.durable_events"):
        accept(few, "two")
    small = make(durable_bytes=len(EVENT) + 1)
    accept(small, "one")
    with pytest.raises(StorageFull, match=r"journal\.durable_bytes"):
        accept(small, "two")
    assert small.totals.durable_events == 1


ANSWER, LARGE = pack(["response", {"success": True}]), pack(["response", {"success": True, "data": "x" * 99}])


def test_an_answer_is_remembered_within_its_bounds(make: Callable[..., Store]) -> None:
    store = make(answer_bytes=2 * len(ANSWER) + 1, answer_age=60.0)
    for name in ("one", "two", "three"):
        store.answered(accept(store, name).seq, ANSWER)
    assert accept(store, "three") == Accepted(0, fresh=False, answer=ANSWER)
    assert accept(store, "two").answer == ANSWER
    assert accept(store, "one").fresh, "the oldest was forgotten"
    assert store.totals.answer_bytes == 2 * len(ANSWER)
    store._execute("UPDATE answer SET at = at - 100")
    assert accept(store, "three").fresh, "it is too old"
    store.answered(accept(store, "four").seq, LARGE)  # too large to be remembered
    store.answered(accept(store, "five").seq)  # a failure
    assert accept(store, "four").fresh
    assert accept(store, "five").fresh
    store.answered(accept(store, "six").seq, ANSWER)
    assert store.totals.answer_bytes == len(ANSWER), "old answers go when a new one comes"


def test_an_event_and_its_answer_take_four_statements(make: Callable[..., Store]) -> None:
    store = make()
    store.answered(accept(store, "first").seq, ANSWER)
    statements: list[str] = []
    store.connection.set_trace_callback(statements.append)
    for number in range(10):
        store.answered(accept(store, f"event-{number}").seq, ANSWER)
    assert len(statements) == 4 * 10


def test_every_worker_of_a_mod_and_its_successor_know_its_answers(make: Callable[..., Store]) -> None:
    store = make()
    store.answered(accept(store, "one", mod_id="wiki#0").seq, ANSWER)
    assert accept(store, "one", mod_id="wiki#1").answer == ANSWER
    store.hand_on("wiki", "pages")
    assert accept(store, "one", mod_id="pages").answer == ANSWER


def test_pending_events_come_in_order_and_in_parts(make: Callable[..., Store]) -> None:
    store = make()
    for name in ("one", "two", "three"):
        accept(store, name)
    store.charge(2, Record(5))
    assert [(event.seq, event.attempt) for event in store.pending("wiki")] == [(1, 1), (2, 5), (3, 1)]
    assert [event.seq for event in store.pending("wiki", 1, 1)] == [2]
    assert store.pending_counts() == {"wiki": 3}


def test_a_successor_takes_events_and_checkpoint_over(make: Callable[..., Store]) -> None:
    store = make()
    accept(store, "one")
    store.save_checkpoint("wiki", "1.0", pack({"pages": 3}), 0.0)
    store.save_checkpoint("wiki2", "2.0", pack({}), 0.0)
    store.hand_on("wiki", "wiki2")
    checkpoint = store.checkpoint("wiki2")
    assert checkpoint is not None
    assert (checkpoint.version, checkpoint.state) == ("1.0", {"pages": 3})
    assert store.pending_counts() == {"wiki2": 1}
    assert store.totals.checkpoints == 1


def test_the_oldest_letters_make_room(make: Callable[..., Store]) -> None:
    store = make(dead_letters=2)
    for number in range(3):
        letter = DeadLetter(None, "wiki", {}, 1, Code.DEAD_LETTERED, "", None, 10e9)
        assert store.bury(letter, EVENT, None, None) == number + 1
    assert [letter.letter_id for letter in store.dead_letters()] == [3, 2]
    assert [head.size for head in store.letter_heads(limit=1)] == [len(EVENT)]
    assert store.forget_dead_letters(None, "wiki", None) == 2
    assert (store.totals.dead_letters, store.totals.dead_letter_bytes) == (0, 0)
