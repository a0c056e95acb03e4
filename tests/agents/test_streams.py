"""A stream pushes what waits for an agent, in order, and again what the agent has not said it has handled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.supervisor.agents import Refusal, Stream
from modvisor.supervisor.agents.agent import Agent
from modvisor.supervisor.agents.inboxes.inbox import GuestMail, Inbox

from .registries import Registry

pytestmark = pytest.mark.anyio


def woken() -> None:
    pass


def put(registry: Registry, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        event = Event("chat.message", "bob", "agent:alice", payload={"i": number})
        registry.deliver(event, event.destination)  # type: ignore[arg-type]


def numbers(stream: Stream, most: int = 1000) -> list[tuple[str, int]]:
    taken = []
    while len(taken) < most and (each := stream.take()) is not None:
        taken.append((each[0], each[1].payload["i"]))
    return taken


@pytest.fixture
def registry() -> Registry:
    registry = Registry(inbox_size=20)
    registry.register("alice", {})
    return registry


@pytest.fixture
def alice(registry: Registry) -> Agent:
    agent = registry.get("alice")
    assert agent is not None
    return agent


def test_a_cursor_brings_what_is_behind_it_with_the_same_cursors(registry: Registry, alice: Agent) -> None:
    stream = registry.open_stream(alice, woken)
    assert (stream.resumed, stream.take()) == (False, None)
    put(registry, 4)
    first = numbers(stream)
    assert [number for _, number in first] == [0, 1, 2, 3]
    stream.close()
    put(registry, 1, start=4)
    again = registry.open_stream(alice, woken, first[1][0])
    assert (again.resumed, again.cursor) == (True, first[1][0])
    assert numbers(again)[:2] == first[2:]
    assert alice.inbox.held == 3


def test_without_a_cursor_it_begins_with_the_oldest_that_waits(registry: Registry, alice: Agent) -> None:
    put(registry, 3)
    stream = registry.open_stream(alice, woken)
    first = numbers(stream)
    stream.handled(first[0][0])
    stream.close()
    for cursor in (None, "other.2", f"{first[0][0].partition('.')[0]}.99", "", ".", "x", first[0][0] + "²"):
        again = registry.open_stream(alice, woken, cursor)
        assert not again.resumed
        assert numbers(again) == first[1:]


def test_a_cursor_that_was_not_pushed_cannot_be_handled(registry: Registry, alice: Agent) -> None:
    put(registry, 3)
    stream = registry.open_stream(alice, woken)
    [(first, _)] = numbers(stream, most=1)
    epoch = first.partition(".")[0]
    for wrong in (f"{epoch}.2", "other.1", "1", f"{epoch}.-1"):
        with pytest.raises(Refusal, match="no event was pushed with the cursor"):
            stream.handled(wrong)
    stream.handled(first)
    stream.handled(first)
    stream.handled(f"{epoch}.0")
    assert alice.inbox.held == 2


def test_another_owner_of_the_id_has_other_cursors(registry: Registry, alice: Agent) -> None:
    put(registry, 1)
    stream = registry.open_stream(alice, woken)
    [(cursor, _)] = numbers(stream)
    registry.unregister("alice")
    assert (stream.is_gone, stream.is_replaced) == (True, True)
    agent, _ = registry.register("alice", {})
    assert not registry.open_stream(agent, woken, cursor).resumed


def test_an_agent_that_takes_its_id_over_goes_on_where_it_was(registry: Registry, alice: Agent) -> None:
    put(registry, 3)
    stream = registry.open_stream(alice, woken)
    first = numbers(stream)
    agent, _ = registry.register("alice", {}, trusted=True)
    assert stream.is_replaced
    assert not stream.is_gone
    again = registry.open_stream(agent, woken, first[0][0])
    assert numbers(again) == first[1:]
    stream.close()  # the old connection ends later
    assert (agent.stream, agent.polling) == (again, 1)


def test_a_stream_is_woken_by_an_event_and_by_a_newer_stream(registry: Registry, alice: Agent) -> None:
    heard: list[str] = []
    old = registry.open_stream(alice, lambda: heard.append("old"))
    put(registry, 1)
    assert heard == ["old"]
    new = registry.open_stream(alice, lambda: heard.append("new"))
    assert heard == ["old", "old"]
    assert (old.is_replaced, new.is_replaced) == (True, False)
    put(registry, 1)
    assert heard == ["old", "old", "new"]
    new.close()
    put(registry, 1)
    assert (heard[3:], alice.polling) == ([], 0)


def test_an_agent_with_a_stream_does_not_expire() -> None:
    registry = Registry(expire_after=10)
    agent, _ = registry.register("alice", {}, trusted=True)
    stream = registry.open_stream(agent, woken)
    registry.time = 100.0
    assert registry.expired() == []
    stream.close()
    assert registry.expired() == ["alice"]


async def test_a_poll_beside_a_stream_takes_what_was_not_pushed_and_after_it_all(
    registry: Registry, alice: Agent
) -> None:
    put(registry, 4)
    stream = registry.open_stream(alice, woken)
    numbers(stream, most=2)
    assert [event.payload["i"] for event in await registry.poll(alice)] == [2, 3]
    put(registry, 1, start=4)
    stream.close()
    assert [event.payload["i"] for event in await registry.poll(alice, 5.0, 1)] == [0]
    assert [event.payload["i"] for event in await registry.poll(alice)] == [1, 4]
    assert (alice.inbox.held, alice.inbox.size) == (0, 0)


@pytest.mark.parametrize("policy", ["drop_oldest", "reject"])
def test_pushed_events_take_room_until_they_are_handled(policy: str) -> None:
    registry = Registry(inbox_size=4, inbox_policy=policy)
    alice, _ = registry.register("alice", {})
    stream = registry.open_stream(alice, woken)
    put(registry, 4)
    pushed = numbers(stream)
    with pytest.raises(Refusal, match="is full"):
        put(registry, 1, start=4)
    assert alice.dropped == 1
    stream.handled(pushed[1][0])
    put(registry, 2, start=5)
    assert [number for _, number in numbers(stream)] == [5, 6]


def test_a_channel_does_not_overfill_an_inbox_that_holds_pushed_events(registry: Registry) -> None:
    """Also when the agent is another object by now, which nobody has polled."""
    alice, secret = registry.register("alice", {}, trusted=True)
    stream = registry.open_stream(alice, woken)
    put(registry, 19)
    numbers(stream)
    stream.close()
    alice, _ = registry.register("alice", {}, secret=secret)
    registry.join("room", "alice")
    for number in range(5):
        event = Event("chat.message", "bob", "channel:room", payload={"i": number})
        registry.deliver(event, event.destination)  # type: ignore[arg-type]
    assert alice.inbox.held == 20


def test_what_guests_hold_is_counted_while_it_is_pushed() -> None:
    inbox, mail = Inbox(), GuestMail()
    inbox.count_in(mail)
    for number in range(3):
        inbox.append(Event("chat.message", payload={"i": number}), 10, "agent:bob")
    assert (inbox.push(), inbox.push()) == (True, True)
    assert (inbox.size, mail.size, inbox.held) == (30, 30, 3)
    assert inbox.drop_oldest() == inbox.drop_oldest() == "agent:bob"  # what waits goes first, then what was pushed
    assert (inbox.size, mail.size, inbox.pushed.handled) == (10, 10, 1)
    inbox.count_in(None)
    assert (inbox.size, mail.size) == (10, 0)


@given(st.lists(st.sampled_from(["put", "take", "ack", "break", "resume", "lose"]), max_size=60))
def test_nothing_is_lost_or_repeated_however_the_connection_breaks(steps: list[str]) -> None:
    """A client that keeps the cursor of what it has handled, and a network that drops nothing."""
    registry = Registry(inbox_size=1000)
    alice, _ = registry.register("alice", {})
    stream = registry.open_stream(alice, woken)
    sent = 0
    got: list[int] = []
    cursor: str | None = None
    for step in [*steps, "resume", "take", *["take"] * 60]:
        if step == "put":
            put(registry, 1, start=sent)
            sent += 1
        elif step == "take":
            taken = numbers(stream, most=2)
            got += [number for _, number in taken]
            cursor = taken[-1][0] if taken else cursor
        elif step == "ack" and cursor is not None:
            stream.handled(cursor)
        elif step == "lose":
            numbers(stream, most=2)  # they are on their way when the connection breaks
            stream = registry.open_stream(alice, woken, cursor)
        elif step == "resume":
            stream = registry.open_stream(alice, woken, cursor)
        elif step == "break":
            stream.close()
            stream = registry.open_stream(alice, woken, cursor)
    assert got == list(range(sent))
