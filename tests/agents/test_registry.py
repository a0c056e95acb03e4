"""Who is registered: ids, secrets, groups, permissions, subscriptions; what the journal is told."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.ipc.errors import InvalidEvent
from modvisor.ipc.messages import unpack
from modvisor.supervisor.agents import Refusal
from modvisor.supervisor.agents.rights.hashes import hash_of
from modvisor.supervisor.config import GroupConfig

from .registries import Registry, password

GROUPS = {
    "admins": GroupConfig("admins", frozenset({"mods", "agents"}), password("sesame")),
    "readers": GroupConfig("readers", frozenset(), password("books")),
    "guests": GroupConfig("guests"),
    "unguarded": GroupConfig("unguarded", frozenset({"mods"})),
}


def refused(registry: Registry, agent_id: str, **how: Any) -> str | None:
    """Return the code of the refusal to register, None if the agent was registered."""
    before = (registry.get(agent_id), len(registry.changes))
    try:
        registry.register(agent_id, {}, **how)
    except Refusal as refusal:
        assert (registry.get(agent_id), len(registry.changes)) == before, "a refusal changes nothing"
        return str(refusal.code)
    return None


@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        ({"profile": {"name": "\ud800"}}, "metadata: profile.name: text that is not valid Unicode"),
        ({"count": 1 << 70}, "metadata: count: integer"),
        ({"tags": {1, 2}}, "metadata: tags: cannot carry a"),
        ({(1, 2): 3}, "metadata: "),  # packs, and would not be read back
        ([1], "metadata: expected a mapping, got list"),
    ],
)
def test_metadata_that_cannot_be_kept_takes_nothing(metadata: Any, place: str) -> None:
    registry = Registry()
    with pytest.raises(Refusal) as caught:
        registry.register("alice", metadata)
    assert (caught.value.code, str(caught.value).startswith(place)) == ("bad_input", True), caught.value
    assert (registry.get("alice"), registry.changes) == (None, [])
    _, secret = registry.register("alice", {"name": "Alice"})
    with pytest.raises(Refusal):
        registry.register("alice", metadata, secret=secret)
    assert registry.authenticate("alice", secret) is not None, "the live agent goes on"


def test_metadata_is_kept_as_it_was_registered() -> None:
    registry = Registry()
    metadata = {"tags": ["a"]}
    agent, _ = registry.register("alice", metadata)
    metadata["tags"].append("b")
    assert agent.metadata == {"tags": ["a"]}
    [(kind, data)] = registry.changes
    assert (kind, unpack(data["metadata"])) == ("register", {"tags": ["a"]})


@pytest.mark.parametrize("given", ["pässword", "пароль", "\ud800"])
def test_a_password_beyond_ascii_is_wrong_and_nothing_else(given: str) -> None:
    registry = Registry({"admins": GroupConfig("admins", frozenset({"mods"}), password("sesame"))})
    for group in (None, "admins"):
        with pytest.raises(Refusal) as caught:
            registry.register("alice", {}, group=group, password_hash=given)
        assert caught.value.code == "unauthenticated"
    registry.register("alice", {}, password_hash=password("sesame"))
    with pytest.raises(Refusal) as caught:
        registry.register("alice", {}, password_hash=given)
    assert caught.value.code == "unauthenticated"


# -- ids and secrets


def test_a_secret_is_known_to_its_agent_only() -> None:
    registry = Registry()
    alice, secret = registry.register("alice", {})
    assert registry.authenticate("alice", secret) is alice
    for agent_id, given in (
        ("alice", None),
        ("alice", ""),
        ("alice", secret + "x"),
        ("alice", "\ud800"),
        ("bob", secret),
    ):
        assert registry.authenticate(agent_id, given) is None
    assert alice.secret_hash == hash_of(secret)
    assert secret not in repr(registry.changes)


def test_a_live_id_is_taken_over_with_its_secret_or_its_groups_password() -> None:
    registry = Registry(GROUPS)
    _, secret = registry.register("alice", {}, password_hash=password("sesame"))
    assert refused(registry, "alice") == "id_taken"
    assert refused(registry, "alice", secret="wrong") == "id_taken"
    assert refused(registry, "alice", password_hash=password("books")) == "id_taken"
    agent, again = registry.register("alice", {}, secret=secret)
    assert (agent.group, again != secret) == ("admins", True), "it keeps its group and gets a new secret"
    assert registry.authenticate("alice", secret) is None
    assert refused(registry, "alice", password_hash=password("sesame")) is None
    assert refused(registry, "alice", trusted=True) is None


def test_an_agent_that_comes_back_keeps_its_inbox_and_subscriptions() -> None:
    registry = Registry()
    alice, secret = registry.register("alice", {})
    registry.subscribe(alice, ["chat.*"], [])
    registry.send("agent:alice", "hello")
    back, _ = registry.register("alice", {}, secret=secret)
    assert (len(back.inbox), list(back.subscriptions)) == (1, list(alice.subscriptions))


def test_the_number_of_agents_is_limited_and_a_live_id_needs_no_room() -> None:
    registry = Registry(max_agents=1)
    _, secret = registry.register("alice", {})
    assert refused(registry, "bob") == "overloaded"
    assert refused(registry, "alice", secret=secret) is None
    registry.unregister("alice")
    assert refused(registry, "bob") is None


# -- groups


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({}, "guests"),
        ({"group": "guests"}, "guests"),
        ({"group": "readers"}, "unauthenticated"),
        ({"group": "readers", "password_hash": password("wrong")}, "unauthenticated"),
        ({"group": "readers", "password_hash": password("BOOKS")}, "unauthenticated"),
        ({"group": "readers", "password_hash": password("books").upper()}, "readers"),
        ({"password_hash": password("books")}, "readers"),
        ({"password_hash": password("wrong")}, "unauthenticated"),
        ({"group": "unguarded"}, "forbidden"),
        ({"group": "unguarded", "trusted": True}, "unguarded"),
        ({"group": "admins", "trusted": True}, "admins"),
        ({"group": "nowhere", "trusted": True}, "no_such_group"),
        ({"group": "readers", "manages": frozenset({"agents"})}, "readers"),
        ({"group": "admins", "manages": frozenset({"agents"})}, "forbidden"),
        ({"group": "admins", "manages": frozenset({"agents", "mods"})}, "admins"),
    ],
)
def test_the_group_of_a_new_agent(how: dict[str, Any], outcome: str) -> None:
    registry = Registry(GROUPS, default_group="guests")
    code = refused(registry, "alice", **how)
    agent = registry.get("alice")
    assert (code if agent is None else agent.group) == outcome


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({}, "unauthenticated"),
        ({"group": "guests"}, "unauthenticated"),
        ({"password_hash": password("books")}, "readers"),
        ({"trusted": True}, None),
        ({"manages": frozenset({"agents"})}, None),
    ],
)
def test_a_network_may_require_a_password(how: dict[str, Any], outcome: str | None) -> None:
    registry = Registry(GROUPS, requires_password=True)
    code = refused(registry, "alice", **how)
    agent = registry.get("alice")
    assert (code if agent is None else agent.group) == outcome


def test_permissions_are_those_of_the_group_as_configured_now() -> None:
    registry = Registry(GROUPS)
    alice, _ = registry.register("alice", {}, group="admins", trusted=True)
    bob, _ = registry.register("bob", {})
    assert alice.rights.permissions == {"mods", "agents"}
    assert bob.rights.permissions == frozenset()
    assert registry.members_of_groups() == {"admins": ["alice"], "readers": [], "guests": [], "unguarded": []}
    registry.use_groups({"readers": GROUPS["readers"]}, registry._config)
    assert alice.rights.permissions == frozenset(), "its group is no longer configured"
    assert registry.members_of_groups() == {"readers": [], "admins": ["alice"]}


# -- life


def test_an_agent_expires_unless_it_is_seen_or_polls() -> None:
    registry = Registry(expire_after=10.0)
    for agent_id in ("quiet", "seen", "polling"):
        registry.register(agent_id, {})
    seen, polling = registry.get("seen"), registry.get("polling")
    assert seen is not None
    assert polling is not None
    registry.time = 10.0
    assert registry.expired() == []
    registry.seen(seen)
    polling.polling = 1
    registry.time = 10.5
    assert registry.expired() == ["quiet"]
    registry.use_groups({}, Registry(expire_after=None)._config)
    registry.time = 1e9
    assert registry.expired() == []


def test_agents_that_the_journal_kept_come_back_with_groups_and_channels() -> None:
    old = Registry(GROUPS)
    alice, secret = old.register("alice", {"name": "Alice"}, group="admins", trusted=True)
    registry = Registry(GROUPS, expire_after=10.0)
    registry.time = 500.0
    registry.restore([alice], {"general": ["alice"]})
    assert registry.expired() == [], "the time before the restart does not count"
    assert registry.authenticate("alice", secret) is alice
    assert alice.rights.permissions == {"mods", "agents"}
    assert registry.channel_members("general") == ["alice"]
    assert registry.changes == [], "the journal has all of this"


def test_the_journal_is_told_of_every_change() -> None:
    registry = Registry()
    registry.register("alice", {})
    registry.join("general", "alice")
    assert registry.unregister("alice") is not None
    assert registry.unregister("alice") is None
    assert [kind for kind, _ in registry.changes] == ["register", "join", "leave", "unregister"]
    assert (len(registry), list(registry)) == (0, [])


# -- subscriptions


def test_a_subscription_restricts_what_arrives() -> None:
    registry = Registry()
    alice, _ = registry.register("alice", {})
    subscription = registry.subscribe(alice, ["chat.*"], ["channel:general", "other"])
    assert subscription.channels == {"general", "other"}
    assert registry.send("agent:alice").reached == 0, "it is in none of these channels"
    registry.join("general", "alice")
    assert registry.send("channel:general").reached == 1
    with pytest.raises(InvalidEvent):
        registry.subscribe(alice, ["Not A Pattern"], [])
