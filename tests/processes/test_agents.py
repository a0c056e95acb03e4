"""Agents: taking ids over, who may manage whom, channels that come and go, inboxes with two limits, who may see what."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.ipc.messages import unpack
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.agents import AgentRegistry, Refusal, delivery
from modvisor.supervisor.commands import SystemCommands
from modvisor.supervisor.config.config import AgentsConfig, GroupConfig, parse_config
from modvisor.supervisor.events import Sender
from tests.conftest import until

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]


def password(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


class Registry(AgentRegistry):
    """A registry that remembers what it told the journal."""

    def __init__(self, groups: dict[str, GroupConfig] | None = None, **config: Any) -> None:
        self.changes: list[tuple[str, dict[str, Any]]] = []
        super().__init__(AgentsConfig(**config), groups or {}, lambda kind, data: self.changes.append((kind, data)))

    def send(self, to: str, text: Any = "", **fields: Any) -> Any:
        event = Event("chat.message", "agent:sender", to, payload={"text": text}, **fields)
        assert event.destination is not None
        return self.deliver(event, event.destination)

    async def texts(self, agent_id: str) -> list[Any]:
        agent = self.get(agent_id)
        assert agent is not None
        return [event.payload["text"] for event in await self.poll(agent)]


# -- registering


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


# -- who manages agents


GROUPS = {
    "managers": {"permissions": ["agents", "channels"], "password_hash": password("managers")},
    "admins": {"permissions": ["mods", "agents", "channels"], "password_hash": password("admins")},
    "unguarded": {"permissions": ["mods"]},
    "moderators": {"permissions": ["channels"], "password_hash": password("moderators")},
    "guests": {},
}


@pytest.fixture
async def managed(make_network: Callable[..., AgentNetwork]) -> AgentNetwork:
    made = make_network(agent_groups=GROUPS)
    await made.initialize()
    for agent_id, group in {
        "boss": "managers", "root": "admins", "mo": "moderators", "gus": "guests", "free": None,
    }.items():  # fmt: skip
        assert (await made.register_agent(agent_id, group=group)).success
    return made


async def register_as(network: AgentNetwork, manager: str, secret: str, agent_id: str, **payload: Any) -> EventResponse:
    payload = {"agent_id": agent_id, **payload}
    return await network.process_external_event(Event("system.register_agent", manager, payload=payload, secret=secret))


@pytest.mark.parametrize(
    ("group", "word", "error"),
    [
        (None, None, None),
        ("guests", None, None),
        ("moderators", None, None),
        ("managers", None, None),
        ("admins", None, "forbidden"),
        ("unguarded", None, "forbidden"),
        ("admins", "admins", None),
        ("admins", "wrong", "unauthenticated"),
        ("nowhere", None, "no_such_group"),
    ],
)
async def test_a_manager_hands_out_what_it_has(
    managed: AgentNetwork, group: str | None, word: str | None, error: str | None
) -> None:
    secret = (await managed.register_agent("boss", group="managers")).data["secret"]
    payload = {"agent_group": group, "password_hash": word and password(word)}
    response = await register_as(managed, "boss", secret, "new", **payload)
    assert response.error == error, response
    if error is None:
        assert response.data["assigned_group"] == group
    upgrade = await register_as(managed, "boss", secret, "boss", **payload)
    assert upgrade.error == error, "nor does it help itself to more"


@pytest.mark.parametrize(
    ("agent_id", "error"), [("free", None), ("gus", None), ("mo", None), ("root", "forbidden"), ("boss", None)]
)
async def test_a_manager_takes_over_whom_it_outranks(
    managed: AgentNetwork, agent_id: str, error: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    secret = (await managed.register_agent("boss", group="managers")).data["secret"]
    response = await register_as(managed, "boss", secret, agent_id)
    assert response.error == error, response
    if error is not None:
        assert "may do more than you (mods)" in str(response.message)
        assert "refused system.register_agent from boss" in caplog.text
        assert (await register_as(managed, "boss", secret, agent_id, password_hash=password("admins"))).success


async def test_without_the_permission_a_group_takes_its_password_and_a_live_id_its_secret(
    managed: AgentNetwork,
) -> None:
    secret = (await managed.register_agent("mo", group="moderators")).data["secret"]
    assert (await register_as(managed, "mo", secret, "new", agent_group="moderators")).error == "unauthenticated"
    assert (await register_as(managed, "mo", secret, "gus")).error == "id_taken"


async def test_a_mod_that_manages_agents_has_the_same_bounds(managed: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("manager", """
        from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

        class Manager(BaseMod):
            @mod_event_handler("test.register")
            async def enroll(self, event):
                return await self.context.send_event(Event("system.register_agent", payload=event.payload))
    """)  # fmt: skip
    assert (await managed.load_mod(path, permissions=["agents"])).success

    async def enroll(agent_id: str, **payload: Any) -> str | None:
        event = Event("test.register", payload={"agent_id": agent_id, **payload})
        return (await managed.process_event(event)).error

    assert await enroll("new") is None
    assert await enroll("newer", agent_group="guests") is None
    assert await enroll("newest", agent_group="moderators") == "forbidden", "it has no 'channels' itself"
    assert await enroll("free") is None
    assert await enroll("root") == "forbidden"


async def test_from_inside_anything_goes(managed: AgentNetwork) -> None:
    for group in GROUPS:
        event = Event("system.register_agent", payload={"agent_id": "root", "agent_group": group})
        assert (await managed.process_event(event)).data["assigned_group"] == group


# -- commands


async def test_a_command_that_fails_by_our_mistake_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def break_down() -> Any:
        raise ZeroDivisionError("our mistake")

    network: Any = SimpleNamespace(health=break_down)
    response = await SystemCommands(network, Registry())(Event("system.health_check", "agent:alice"), Sender())
    assert (response.success, response.error) == (False, "internal_error")
    assert "our mistake" not in str(response.message)
    assert "system.health_check from agent:alice failed" in caplog.text
    assert "ZeroDivisionError: our mistake" in caplog.text


async def test_a_refusal_may_have_any_details() -> None:
    def refuse() -> Any:
        error = ModvisorError("no", code="bad_input")
        error.details = {"code": 5, "message": "hidden", "error": "other"}
        raise error

    network: Any = SimpleNamespace(health=refuse)
    response = await SystemCommands(network, Registry())(Event("system.health_check"), Sender())
    assert (response.error, response.message, response.data["code"]) == ("bad_input", "no", 5)


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


def test_one_agent_cannot_use_up_the_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_MEMBERSHIPS", 3)
    monkeypatch.setattr(delivery, "MAX_CHANNELS", 4)
    registry = Registry()
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
    registry = Registry()
    registry.register("alice", {})
    for number in range(delivery.MAX_CHANNELS + 1):
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
