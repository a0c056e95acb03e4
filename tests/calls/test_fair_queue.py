"""Whose turn it is when events of many sources wait for one mod, and how much room each source has."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.errors import Code
from modvisor.ipc.event import Event
from modvisor.supervisor.calls.admission import Queue, Unanswered
from modvisor.supervisor.calls.fair_queue import FairQueue, Tally
from modvisor.supervisor.calls.journey import Journey
from modvisor.supervisor.config import LimitsConfig
from modvisor.supervisor.shares import has_share, source_of
from tests.calls.test_admission import Mod, incarnation, settle, start

pytestmark = pytest.mark.anyio


def journey(source: str, n: int = 0) -> Journey:
    return Journey(Event("test.ask", source, payload={"n": n}), 9e9)


class Slot:
    """As much of a future as a queue uses."""

    def __init__(self) -> None:
        self.is_done = False

    def done(self) -> bool:
        return self.is_done


SOURCES = st.sampled_from(["agent:a", "agent:b", "mod:c", "mod:d"])
STEPS = st.lists(st.one_of(SOURCES, st.integers(0, 5), st.none()), max_size=60)


@given(STEPS)
def test_no_source_waits_longer_than_its_share(steps: list[str | int | None]) -> None:
    """An event is put (a source), the next one is served (None), or one gives up (a number)."""
    queue: Any = FairQueue()
    lines: dict[str, deque[Slot]] = {}
    since: dict[str, Counter[str]] = {}  # for a waiting source: who was served since it waits or was served
    for n, step in enumerate(steps):
        if isinstance(step, str):
            slot = Slot()
            queue[slot] = journey(step, n)
            lines.setdefault(step, deque()).append(slot)
            since.setdefault(step, Counter())
        elif step is None and queue:
            slot, served = next(iter(queue.items()))
            source = served.event.source_id
            assert lines[source].popleft() is slot, "the events of one source keep their order"
            assert queue.pop(slot) is served
            for waiting in lines:
                since[waiting][source] += 1
                assert waiting == source or since[waiting][source] <= 1, "served twice while another source waits"
            since[source] = Counter()
        elif isinstance(step, int) and lines:
            source = sorted(lines)[step % len(lines)]
            slot = lines[source][step % len(lines[source])]
            lines[source].remove(slot)
            slot.is_done = True
            queue.pop(slot)
            assert queue.pop(slot, None) is None
        for source in [source for source, line in lines.items() if not line]:
            del lines[source], since[source]
        assert len(queue) == len(list(queue)) == sum(map(len, lines.values()))


@given(st.lists(SOURCES, max_size=20))
def test_the_events_are_listed_as_they_will_be_served(sources: list[str]) -> None:
    queue: Any = FairQueue()
    for source in sources:
        queue[Slot()] = journey(source)
    listed, served = list(queue), []
    while queue:
        served.append(next(iter(queue)))
        queue.pop(served[-1])
    assert served == listed


@given(st.lists(st.tuples(SOURCES, st.integers(1, 9)), max_size=60), st.integers(9, 30))
def test_a_room_is_bounded_and_a_source_without_anything_in_it_finds_room(
    puts: list[tuple[str, int]], most: int
) -> None:
    held: Counter[str] = Counter()
    for source, size in puts:
        total = held.total()
        taken = has_share(held[source], total, size, most)
        assert taken or held[source] or total + size > most, "a source that has nothing there is refused too early"
        held[source] += size if taken else 0
        assert held[source] <= most
        assert held.total() <= 2 * most
    for source in list(held):
        assert has_share(0, held.total() - held[source], min(held[source], 1), most), "what leaves makes room"


def test_one_source_fills_its_room_alone() -> None:
    held = 0
    while has_share(held, held, 1, 1000):
        held += 1
    assert held == 1000
    assert has_share(0, 1000, 1, 1000)


def test_a_worker_counts_whatever_name_it_speaks_in() -> None:
    assert source_of(Event("test.ask", "agent:alice", via="mod:relay")) == "mod:relay"
    assert source_of(Event("test.ask", "alice")) == source_of(Event("test.ask", "agent:alice")) == "agent:alice"
    assert source_of(Event("test.ask")) == "system:system"


def test_a_tally_forgets_who_has_nothing_waiting() -> None:
    tally, events, never = Tally(), [journey("agent:a"), journey("agent:a")], Any
    for each in events:
        tally.add(each, never)  # type: ignore[arg-type]
    assert tally.of(events[0]) == (2, events[0].size + events[1].size)
    for each in events:
        tally.remove(each)
    assert (tally.of(events[0]), len(tally)) == ((0, 0), 0)


@given(st.lists(st.tuples(SOURCES, st.integers(0, 300)), max_size=40), st.integers(1, 12), st.integers(400, 4000))
def test_a_full_queue_takes_from_the_source_that_has_most(puts: list[tuple[str, int]], queue: int, most: int) -> None:
    """However many events others send, a source within its share of the room is never refused."""
    tally, limits = Tally(), LimitsConfig(queue=queue, queue_bytes=most)
    held: list[Journey] = []
    for source, size in puts:
        coming = Journey(Event("test.ask", source, payload={"x": "x" * size}), 9e9)

        def weight(of: str) -> int:
            mine = [each for each in held if each.event.source_id == of]
            return len(mine) * most + sum(each.size for each in mine) * queue

        def is_full(coming: Journey = coming) -> bool:
            return len(held) >= queue or (bool(held) and sum(each.size for each in held) + coming.size > most)

        while is_full() and (found := tally.yielding_to(coming, 1, limits)) is not None:
            loser = found[0]
            newest = [each for each in held if each.event.source_id == loser.event.source_id][-1]
            assert loser is newest
            several = [name for name, count in Counter(each.event.source_id for each in held).items() if count > 1]
            assert weight(loser.event.source_id or "") == max(weight(name or "") for name in several)
            held.remove(loser)
            tally.remove(loser)
        if is_full():
            mine = weight(source) + most + coming.size * queue
            counts = Counter(each.event.source_id or "" for each in held)
            assert all(count == 1 or weight(name) <= mine for name, count in counts.items()), "another source has more"
            continue
        held.append(coming)
        tally.add(coming, Any)  # type: ignore[arg-type]


# -- at a mod


async def come(mod: Mod, source: str, n: int) -> Journey:
    one = journey(source, n)
    in_flight = await mod._admit(one, Queue.WAITING)
    in_flight.give_back()
    mod.admitted.append(n)
    return one


async def test_a_source_that_floods_a_mod_waits_for_the_others() -> None:
    mod = Mod(concurrency=1, queue=200)
    mod.open(incarnation())
    first = await come(mod, "mod:flood", 0)
    flood = start(*(come(mod, "mod:flood", n) for n in range(1, 100)))
    await settle()
    others = start(*(come(mod, source, n) for n, source in ((1000, "agent:a"), (1001, "agent:b"), (1002, "agent:a"))))
    await settle()
    mod._leave(first)
    for _ in range(6):
        await settle()
        done = next(task for task in (*flood, *others) if task.done())
        flood, others = [t for t in flood if t is not done], [t for t in others if t is not done]
        mod._leave(done.result())
    await settle()
    assert mod.admitted[:7] == [0, 1, 1000, 1001, 2, 1002, 3]
    for task in (*flood, *others):
        task.cancel()
    await settle()
    assert len(mod._tally) == 0


async def test_a_source_that_fills_the_queue_yields_to_others() -> None:
    mod = Mod(concurrency=1, queue=10)
    flood = start(*(come(mod, "mod:flood", n) for n in range(30)))
    await settle()
    assert (mod.depth, [task.done() for task in flood]) == (10, [False] * 10 + [True] * 20)
    others = start(*(come(mod, f"agent:{n}", n) for n in range(30)))
    await settle()
    assert (mod.depth, [task.done() for task in flood[:10]]) == (10, [False] + [True] * 9), "the newest yield first"
    assert [task.done() for task in others] == [False] * 9 + [True] * 21
    failures = [task.exception() for task in (*flood, *others) if task.done()]
    assert {getattr(failure, "code", None) for failure in failures} == {Code.OVERLOADED}
    assert {str(failure)[:36] for failure in failures} == {"mod work is overloaded: 10 events of"}
    for task in (*flood, *others):
        task.cancel()
    await settle()
    assert (mod.depth, len(mod._tally)) == (0, 0)


async def test_a_source_that_fills_the_bytes_of_the_queue_yields_to_others() -> None:
    mod = Mod(queue_bytes=4096)

    def large(source: str) -> asyncio.Task[Any]:
        event = Event("test.ask", source, payload={"text": "x" * 1500})
        return asyncio.create_task(mod._admit(Journey(event, 9e9), Queue.WAITING))

    tasks = [large(source) for source in (*["mod:flood"] * 3, "agent:a", "agent:b")]
    await settle()
    assert [task.done() for task in tasks] == [False, True, True, False, True]
    for task in tasks:
        task.cancel()
    await settle()


async def test_an_event_that_a_durable_mod_accepted_never_yields() -> None:
    mod = Mod(queue=2)
    accepted = [journey("mod:flood", n) for n in range(2)]
    for n, each in enumerate(accepted):
        each.seq = n
    tasks = start(*(mod._admit(each, Queue.WAITING) for each in accepted))
    await settle()
    with pytest.raises(Unanswered):
        await come(mod, "agent:a", 0)
    assert mod.takes(journey("agent:a")), "but others find room before they are accepted"
    assert not mod.takes(journey("mod:flood"))
    for task in tasks:
        task.cancel()
    await settle()


async def test_events_that_wait_for_the_turn_of_their_key_yield_too() -> None:
    mod = Mod(concurrency=1, queue=5)

    async def turn(source: str, key: str) -> None:
        one = Journey(Event("test.ask", source, payload={"key": key}), 9e9)
        try:
            await mod._take_turn(one, is_new=True)
            await asyncio.get_running_loop().create_future()
        finally:
            mod._turns.leave(one)

    tasks = start(*(turn("mod:flood", "k") for _ in range(7)), *(turn("agent:a", "k") for _ in range(3)))
    await settle()
    assert [n for n, task in enumerate(tasks) if task.done()] == [4, 5, 6]
    tasks[0].cancel()
    await settle()
    tasks[1].cancel()
    for task in tasks:
        task.cancel()
    await settle()
    assert (mod.depth, len(mod._tally), mod._turns._lines, mod._turns._keys) == (0, 0, {}, {})
