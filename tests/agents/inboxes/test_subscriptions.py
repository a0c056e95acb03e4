"""Which agents want an event. The index answers as a walk over all patterns would."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.errors import InvalidEvent
from modvisor.ipc.event import Event
from modvisor.ipc.topic import matches
from modvisor.supervisor.agents import Refusal
from modvisor.supervisor.agents.inboxes.subscriptions import Subscription, SubscriptionIndex
from modvisor.supervisor.config import GroupConfig

from ..registries import Registry, password


def walk(subscriptions: list[Subscription], event_name: str, channel: str | None) -> bool:
    """Return whether one of the subscriptions wants the event, pattern by pattern."""
    return any(
        (not each.channels or channel in each.channels)
        and any(matches(pattern, event_name) for pattern in each.patterns)
        for each in subscriptions
    )


def wants(event_name: str, channel: str | None, *subscriptions: Subscription) -> bool:
    index = SubscriptionIndex()
    for subscription in subscriptions:
        index.add("alice", subscription)
    found = "alice" in index.wanting(event_name, channel)
    assert found == walk(list(subscriptions), event_name, channel)
    return found


def test_a_subscription_names_patterns_and_channels() -> None:
    anywhere = Subscription("1", ("chat.*", "wiki.page.created"), frozenset())
    assert wants("chat.message", None, anywhere)
    assert wants("chat.message", "general", anywhere)
    assert wants("chat.message.edited", None, anywhere)
    assert wants("wiki.page.created", None, anywhere)
    assert not wants("wiki.page.removed", None, anywhere)
    assert not wants("chats.message", None, anywhere)
    general = Subscription("2", ("*",), frozenset({"general"}))
    assert wants("chat.message", "general", general)
    assert not wants("chat.message", "other", general)
    assert not wants("chat.message", None, general), "an event that came through no channel"


def test_an_agent_wants_what_one_of_its_subscriptions_wants() -> None:
    chats, pages = Subscription("1", ("chat.*",), frozenset()), Subscription("2", ("wiki.*",), frozenset({"docs"}))
    assert wants("chat.message", None, chats, pages)
    assert wants("wiki.page.created", "docs", chats, pages)
    assert not wants("wiki.page.created", "general", chats, pages)


PARTS = st.sampled_from(["a", "b", "ab"])
NAMES = st.lists(PARTS, min_size=2, max_size=4).map(".".join)
PATTERNS = st.one_of(
    st.just("*"), NAMES, st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: f"{'.'.join(parts)}.*")
)
CHANNELS = st.sampled_from(["c", "d"])
SUBSCRIBING = st.tuples(
    st.sampled_from(["x", "y", "z"]), st.lists(PATTERNS, min_size=1, max_size=4), st.frozensets(CHANNELS)
)


class Noting(deque[Any]):
    """The events of one inbox, which notes when the inbox gets one."""

    def __init__(self, agent_id: str, order: list[str]) -> None:
        super().__init__()
        self._agent_id, self._order = agent_id, order

    def append(self, item: Any) -> None:
        self._order.append(self._agent_id)
        super().append(item)


@dataclass
class Walked:
    """The agents in the order of their registration, with what they subscribe to."""

    agents: dict[str, list[Subscription]] = field(default_factory=lambda: {"y": [], "z": [], "x": []})

    def readers(self, event_name: str, channel: str | None, members: list[str]) -> list[str]:
        return [
            agent_id
            for agent_id in members
            if not self.agents[agent_id] or walk(self.agents[agent_id], event_name, channel)
        ]


@given(st.lists(SUBSCRIBING, max_size=8), st.sets(st.integers(0, 7)), NAMES, st.sampled_from([None, "c", "d"]))
def test_the_index_delivers_to_the_same_agents_as_a_walk_in_the_same_order(
    subscribing: list[tuple[str, list[str], frozenset[str]]], ended: set[int], name: str, channel: str | None
) -> None:
    registry, walked, order = Registry(), Walked(), list[str]()
    for agent_id in walked.agents:
        agent, _ = registry.register(agent_id, {})
        agent.inbox.events = Noting(agent_id, order)
    made: list[tuple[str, Subscription]] = []
    for agent_id, patterns, channels in subscribing:
        agent = registry.get(agent_id)
        assert agent is not None
        made.append((agent_id, registry.subscribe(agent, patterns, sorted(channels))))
        walked.agents[agent_id].append(made[-1][1])
    for number in ended & set(range(len(made))):
        agent_id, subscription = made[number]
        agent = registry.get(agent_id)
        assert agent is not None
        registry.unsubscribe(agent, subscription.subscription_id)
        walked.agents[agent_id].remove(subscription)
    members = list(walked.agents)
    if channel is not None:
        members = ["z", "x", "y"]
        for agent_id in members:
            registry.join(channel, agent_id)
    event = Event(name, "agent:sender", "agent:broadcast" if channel is None else f"channel:{channel}")
    assert event.destination is not None
    assert registry.deliver(event, event.destination).reached == len(walked.readers(name, channel, members))
    assert order == walked.readers(name, channel, members)


def test_an_agent_that_leaves_or_comes_back_keeps_the_index_true() -> None:
    registry = Registry()
    alice, secret = registry.register("alice", {})
    subscription = registry.subscribe(alice, ["chat.*"], [])
    registry.subscribe(alice, ["chat.*", "*"], ["general"])
    back, _ = registry.register("alice", {}, secret=secret)
    assert registry.send("agent:alice").reached == 1
    registry.unsubscribe(back, subscription.subscription_id)
    assert registry.send("agent:alice").reached == 0
    registry.unregister("alice")
    assert (registry._subscribed.size, registry._subscribed._agents) == (0, {})
    registry.register("alice", {})
    assert registry.send("agent:alice").reached == 1, "a new agent of that id has no subscriptions"


def test_an_unknown_subscription_is_refused_by_name() -> None:
    registry = Registry()
    alice, _ = registry.register("alice", {})
    with pytest.raises(Refusal, match="agent 'alice' has no subscription 'x'") as caught:
        registry.unsubscribe(alice, "x")
    assert caught.value.code == "not_found"


# -- bounds


@pytest.mark.parametrize(
    ("limits", "patterns", "channels", "named"),
    [
        ({"subscriptions": 1}, ["a.b"], [], "at most 1 subscriptions"),
        ({"patterns": 4}, ["a.b", "a.c"], ["c", "d"], "at most 4 patterns in its subscriptions"),
        (
            {"all_patterns": 4},
            ["a.b", "a.c"],
            ["c", "d"],
            "have 1 patterns in their subscriptions, and there is no room",
        ),
        ({}, ["a.b"] * 100_000, [], "at most 1000 patterns"),
        ({}, ["a.*"], [f"c{number}" for number in range(1001)], "at most 1000 patterns"),
    ],
)
def test_subscriptions_are_bounded(
    limits: dict[str, Any], patterns: list[str], channels: list[str], named: str
) -> None:
    registry = Registry(**limits)
    alice, _ = registry.register("alice", {})
    first = registry.subscribe(alice, ["chat.*"], [])
    with pytest.raises(Refusal, match=named) as caught:
        registry.subscribe(alice, patterns, channels)
    assert caught.value.code == "overloaded"
    assert (list(alice.subscriptions), registry._subscribed.size) == ([first.subscription_id], 1)
    registry.unsubscribe(alice)
    registry.subscribe(alice, ["chat.*"], [])


def test_guests_cannot_use_up_the_patterns_of_all_agents() -> None:
    registry = Registry({"friends": GroupConfig("friends", password_hash=password("sesame"))}, all_patterns=4)
    guest, _ = registry.register("guest", {})
    friend, _ = registry.register("friend", {}, password_hash=password("sesame"))
    registry.subscribe(guest, ["a.b", "a.c"], [])
    with pytest.raises(Refusal, match=r"agents\.all_patterns"):
        registry.subscribe(guest, ["a.d"], [])
    registry.subscribe(friend, ["a.b", "a.c"], [])


@pytest.mark.parametrize(
    ("patterns", "channels"), [(["Not A Pattern"], []), (["a.*"], ["x" * 200]), (["a.*"], ["a b"])]
)
def test_a_pattern_and_a_channel_must_follow_the_grammar(patterns: list[str], channels: list[str]) -> None:
    registry = Registry()
    alice, _ = registry.register("alice", {})
    with pytest.raises(InvalidEvent):
        registry.subscribe(alice, patterns, channels)
    assert (alice.subscriptions, registry._subscribed.size) == ({}, 0)
