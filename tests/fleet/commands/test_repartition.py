"""What was kept of a mod, split for another number of workers."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.ipc.partition import LEAST_LOADED, key_of, partition_of
from modvisor.supervisor.fleet.commands.repartition import hand_on_count, keep_count, repartition
from modvisor.supervisor.journal.records import JournalError
from modvisor.supervisor.lifecycle.incarnation import StartFailed
from modvisor.supervisor.lifecycle.states import State
from tests.supervisor.world import MemoryJournal

from ..conftest import MakeWorld

pytestmark = pytest.mark.anyio


async def test_accepted_events_go_to_the_workers_that_they_belong_to_now(make_world: MakeWorld) -> None:
    world = await make_world(workers=2)
    (mod,) = world.mods
    sources = [f"agent:{letter}" for letter in "abcdefgh"]
    for source in sources:
        await world.journal.accept("work#7", world.event(source=source))
    await repartition(mod, world.journal)  # pyright: ignore[reportArgumentType]
    owners = [kept.mod_id for kept in world.journal.accepted.values()]
    assert owners == [f"work#{partition_of(key_of('source', source, {}), 2)}" for source in sources]


async def test_any_worker_keeps_its_events_where_the_least_loaded_one_is_asked(make_world: MakeWorld) -> None:
    world = await make_world(workers=2, partition_by=LEAST_LOADED)
    (mod,) = world.mods
    await world.journal.accept("work#1", world.event())
    await world.journal.accept("work#2", world.event())
    await repartition(mod, world.journal)  # pyright: ignore[reportArgumentType]
    assert [kept.mod_id for kept in world.journal.accepted.values()] == ["work#1", "work#0"]


class Group:
    """A mod whose workers have not started, one of which splits the states that it is given."""

    def __init__(self, workers: int, parts: list[Any] | None) -> None:
        self.mod_id = "work"
        self.keepers = [Worker(f"work#{index}", parts) for index in range(workers)]


class Worker:
    def __init__(self, mod_id: str, parts: list[Any] | None) -> None:
        self.mod_id, self._parts, self.state, self.last_error = mod_id, parts, State.STARTING, None
        self.config = self.limits = self
        self.start_timeout = 1.0
        self.killed = False

    async def start_incarnation(self) -> Worker:
        return self

    async def part(self, states: list[Any], version: str, count: int, timeout: float) -> list[Any]:
        if self._parts is None:
            raise ModvisorError("it has no split_state")
        self.asked = states, version, count
        return self._parts

    async def kill(self, why: str) -> None:
        self.killed = True

    def not_started(self, reason: str) -> None:
        self.last_error = reason


async def kept(journal: MemoryJournal, *mod_ids: str) -> list[Any]:
    found = [await journal.checkpoint(mod_id) for mod_id in mod_ids]
    return [None if checkpoint is None else checkpoint.state for checkpoint in found]


async def test_the_mod_splits_its_state_for_fewer_workers() -> None:
    journal, group = MemoryJournal(), Group(2, ["x", None])
    await keep_count(Group(3, []), journal)  # pyright: ignore[reportArgumentType]
    for index in range(3):
        await journal.save_checkpoint(f"work#{index}", "1.0", index)
    await repartition(group, journal)  # pyright: ignore[reportArgumentType]
    assert group.keepers[0].asked == ([0, 1, 2], "1.0", 2)
    assert group.keepers[0].killed
    assert await kept(journal, "work#0", "work#1", "work#2") == ["x", None, None]


async def test_a_mod_that_cannot_split_its_state_does_not_start_and_loses_nothing() -> None:
    journal, group = MemoryJournal(), Group(1, None)
    await keep_count(Group(2, []), journal)  # pyright: ignore[reportArgumentType]
    await journal.save_checkpoint("work#1", "1.0", "state")
    with pytest.raises(StartFailed, match="had 2 workers when it last ran"):
        await repartition(group, journal)  # pyright: ignore[reportArgumentType]
    assert "cannot split its state for 1" in str(group.keepers[0].last_error)
    assert await kept(journal, "work#1") == ["state"]


async def test_a_journal_that_cannot_be_read_is_the_failure_of_this_mod() -> None:
    class Unreadable(MemoryJournal):
        async def checkpoint(self, mod_id: str) -> Any:
            raise JournalError("the disk has a bad sector")

    group = Group(2, None)
    with pytest.raises(StartFailed, match="what its workers have kept cannot be read: the disk has a bad sector"):
        await repartition(group, Unreadable())  # pyright: ignore[reportArgumentType]
    assert all("bad sector" in str(worker.last_error) for worker in group.keepers)
    await keep_count(group, Unreadable())  # pyright: ignore[reportArgumentType]


async def test_a_count_that_was_handed_on_splits_nothing() -> None:
    journal, group = MemoryJournal(), Group(1, None)
    await keep_count(Group(2, []), journal)  # pyright: ignore[reportArgumentType]
    await journal.save_checkpoint("work#1", "1.0", "state")
    hand_on_count("work", "other", journal)
    await repartition(group, journal)  # pyright: ignore[reportArgumentType]
    assert await kept(journal, "work#1") == ["state"]
