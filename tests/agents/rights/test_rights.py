"""What a group says of its agents: what they send, what reaches them, how much, and whom they know."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.ipc.topic import matches
from modvisor.supervisor.agents import Refusal
from modvisor.supervisor.agents.rights import rights as room
from modvisor.supervisor.agents.rights.pace import MAX_ADDRESSES, PaceOfAddresses
from modvisor.supervisor.agents.rights.rights import Patterns, Rights
from modvisor.supervisor.config import AgentsConfig, GroupConfig, QuotaConfig
from modvisor.supervisor.config.sections.agents import GuestsConfig

from ..registries import Registry

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

PARTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)
NAMES = st.lists(st.sampled_from("abc"), min_size=2, max_size=4).map(".".join)
PATTERNS = st.one_of(NAMES, PARTS.map(lambda parts: ".".join([*parts, "*"])), st.just("*"))
LISTS = st.lists(PATTERNS, max_size=3)


def quota(**more: Any) -> QuotaConfig:
    return QuotaConfig(**more)


# -- patterns


@given(LISTS, NAMES)
def test_a_name_is_in_patterns_if_one_of_them_matches(patterns: list[str], name: str) -> None:
    made = Patterns(patterns)
    assert [name in made for _ in range(2)] == [any(matches(each, name) for each in patterns)] * 2


@given(LISTS, LISTS, NAMES)
def test_what_is_not_beyond_is_held_by_the_others(mine: list[str], theirs: list[str], name: str) -> None:
    ours, others = Patterns(mine), Patterns(theirs)
    if not ours.beyond(others) and name in ours:
        assert name in others
    assert ours.beyond(ours) == []
    assert ours.beyond(Patterns(["*"])) == []


@given(LISTS, PATTERNS, NAMES)
def test_patterns_without_overlap_share_no_name(mine: list[str], pattern: str, name: str) -> None:
    if not Patterns(mine).overlap(pattern):
        assert not (matches(pattern, name) and any(matches(each, name) for each in mine))


def test_the_names_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_MOST_NAMES", 10)
    patterns, registry = Patterns(["a.*"]), Registry({"g": GroupConfig("g", receive=("a.*",))})
    for number in range(50):
        assert (f"a.x{number}" in patterns, f"b.x{number}" in patterns) == (True, False)
        assert not registry._rules.deaf(f"a.x{number}")
    assert (len(patterns._known) <= 10, len(registry._rules._deaf) <= 10) == (True, True)


def test_beyond_is_told_in_words() -> None:
    most = Rights(AgentsConfig(), GroupConfig("a", frozenset({"mods"})))
    least = Rights(AgentsConfig(), GroupConfig("b", frozenset({"mods", "agents"}), send=("chat.*",), receive=("x.y",)))
    assert most.beyond(least) == ["send *", "receive *"]
    assert least.beyond(most) == ["agents"]


@pytest.mark.parametrize(
    ("mine", "theirs", "more"),
    [
        (("boss*",), (), ["register boss*"]),
        (("boss-1", "boss-*"), ("BOSS*",), []),
        (("*",), ("boss*",), ["register *"]),
        (("boss*",), ("boss-1", "boss-*"), ["register boss*"]),
    ],
)
def test_ids_that_others_may_not_register_are_beyond(
    mine: tuple[str, ...], theirs: tuple[str, ...], more: list[str]
) -> None:
    ours, others = (Rights(AgentsConfig(), GroupConfig("g", may_register=each)) for each in (mine, theirs))
    assert ours.beyond(others) == more
    assert ours.beyond(ours) == []


# -- what is sent


def sent(registry: Registry, agent_id: str, name: str, **fields: Any) -> str | None:
    """Return the code with which an event is refused at the door, None if it is not."""
    agent = registry.get(agent_id)
    assert agent is not None
    if not agent.rights.is_gated:
        return None
    try:
        registry.check_sending(agent, Event(name, agent_id, **fields))
    except Refusal as refusal:
        return str(refusal.code)
    return None


def test_an_agent_that_may_send_everything_is_not_gated() -> None:
    registry = Registry({"free": GroupConfig("free", receive=("a.*",), quota=quota(inbox_size=1, subscriptions=1))})
    agent, _ = registry.register("alice", {}, group="free")
    assert not agent.rights.is_gated
    assert not registry.register("bob", {})[0].rights.is_gated


def test_an_agent_sends_what_its_group_may_send_and_commands() -> None:
    registry = Registry({"chatters": GroupConfig("chatters", send=("chat.*", "wiki.page.get"))})
    registry.register("alice", {}, group="chatters")
    outcomes = {name: sent(registry, "alice", name) for name in ("chat.a.b", "wiki.page.get", "wiki.page.put")}
    assert outcomes == {"chat.a.b": None, "wiki.page.get": None, "wiki.page.put": "forbidden"}
    assert sent(registry, "alice", "system.list_agents") is None


def test_rights_change_with_the_group_and_with_the_file() -> None:
    groups = {"chatters": GroupConfig("chatters", send=("chat.*",)), "free": GroupConfig("free")}
    registry = Registry(groups)
    _, secret = registry.register("alice", {}, group="chatters")
    assert sent(registry, "alice", "wiki.page.put") == "forbidden"
    registry.use_groups({**groups, "chatters": GroupConfig("chatters", send=("wiki.*",))}, AgentsConfig())
    assert (sent(registry, "alice", "wiki.page.put"), sent(registry, "alice", "chat.x")) == (None, "forbidden")
    registry.register("alice", {}, group="free", secret=secret)
    assert sent(registry, "alice", "chat.x") is None


def test_agents_in_no_group_have_the_rights_of_guests_and_those_of_a_group_that_is_gone_too() -> None:
    config = AgentsConfig(guests=GuestsConfig(send=("chat.*",)))
    registry = Registry({"free": GroupConfig("free")}, guests=config.guests)
    registry.register("alice", {}, trusted=True)
    registry.register("bob", {}, group="free")
    assert (sent(registry, "alice", "wiki.x"), sent(registry, "bob", "wiki.x")) == ("forbidden", None)
    registry.use_groups({}, config)
    assert sent(registry, "bob", "wiki.x") == "forbidden"


# -- quotas


@given(st.lists(st.floats(0, 2), max_size=60), st.sampled_from([0.5, 3.0, 10.0]))
def test_no_window_holds_more_events_than_the_quota_and_a_rest(pauses: list[float], rate: float) -> None:
    registry = Registry({"g": GroupConfig("g", quota=quota(events_per_second=rate))})
    registry.register("alice", {}, group="g")
    taken: list[float] = []
    for pause in pauses:
        registry.time += pause
        if sent(registry, "alice", "a.b") is None:
            taken.append(registry.time)
    for first, since in enumerate(taken):
        for count, until in enumerate(taken[first:], 1):
            assert count <= rate * (until - since) + max(1.0, rate) + 1e-6


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3000)), max_size=40))
def test_no_window_holds_more_bytes_than_the_quota_a_rest_and_one_large_event(given: list[tuple[float, int]]) -> None:
    registry = Registry({"g": GroupConfig("g", quota=quota(bytes_per_second=2000))})
    registry.register("alice", {}, group="g")
    taken: list[tuple[float, int]] = []
    for pause, size in given:
        registry.time += pause
        if sent(registry, "alice", "a.b", payload={"x": "x" * size}) is None:
            taken.append((registry.time, size))
    for first, (since, _) in enumerate(taken):
        total = 0
        for until, size in taken[first:]:
            total += size
            assert total <= 2000 * (until - since) + 2000 + 3300


def test_who_waits_as_long_as_it_is_told_is_taken() -> None:
    registry = Registry({"g": GroupConfig("g", quota=quota(events_per_second=2))})
    agent, _ = registry.register("alice", {}, group="g")
    assert [sent(registry, "alice", "a.b") for _ in range(3)] == [None, None, "too_many"]
    assert agent.rights.is_gated
    with pytest.raises(Refusal, match=r"more than its quota \(2 events per second\); try again in 1 s") as caught:
        registry.check_sending(agent, Event("system.heartbeat", "alice"))
    registry.time += caught.value.details["retry_after"]
    assert sent(registry, "alice", "a.b") is None


def test_a_quota_goes_on_with_the_agent_that_takes_its_id_over() -> None:
    registry = Registry({"g": GroupConfig("g", quota=quota(events_per_second=1))})
    _, secret = registry.register("alice", {}, group="g")
    assert sent(registry, "alice", "a.b") is None
    registry.register("alice", {}, group="g", secret=secret)
    assert sent(registry, "alice", "a.b") == "too_many"


def test_guests_of_one_address_share_their_quota() -> None:
    registry = Registry(guests=GuestsConfig(quota=quota(events_per_second=1)))
    for agent_id, address in (("a", "192.0.2.1"), ("b", "192.0.2.1"), ("c", "192.0.2.2"), ("d", None), ("e", None)):
        registry.register(agent_id, {}, address=address)
    assert [sent(registry, agent_id, "a.b") for agent_id in "abcde"] == [None, "too_many", None, None, None]
    registry.unregister("a")
    registry.unregister("b")
    registry.register("f", {}, address="192.0.2.1")
    assert sent(registry, "f", "a.b") == "too_many", "a new guest is no new quota"


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    paces = PaceOfAddresses()
    for number in range(MAX_ADDRESSES + 5):
        paces.at(str(number))
    assert len(paces._of) == MAX_ADDRESSES


def test_the_inbox_and_the_subscriptions_of_a_group_have_limits_of_their_own() -> None:
    groups = {
        "small": GroupConfig("small", quota=quota(inbox_size=2, subscriptions=1)),
        "large": GroupConfig("large", quota=quota(inbox_size=9)),
    }
    registry = Registry(groups, inbox_size=4)
    for agent_id, group in (("s", "small"), ("l", "large"), ("u", None)):
        registry.register(agent_id, {}, group=group)
    for number in range(12):
        registry.send("agent:broadcast", number)
    assert [len(registry._agents[agent_id].inbox) for agent_id in "slu"] == [2, 9, 4]
    registry.subscribe(registry._agents["s"], ["chat.*"], [])
    with pytest.raises(Refusal, match="at most 1 subscriptions"):
        registry.subscribe(registry._agents["s"], ["chat.*"], [])


# -- what is received


async def test_an_event_reaches_only_agents_that_may_receive_it() -> None:
    groups = {"deaf": GroupConfig("deaf", receive=()), "chat": GroupConfig("chat", receive=("chat.*",))}
    registry = Registry(groups)
    for agent_id, group in (("d", "deaf"), ("c", "chat"), ("u", None)):
        registry.register(agent_id, {}, group=group)
    assert registry.send("agent:broadcast", "all").reached == 2
    assert (registry.send("agent:d", "one").reached, registry.send("agent:c", "two").reached) == (0, 1)
    news = Event("news.item", "agent:sender", "agent:broadcast", payload={"text": "news"})
    assert news.destination is not None
    assert registry.deliver(news, news.destination).reached == 1
    told = Event("system.agent_kicked", "system:system", "agent:broadcast", payload={"text": "told"})
    assert told.destination is not None
    assert registry.deliver(told, told.destination).reached == 3, "what the network tells reaches everybody"
    assert [await registry.texts(agent_id) for agent_id in "dcu"] == [
        ["told"],
        ["all", "two", "told"],
        ["all", "news", "told"],
    ]


def test_a_subscription_to_what_never_comes_is_refused() -> None:
    registry = Registry({"chat": GroupConfig("chat", receive=("chat.room.*",))})
    agent, _ = registry.register("alice", {}, group="chat")
    registry.subscribe(agent, ["chat.*", "chat.room.said", "*", "system.agent_kicked"], [])
    with pytest.raises(Refusal, match=r"no event that matches 'wiki\.\*' reaches agent 'alice'") as caught:
        registry.subscribe(agent, ["chat.*", "wiki.*"], [])
    assert (caught.value.code, len(agent.subscriptions)) == ("forbidden", 1)
