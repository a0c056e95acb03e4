"""What the journal drops by its age is not dropped by a jump of the wall clock, nor while nobody ran."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest

from modvisor.ipc.errors import Code
from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack
from modvisor.supervisor.config.network.network import JournalConfig
from modvisor.supervisor.journal.aging import Aging
from modvisor.supervisor.journal.records import DeadLetter
from modvisor.supervisor.journal.schema import migrate
from modvisor.supervisor.journal.store import Store

DAY = 86400.0


class Clocks:
    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def aging(self, last_seen: float | None = None) -> Aging:
        return Aging(last_seen, lambda: self.wall, lambda: self.steady)


def test_without_jumps_the_horizon_is_the_age_ago() -> None:
    clocks = Clocks()
    aging = clocks.aging()
    clocks.pass_by(3 * DAY)
    assert aging.horizon(DAY) == clocks.wall - DAY


def test_a_jump_ahead_ages_nothing() -> None:
    clocks = Clocks()
    aging = clocks.aging()
    written = clocks.wall
    clocks.wall += 10_000 * DAY
    assert aging.horizon(DAY) < written
    clocks.pass_by(DAY - 1)
    assert aging.horizon(DAY) < written
    clocks.pass_by(2)
    assert aging.horizon(DAY) > written
    assert aging.horizon(DAY) < clocks.wall - DAY + 2, "what was written after the jump has its own age"


def test_a_jump_back_ages_nothing() -> None:
    clocks = Clocks()
    aging = clocks.aging()
    written = clocks.wall
    clocks.wall -= 100 * DAY
    assert aging.horizon(DAY) < written


def test_the_time_in_which_no_network_ran_ages_nothing() -> None:
    clocks = Clocks()
    written = clocks.wall
    clocks.pass_by(40 * DAY)
    aging = clocks.aging(last_seen=written + 10)
    assert aging.horizon(DAY) < written
    clocks.pass_by(DAY)
    assert aging.horizon(DAY) > written


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
def test_letters_outlive_a_start_after_a_long_time(clean: bool) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        config = JournalConfig()
        first = Store(connection, config)
        first.take_over()
        letter = DeadLetter(None, "wiki", {}, 1, Code.DEAD_LETTERED, "", None, time.time())
        first.bury(letter, pack(Event("wiki.page.create", "agent:alice").to_dict()), None, None)
        if clean:
            first.leave()
        long_ago = 2 * config.dead_letter_age
        connection.execute(
            "UPDATE owner SET opened_at = opened_at - ?, closed_at = closed_at - ?", (long_ago, long_ago)
        )
        connection.execute("UPDATE dead_letter SET at = at - ?", (long_ago,))
        second = Store(connection, config)
        second.take_over()
        second.retain()
        assert second.totals.dead_letters == 1
