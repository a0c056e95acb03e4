"""An inbox: in order, counted in events and bytes, and fair to the sources whose events wait in it."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.supervisor.agents import Refusal
from modvisor.supervisor.agents.inboxes.inbox import MAX_SOURCES, OTHERS, Inbox, Losses

from ..registries import Registry

pytestmark = pytest.mark.anyio


def test_an_inbox_that_nothing_ever_came_into_takes_little_memory_and_shares_no_events() -> None:
    tracemalloc.start()
    try:
        inboxes = [Inbox() for _ in range(100)]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(inboxes) < 300
    inboxes[0].append(Event("chat.message"), 10, "agent:alice")
    assert [len(inbox) for inbox in inboxes[:3]] == [1, 0, 0]
    with pytest.raises(IndexError):
        inboxes[1].popleft()


def test_an_inbox_is_first_in_first_out_and_counts_bytes() -> None:
    inbox, events = Inbox(), [Event("chat.message", payload={"i": index}) for index in range(3)]
    for size, event in enumerate(events, start=10):
        inbox.append(event, size, "agent:bob")
    assert (len(inbox), inbox.size) == (3, 33)
    assert [inbox.popleft() for _ in range(3)] == events
    assert (len(inbox), inbox.size) == (0, 0)


class Model:
    """What an inbox should hold, found the slow way: a list, and a sum over it for each decision."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self.held: list[tuple[int, int, str]] = []

    def weight(self, source: str) -> int:
        mine = [size for _, size, whose in self.held if whose == source]
        return len(mine) * self.most_bytes + sum(mine) * self.most

    def put(self, number: int, size: int, source: str) -> list[str]:
        dropped = []
        while len(self.held) >= self.most or sum(each[1] for each in self.held) + size > self.most_bytes:
            heaviest = max(self.weight(whose) for _, _, whose in self.held)
            victim = min(whose for _, _, whose in self.held if self.weight(whose) == heaviest)
            mine = self.weight(source)
            if mine and mine + self.most_bytes + size * self.most >= heaviest:
                victim = source
            self.held.remove(next(each for each in self.held if each[2] == victim))
            dropped.append(victim)
        self.held.append((number, size, source))
        return dropped


STEPS = st.lists(
    st.one_of(st.tuples(st.sampled_from("abcd"), st.integers(1, 40)), st.integers(1, 6)), min_size=1, max_size=60
)


@given(STEPS, st.integers(1, 8))
def test_a_full_inbox_drops_the_oldest_event_of_the_source_that_takes_up_most(steps: list[Any], most: int) -> None:
    inbox, model, numbers = Inbox(), Model(most, 100), dict[int, int]()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            taken = [numbers[id(inbox.popleft())] for _ in range(min(step, len(inbox)))]
            assert taken == [model.held.pop(0)[0] for _ in taken]
            continue
        source, size = step
        event = Event("chat.message", event_id=str(number))
        numbers[id(event)] = number
        kept_alive.append(event)
        dropped = []
        while len(inbox) >= most or inbox.size + size > 100:
            dropped.append(inbox.drop_of_heaviest(most, 100, source, size))
        inbox.append(event, size, source)
        assert dropped == model.put(number, size, source)
        assert (len(inbox), inbox.size) == (len(model.held), sum(each[1] for each in model.held))
        assert len(inbox.events) <= 2 * most + 2, "what was dropped leaves no gaps behind"
        assert inbox._tally is None or len(inbox._tally._heap) <= 4 * 4 + 65


kept_alive: list[Event] = []  # ids of objects are names here


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 9)), max_size=20))
def test_a_source_within_its_share_loses_nothing(sent: list[tuple[str, int]]) -> None:
    """Four sources, and one of them sends at most a quarter of what fits: all of that is kept."""
    registry = Registry(inbox_size=8)
    bob, _ = registry.register("bob", {})
    modest = 0
    for source, times in sent:
        for _ in range(times if source != "a" else 1):
            if source == "a" and modest == 2:
                continue
            modest += source == "a"
            deliver(registry, source)
    waiting = Counter(item[0].source_id for item in bob.inbox.events if item is not None)
    assert waiting["agent:a"] == modest
    assert bob.dropped == bob.losses.count


def deliver(registry: Registry, source: str, to: str = "bob", **payload: Any) -> bool:
    event = Event("chat.message", f"agent:{source}", f"agent:{to}", payload=payload)
    assert event.destination is not None
    return registry.deliver(event, event.destination).reached == 1


async def test_a_flooder_pushes_out_only_its_own_events_and_the_agent_is_told() -> None:
    registry = Registry(inbox_size=100)
    bob, _ = registry.register("bob", {})
    for number in range(10):
        deliver(registry, "honest", n=number)
    for _ in range(5000):
        deliver(registry, "flooder")
    deliver(registry, "late")
    assert bob.losses.to_dict() == {"events": 4911, "sources": {"agent:flooder": 4911}}
    told = registry.take_losses(bob)
    assert (told is not None, registry.take_losses(bob)) == (True, None), "told once"
    events = await registry.poll(bob)
    assert Counter(event.source_id for event in events) == {"agent:honest": 10, "agent:flooder": 89, "agent:late": 1}
    assert [event.payload["n"] for event in events if event.source_id == "agent:honest"] == list(range(10))


def test_an_inbox_that_rejects_keeps_room_for_the_next_source_however_many_flood_it() -> None:
    registry = Registry(inbox_size=100, inbox_policy="reject")
    bob, _ = registry.register("bob", {})
    kept: Counter[str] = Counter()
    for flooder in range(20):
        for _ in range(300):
            with suppress(Refusal):
                kept[f"f{flooder}"] += deliver(registry, f"f{flooder}")
    assert kept["f0"] == 100, "one source may fill the inbox"
    assert all(kept[f"f{flooder}"] >= 1 for flooder in range(7))
    assert len(bob.inbox) <= 200
    assert bob.losses.count == 6000 - len(bob.inbox)


def test_an_inbox_that_rejects_is_bounded_in_bytes_for_each_source_too() -> None:
    registry, kept = Registry(inbox_bytes=3000, inbox_policy="reject"), Counter[str]()
    bob, _ = registry.register("bob", {})
    for source in ("big", "other"):
        for _ in range(10):
            with suppress(Refusal):
                kept[source] += deliver(registry, source, text="x" * 800)
    assert (kept["big"], bob.inbox.size <= 6000) == (3, True)
    assert kept["other"] >= 1


def test_only_so_many_sources_are_named_in_what_an_agent_is_told() -> None:
    losses = Losses()
    for number in range(MAX_SOURCES + 30):
        losses.add(f"agent:{number}")
    assert (losses.count, len(losses.by_source), losses.by_source[OTHERS]) == (MAX_SOURCES + 30, MAX_SOURCES + 1, 30)


async def test_an_agent_that_takes_its_id_over_is_still_told() -> None:
    registry = Registry(inbox_size=1)
    _, secret = registry.register("bob", {})
    deliver(registry, "a")
    deliver(registry, "a")
    back, _ = registry.register("bob", {}, secret=secret)
    assert back.losses.count == 1


def test_many_sources_in_many_full_inboxes_cost_little() -> None:
    """A walk over the sources of each full inbox would take seconds here."""
    registry = Registry(inbox_size=200)
    for number in range(20):
        registry.register(f"reader{number}", {})
    for number in range(600):
        event = Event("chat.message", f"agent:{number}", "agent:broadcast")
        assert event.destination is not None
        assert registry.deliver(event, event.destination).reached == 20
    for agent in registry:
        assert (len(agent.inbox), agent.dropped) == (200, 400)
