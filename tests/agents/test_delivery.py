"""Channels that come and go, polls, inboxes with two limits, and which agent may see an event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modvisor.supervisor import Event
from modvisor.supervisor.agents import Refusal, delivery
from modvisor.supervisor.config import parse_config
from tests.conftest import until

from .registries import Registry

pytestmark = pytest.mark.anyio


# -- channels


def test_a_channel_goes_with_its_last_member() -> None:
    registry = Registry()
    for agent_id in ("alice", "bob"):
        registry.register(agent_id, {})
        registry.join("general", agent_id)
    registry.leave("general", "alice")
    assert registry.channels() == ["general"]
    registry.leave("general", "alice")  # not being a member is fine
    registry.leave("general", "bob")
    assert (registry.channels(), registry.channel_members("general")) == ([], None)
    with pytest.raises(Refusal) as caught:
        registry.leave("general", "bob")
    assert caught.value.code == "no_such_channel"
    registry.join("general", "bob")
    registry.join("other", "bob")
    registry.unregister("bob")
    assert registry.channels() == []
    assert {data["channel"] for kind, data in registry.changes[-3:] if kind == "leave"} == {"general", "other"}


def test_one_agent_cannot_use_up_the_channels() -> None:
    registry = Registry(channels_per_agent=3, max_channels=4)
    for agent_id in ("alice", "bob"):
        registry.register(agent_id, {})

    def refused(channel: str, agent_id: str) -> str | None:
        try:
            registry.join(channel, agent_id)
        except Refusal as refusal:
            return f"{refusal.code}: {refusal}"
        return None

    for number in range(3):
        assert refused(f"c{number}", "alice") is None
    assert str(refused("c3", "alice")).startswith("overloaded: agent 'alice' is in 3 channels")
    assert refused("c0", "alice") is None, "it is in that one already"
    assert refused("c3", "bob") is None
    assert str(refused("c4", "bob")).startswith("overloaded: the network has 4 channels")
    registry.leave("c0", "alice")
    assert refused("c4", "bob") is None, "a channel became free"
    registry.remove_channel("c1")
    assert refused("c4", "alice") is None
    assert refused("c5", "alice") is None, "so did two of the agent's places"


def test_after_many_joins_and_leaves_nothing_is_left() -> None:
    registry = Registry(max_channels=1000)
    registry.register("alice", {})
    for number in range(1001):
        registry.join(f"c{number}", "alice")
        registry.leave(f"c{number}", "alice")
    assert (registry.channels(), registry._memberships) == ([], {})


def test_members_the_journal_knows_no_agent_of_do_not_keep_a_channel() -> None:
    old = Registry()
    alice, _ = old.register("alice", {})
    registry = Registry()
    registry.restore([alice], {"general": ["ghost", "alice"], "empty": ["ghost"]})
    assert registry.channels() == ["general"]
    assert registry.channel_members("general") == ["alice"]
    registry.leave("general", "alice")
    assert registry.channels() == []


# -- a session that was taken over


async def test_a_poll_with_the_old_secret_ends_and_takes_nothing() -> None:
    registry = Registry()
    old, _ = registry.register("alice", {})
    polling = asyncio.create_task(registry.poll(old, wait=60))
    await until(lambda: old.polling > 0)
    new, _ = registry.register("alice", {}, retake=True)
    registry.send("agent:alice", "for the new session")
    assert await asyncio.wait_for(polling, 5) == []
    assert await registry.texts("alice") == ["for the new session"]
    assert (old.polling, new.polling) == (0, 0)


async def test_an_event_that_wakes_a_poll_just_before_the_id_is_taken_over_is_not_lost() -> None:
    registry = Registry()
    old, _ = registry.register("alice", {})
    polling = asyncio.create_task(registry.poll(old, wait=60))
    await until(lambda: old.polling > 0)
    registry.send("agent:alice", "hello")
    registry.register("alice", {}, retake=True)  # before the poll had its turn
    assert await asyncio.wait_for(polling, 5) == []
    assert await registry.texts("alice") == ["hello"]


# -- inboxes


@pytest.mark.parametrize(
    ("policy", "kept"), [("drop_oldest", ["6" * 400, "7" * 400]), ("reject", ["0" * 400, "1" * 400])]
)
async def test_an_inbox_is_full_by_size_too(policy: str, kept: list[str]) -> None:
    registry = Registry(inbox_bytes=1500, inbox_policy=policy)
    bob, _ = registry.register("bob", {})
    refused: list[str] = []
    for number in range(8):
        try:
            registry.send("agent:bob", str(number) * 400)
        except Refusal as refusal:
            refused.append(f"{refusal.code}: {refusal}")
    assert refused == ["inbox_full: the inbox of agent 'bob' is full (1000 events, 1500 bytes)"] * (
        6 if policy == "reject" else 0
    )
    assert bob.dropped == 6
    assert 800 < bob.inbox.size <= 1500
    assert await registry.texts("bob") == kept
    assert bob.inbox.size == 0
    registry.send("agent:bob", "again")
    assert await registry.texts("bob") == ["again"]


async def test_a_large_event_makes_room_for_itself() -> None:
    registry = Registry(inbox_bytes=2000)
    bob, _ = registry.register("bob", {})
    for number in range(5):
        registry.send("agent:bob", number)
    registry.send("agent:bob", "x" * 1700)
    assert (await registry.texts("bob"))[-1] == "x" * 1700
    assert bob.dropped > 0


@pytest.mark.parametrize("policy", ["drop_oldest", "reject"])
async def test_an_event_larger_than_an_inbox_is_refused_and_drives_nothing_out(policy: str) -> None:
    registry = Registry(inbox_bytes=2000, inbox_policy=policy)
    for agent_id in ("bob", "carol"):
        registry.register(agent_id, {})
    registry.send("agent:bob", "small")
    with pytest.raises(Refusal) as caught:
        registry.send("agent:bob", "x" * 2001)
    assert caught.value.code == "inbox_full"
    delivered = registry.send("agent:broadcast", "x" * 2001)
    assert (delivered.reached, delivered.full) == (0, 2)
    assert await registry.texts("bob") == ["small"]


async def test_an_event_is_measured_once_for_all_its_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, packed = Registry(), []
    for number in range(50):
        registry.register(f"agent{number}", {})
    monkeypatch.setattr(delivery, "pack", lambda value: packed.append(value) or b"x" * 100)
    assert registry.send("agent:broadcast").reached == 50
    assert len(packed) == 1
    assert {agent.inbox.size for agent in registry} == {100}


async def test_an_event_no_mod_could_get_is_measured_too() -> None:
    registry = Registry(inbox_bytes=2000)
    registry.register("bob", {})
    registry.send("agent:bob", "\ud800")
    assert await registry.texts("bob") == ["\ud800"]
    with pytest.raises(Refusal):
        registry.send("agent:bob", "\ud800" * 2000)


def test_the_file_tells_the_size_of_inboxes() -> None:
    def inbox_bytes(**keys: Any) -> int:
        return parse_config({"network": {"name": "test"}, **keys}, base_dir=".").agents.inbox_bytes

    assert inbox_bytes() == 16 * 1024 * 1024
    assert inbox_bytes(agents={"inbox_bytes": "2MB"}) == 2_000_000


# -- who may see it


@pytest.mark.parametrize(
    ("allowed", "readers"),
    [
        (None, []),
        ([], []),
        (["alice"], ["alice"]),
        (["agent:alice"], ["alice"]),
        (["agent:alice", "bob"], ["alice", "bob"]),
        (["lic"], []),
    ],
)
async def test_restricted_events_reach_those_allowed_and_nobody_else(
    allowed: list[str] | None, readers: list[str]
) -> None:
    registry = Registry()
    for agent_id in ("alice", "bob"):
        registry.register(agent_id, {})
    fields: dict[str, Any] = {"visibility": "restricted", "allowed_agents": allowed}
    assert registry.send("agent:broadcast", **fields).reached == len(readers)
    assert [agent_id for agent_id in ("alice", "bob") if await registry.texts(agent_id)] == readers
    for agent_id in ("alice", "bob"):
        assert registry.send(f"agent:{agent_id}", **fields).reached == (agent_id in readers)


async def test_the_list_counts_for_restricted_events_only() -> None:
    registry = Registry()
    registry.register("bob", {})
    assert registry.send("agent:bob", allowed_agents=["alice"]).reached == 1


# -- where it goes


def test_an_unknown_destination_is_refused_by_name() -> None:
    registry = Registry()
    for to, code in (
        ("agent:bob", "no_such_agent"), ("channel:general", "no_such_channel"), ("group:admins", "no_such_group"),
    ):  # fmt: skip
        with pytest.raises(Refusal) as caught:
            registry.send(to)
        assert caught.value.code == code
    assert registry.send("agent:broadcast").reached == 0


async def test_a_sender_does_not_get_its_own_event_unless_it_names_itself() -> None:
    registry = Registry()
    for agent_id in ("sender", "bob"):
        registry.register(agent_id, {})
        registry.join("general", agent_id)
    assert registry.send("channel:general", "channel").reached == 1
    assert registry.send("agent:broadcast", "all").reached == 1
    assert registry.send("agent:sender", "note to myself").reached == 1
    assert await registry.texts("sender") == ["note to myself"]
    assert await registry.texts("bob") == ["channel", "all"]


async def test_an_event_for_mods_only_reaches_no_inbox() -> None:
    registry = Registry()
    registry.register("bob", {})
    for to in ("agent:bob", "agent:broadcast", "agent:nobody", "channel:nowhere"):
        assert registry.send(to, visibility="mod_only").reached == 0
    assert await registry.texts("bob") == []


async def test_receivers_do_not_share_an_event() -> None:
    registry = Registry()
    agents = [registry.register(agent_id, {})[0] for agent_id in ("alice", "bob")]
    assert registry.send("agent:broadcast", ["a"]).reached == 2
    [mine], [theirs] = [await registry.poll(agent) for agent in agents]
    mine.payload["text"].append("b")
    assert theirs.payload["text"] == ["a"]


async def test_what_the_network_tells_an_agent_passes_its_subscriptions_by() -> None:
    registry = Registry()
    bob, _ = registry.register("bob", {})
    registry.subscribe(bob, ["chat.*"], [])
    assert registry.tell("bob", Event("system.notification.answer", "system:system", payload={"text": "late"}))
    assert not registry.tell("carol", Event("system.notification.answer", "system:system"))
    assert await registry.texts("bob") == ["late"]


# -- polls


async def test_a_poll_takes_the_oldest_events_up_to_its_limit() -> None:
    registry = Registry()
    bob, _ = registry.register("bob", {})
    for number in range(5):
        registry.send("agent:bob", number)
    assert [event.payload["text"] for event in await registry.poll(bob, limit=2)] == [0, 1]
    assert await registry.poll(bob, limit=0) == []
    assert await registry.texts("bob") == [2, 3, 4]


async def test_a_poll_that_waits_is_woken_by_the_first_event() -> None:
    registry = Registry()
    bob, _ = registry.register("bob", {})
    assert await registry.poll(bob, wait=0.001) == [], "its time was up"
    polling = asyncio.create_task(registry.poll(bob, wait=60))
    await until(lambda: bob.polling > 0)
    registry.time = 5.0
    registry.send("agent:broadcast", "hello")
    assert [event.payload["text"] for event in await asyncio.wait_for(polling, 5)] == ["hello"]
    assert (bob.polling, bob.last_seen) == (0, 5.0), "the end of a poll is a sign of life, too"


async def test_an_agent_that_leaves_ends_its_polls() -> None:
    registry = Registry()
    bob, _ = registry.register("bob", {})
    polling = asyncio.create_task(registry.poll(bob, wait=60))
    await until(lambda: bob.polling > 0)
    registry.unregister("bob")
    assert await asyncio.wait_for(polling, 5) == []
