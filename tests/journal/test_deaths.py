"""What the end of the last run means for the durable events that were being handled then."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.supervisor.config.network.network import JournalConfig
from modvisor.supervisor.journal.deaths import (
    BOOT_ID,
    IN_TURN,
    LAST,
    LAST_ALONE,
    Begun,
    BegunTogether,
    Record,
    after_death,
)
from modvisor.supervisor.journal.journal import _packed_event
from modvisor.supervisor.journal.opening import connect
from modvisor.supervisor.journal.store import Store


def after(
    record: Record, *, caught: bool = False, running: bool = False, alone: bool = False, counts: bool = True
) -> Record:
    event = Begun(1, record.attempt, caught, running)
    return after_death(record, event, is_alone=alone, runs_alone=alone, counts=counts)


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 9))
def test_every_repetition_is_told_to_the_handler(
    caught: bool, running: bool, alone: bool, counts: bool, n: int
) -> None:
    assert after(Record(n), caught=caught, running=running, alone=alone, counts=counts).attempt == n + 1


def test_a_call_for_the_death_is_a_charge_and_nothing_else_is() -> None:
    assert after(Record(), caught=True) == Record(2, 1, 0, LAST_ALONE)
    assert after(Record(), running=True).charges == 0
    assert after(Record()).charges == 0


@given(st.booleans(), st.booleans(), st.integers(1, 9))
def test_a_clean_stop_and_another_boot_count_against_nobody(caught: bool, running: bool, n: int) -> None:
    assert after(Record(n), caught=caught, running=running, alone=True, counts=False) == Record(n + 1)


def test_an_event_that_waits_is_never_given_up_however_often_it_is_cut_off() -> None:
    record = Record()
    for _ in range(100):
        record = after(record, alone=True)
    assert record == Record(101, 0, 0, LAST), "it only comes after the others"


def test_an_event_that_runs_at_each_death_is_alone_in_the_end() -> None:
    first = after(Record(), running=True)
    assert (first.turn, first.unproven) == (LAST, 0)
    assert after(first, running=True).turn == LAST_ALONE
    assert after(after(first, running=True), running=True, alone=True).unproven == 1


def store_of(folder: Path) -> Store:
    connection, store = connect(folder / "network.db", full_sync=False, read=lambda c: Store(c, JournalConfig()))
    store.take_over()
    assert isinstance(connection, sqlite3.Connection)
    return store


def records(store: Store) -> dict[int, Record]:
    return {event.seq: event.record for event in store.pending("work")}


def accept(store: Store, count: int) -> None:
    for n in range(count):
        event = Event("work.do", "agent:a", event_id=str(n))
        store.accept("work", ("agent:a", str(n)), _packed_event(event.to_dict()), 1, 0.0)


def test_the_same_death_is_noted_once_however_often_it_is_read(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    accept(store, 3)
    with closing(store.connection):
        store._same_boot = True  # as after a kill
        group = BegunTogether(BOOT_ID, (Begun(1, 1, is_caught=True), Begun(2, 1, is_running=True), Begun(9, 1)))
        for _ in range(3):
            store.note_deaths([group])
        assert records(store) == {1: Record(2, 1, 0, LAST_ALONE), 2: Record(2), 3: Record()}, "2 is explained by 1"


def test_an_unclean_end_in_another_boot_repeats_all_and_charges_none(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    accept(store, 2)
    store._execute("UPDATE owner SET boot = 'another'")
    store.connection.close()
    store = store_of(tmp_path)
    with closing(store.connection):
        store.note_deaths([BegunTogether("another", (Begun(1, 1, is_caught=True),))])
        assert [(record.attempt, record.charges, record.turn) for record in records(store).values()] == [
            (2, 0, IN_TURN)
        ] * 2
