"""One agent: which events it wants, and an inbox that knows its size."""

from __future__ import annotations

from modvisor.ipc.event import Event
from modvisor.supervisor.agents.agent import Agent, Inbox, Subscription


def agent(*subscriptions: Subscription) -> Agent:
    made = Agent("alice", {}, None, b"", 0.0, 0.0, 0.0)
    made.subscriptions = {each.subscription_id: each for each in subscriptions}
    return made


def test_a_subscription_names_patterns_and_channels() -> None:
    anywhere = Subscription("1", ("chat.*", "wiki.page.created"), frozenset())
    assert anywhere.wants("chat.message", None)
    assert anywhere.wants("chat.message", "general")
    assert anywhere.wants("wiki.page.created", None)
    assert not anywhere.wants("wiki.page.removed", None)
    general = Subscription("2", ("*",), frozenset({"general"}))
    assert general.wants("chat.message", "general")
    assert not general.wants("chat.message", "other")
    assert not general.wants("chat.message", None), "an event that came through no channel"


def test_an_agent_wants_all_or_what_one_of_its_subscriptions_wants() -> None:
    chats, pages = Subscription("1", ("chat.*",), frozenset()), Subscription("2", ("wiki.*",), frozenset({"docs"}))
    assert agent().wants("any.thing", None)
    assert agent(chats, pages).wants("chat.message", None)
    assert agent(chats, pages).wants("wiki.page.created", "docs")
    assert not agent(chats, pages).wants("wiki.page.created", "general")


def test_an_inbox_is_first_in_first_out_and_counts_bytes() -> None:
    inbox, events = Inbox(), [Event("chat.message", payload={"i": index}) for index in range(3)]
    for size, event in enumerate(events, start=10):
        inbox.append(event, size)
    assert (len(inbox), inbox.size) == (3, 33)
    assert [inbox.popleft() for _ in range(3)] == events
    assert (len(inbox), inbox.size) == (0, 0)
