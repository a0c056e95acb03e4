"""What waits for guests is bounded for all of them together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config import GroupConfig

from .registries import Registry, password

pytestmark = pytest.mark.anyio

FRIENDS = {"friends": GroupConfig("friends", password_hash=password("sesame"))}
SESAME = {"group": "friends", "password_hash": password("sesame")}
ADDRESS = {"address": "192.0.2.1"}


def registry_of(guests: int, most: int) -> Registry:
    registry = Registry(FRIENDS, guest_inbox_bytes=most)
    for number in range(guests):
        registry.register(f"guest{number}", {}, **ADDRESS)
    registry.register("member", {}, **SESAME, **ADDRESS)  # type: ignore[arg-type]
    return registry


def waiting(registry: Registry) -> int:
    """Return the bytes of what waits for guests, each event once."""
    return sum(
        {
            id(item[0]): item[1]
            for agent in registry
            if agent.is_guest
            for item in agent.inbox.events
            if item is not None
        }.values()
    )


async def test_guests_cannot_fill_the_memory_however_many_they_are() -> None:
    registry = registry_of(50, most=100_000)
    for _ in range(20):
        for number in range(50):
            registry.send(f"guest{number}", "x" * 1000)
            assert waiting(registry) <= 100_000
    assert waiting(registry) > 90_000


async def test_the_guest_that_holds_the_most_loses_its_oldest_events_and_is_told() -> None:
    registry = registry_of(2, most=20_000)
    for number in range(5):
        registry.send("guest1", f"{number}")
    for number in range(60):
        registry.send("guest0", f"{number} " + "x" * 1000)
    greedy, modest = registry.get("guest0"), registry.get("guest1")
    assert greedy is not None
    assert modest is not None
    assert (modest.dropped, registry.take_losses(modest)) == (0, None)
    losses = registry.take_losses(greedy)
    assert losses is not None
    assert losses.to_dict() == {"events": greedy.dropped, "sources": {"agent:sender": greedy.dropped}}
    kept = [int(text.split()[0]) for text in await registry.texts("guest0")]
    assert kept == list(range(greedy.dropped, 60))
    assert await registry.texts("guest1") == [f"{number}" for number in range(5)]


async def test_what_waits_for_a_member_is_not_counted() -> None:
    registry = registry_of(1, most=20_000)
    for number in range(100):
        registry.send("member", f"{number} " + "x" * 1000)
    assert len(await registry.texts("member")) == 100


async def test_a_broadcast_is_one_event_however_many_guests_wait_for_it() -> None:
    registry = registry_of(50, most=20_000)
    for _ in range(10):
        assert registry.send("agent:broadcast", "x" * 1000).reached == 51
    assert not any(agent.dropped for agent in registry)
    for _ in range(20):
        registry.send("agent:broadcast", "x" * 1000)
    assert waiting(registry) <= 20_000
    assert {agent.dropped > 0 for agent in registry if agent.is_guest} == {True}
    assert len(await registry.texts("member")) == 30


async def test_a_full_mail_is_bounded_as_well_where_inboxes_refuse() -> None:
    registry = Registry(guest_inbox_bytes=20_000, inbox_policy="reject")
    registry.register("guest", {}, **ADDRESS)
    for number in range(60):
        registry.send("guest", f"{number} " + "x" * 1000)
    assert waiting(registry) <= 20_000
    assert (await registry.texts("guest"))[-1].startswith("59 ")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "broadcast", "poll", "leave", "come", "join", "retake"]), st.integers(0, 3)
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([3_000, 1_000_000]))
async def test_the_count_is_what_waits_whatever_happens(steps: list[tuple[str, int]], most: int) -> None:
    registry = registry_of(0, most)
    secrets: dict[str, str] = {}
    for step, number in steps:
        name = f"guest{number}"
        agent = registry.get(name)
        if step in ("come", "retake", "join"):
            proof = {"secret": secrets.get(name), **(SESAME if step == "join" else {})}
            _, secrets[name] = registry.register(name, {}, **proof, **ADDRESS)  # type: ignore[arg-type]
        elif step == "broadcast":
            registry.send("agent:broadcast", "x" * 100)
        elif agent is not None and step == "send":
            registry.send(name, "x" * 200)
        elif agent is not None and step == "poll":
            await registry.poll(agent, limit=2)
        elif step == "leave":
            registry.unregister(name)
        assert registry._guests.mail.size == waiting(registry) <= most
    for number in range(4):
        registry.unregister(f"guest{number}")
    assert registry._guests.mail.size == 0
    assert not registry._guests.mail._inboxes
