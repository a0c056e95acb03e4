"""Who may do what: agents with secrets from outside, mods in their own name, commands with permissions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.processes.test_events import load

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]
PASSWORD = hashlib.sha256(b"open sesame").hexdigest()
GROUPS = {
    "admins": {"permissions": ["mods", "agents", "channels"], "password_hash": PASSWORD},
    "guests": {},
    "unguarded": {"permissions": ["mods"]},
}


@pytest.fixture
async def network(make_network: Callable[..., AgentNetwork]) -> AgentNetwork:
    made = make_network(agent_groups=GROUPS, allowed_mods=["./*"])
    await made.initialize()
    return made


class Outside:
    """An agent that talks to the network from outside."""

    def __init__(self, network: AgentNetwork, agent_id: str) -> None:
        self.network, self.agent_id, self.secret = network, agent_id, ""

    async def register(self, **payload: Any) -> EventResponse:
        response = await self.send("system.register_agent", agent_id=self.agent_id, **payload)
        if response.success:
            self.secret = response.data["secret"]
        return response

    async def send(
        self, name: str, to: str | None = None, *, source: str | None = None, **payload: Any
    ) -> EventResponse:
        event = Event(name, source or self.agent_id, to, payload=payload, secret=self.secret or None)
        return await self.network.process_external_event(event)


async def test_nobody_speaks_without_a_secret(network: AgentNetwork, caplog: pytest.LogCaptureFixture) -> None:
    stranger, alice = Outside(network, "mallory"), Outside(network, "alice")
    assert (await alice.register()).success
    for source in ("mallory", "alice", "agent:alice"):
        assert (await stranger.send("chat.message", "alice", source=source)).error == "unauthenticated"
    for source in ("system:system", "mod:wiki", "channel:general"):
        refused = await alice.send("chat.message", "alice", source=source)
        assert (refused.error, "come from an agent" in str(refused.message)) == ("forbidden", True)
    assert (await alice.send("chat.message", "alice", source="bob")).error == "unauthenticated"
    assert await network.poll_events("alice") == []
    assert network.get_network_stats()["events"]["refused"] == 7
    assert "refused chat.message from agent:alice" in caplog.text


async def test_anybody_may_register_and_ask_for_health(network: AgentNetwork) -> None:
    stranger = Outside(network, "mallory")
    assert (await stranger.send("system.health_check")).data["is_running"] is True
    assert (await stranger.send("system.register_agent", source="system:system", agent_id="x")).error == "forbidden"
    registered = await stranger.register()
    assert registered.data["assigned_group"] is None
    assert len(registered.data["secret"]) >= 40


@pytest.mark.parametrize(
    ("payload", "group", "error"),
    [
        ({}, None, None),
        ({"password_hash": ""}, None, None),
        ({"password_hash": PASSWORD}, "admins", None),
        ({"password_hash": PASSWORD.upper(), "agent_group": "admins"}, "admins", None),
        ({"agent_group": "guests"}, "guests", None),
        ({"password_hash": "0" * 64}, None, "unauthenticated"),
        ({"agent_group": "admins"}, None, "unauthenticated"),
        ({"agent_group": "admins", "password_hash": "wrong"}, None, "unauthenticated"),
        ({"agent_group": "unguarded"}, None, "forbidden"),
        ({"agent_group": "nowhere"}, None, "no_such_group"),
        ({"metadata": [1]}, None, "bad_input"),
        ({"agent_group": 5}, None, "bad_input"),
    ],
)
async def test_groups_are_joined_with_their_password(
    network: AgentNetwork, payload: dict[str, Any], group: str | None, error: str | None
) -> None:
    response = await Outside(network, "alice").register(**payload)
    assert response.error == error, response
    if error is None:
        assert response.data["assigned_group"] == group


async def test_a_live_id_is_taken_over_only_with_its_secret_or_its_groups_password(network: AgentNetwork) -> None:
    alice, thief = Outside(network, "alice"), Outside(network, "alice")
    await alice.register(password_hash=PASSWORD)
    refused = await thief.register()
    assert (refused.error, "taken" in str(refused.message)) == ("id_taken", True)
    thief.secret = "guessed"
    assert (await thief.register()).error == "id_taken"
    first = alice.secret
    assert (await alice.register()).success, "with its own secret"
    assert alice.secret != first
    back = Outside(network, "alice")
    assert (await back.register(password_hash=PASSWORD)).success, "with its group's password"
    assert (await alice.send("system.heartbeat")).error == "unauthenticated", "the old secret is void"
    assert (await back.send("system.unregister_agent")).success
    assert (await thief.register()).success, "the id is free again"


async def test_loading_code_needs_the_permission_and_an_allowed_path(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    path = write_mod("echo")
    guest, admin = Outside(network, "guest"), Outside(network, "admin")
    assert (await guest.send("system.mod.load", mod_path=path)).error == "unauthenticated"
    await guest.register(agent_group="guests")
    await admin.register(password_hash=PASSWORD)
    for command in ("load", "unload", "reload", "list"):
        refused = await guest.send(f"system.mod.{command}", mod_path=path, mod_id="echo")
        assert (refused.error, "needs the permission 'mods' of its agent group" in str(refused.message)) == (
            "forbidden",
            True,
        )
    assert network.get_loaded_mods() == {}
    loaded = await admin.send("system.mod.load", mod_path=path, config={"a": 1})
    assert loaded.data["mod_id"] == "echo"
    assert (await guest.send("test.ping", i=1)).data["pong"] == 1
    assert list((await admin.send("system.mod.list")).data["mods"]) == ["echo"]
    assert (await admin.send("system.mod.reload", mod_id="echo")).success
    assert (await admin.send("system.mod.unload", mod_path=path)).success
    outside = await admin.send("system.mod.load", mod_path="os.path")
    assert (outside.error, "allowed_mods" in str(outside.message)) == ("forbidden", True)
    assert (await admin.send("system.mod.load")).error == "bad_input"


async def test_agents_act_for_themselves_unless_permitted(network: AgentNetwork) -> None:
    alice, bob, admin = (Outside(network, name) for name in ("alice", "bob", "admin"))
    await alice.register()
    await bob.register()
    await admin.register(password_hash=PASSWORD)
    for command, payload in {
        "system.poll_messages": {},
        "system.unregister_agent": {},
        "system.subscribe_events": {"event_patterns": ["*"]},
        "system.unsubscribe_events": {},
        "system.add_channel_member": {"channel_id": "general"},
        "system.remove_channel_member": {"channel_id": "general"},
        "system.heartbeat": {},
    }.items():
        refused = await alice.send(command, agent_id="bob", **payload)
        assert refused.error == "forbidden", command
    assert (await alice.send("system.add_channel_member", channel_id="general")).success
    assert (await admin.send("system.add_channel_member", channel_id="general", agent_id="bob")).success
    assert (await bob.send("system.get_channel_members", channel_id="general")).data["members"] == ["alice", "bob"]
    assert (await bob.send("system.remove_channel", channel_id="general")).error == "forbidden"
    assert (await bob.send("system.list_channels")).data["channels"] == ["general"]
    assert (await bob.send("system.remove_channel_member", channel_id="general")).success
    assert (await admin.send("system.remove_channel", channel_id="general")).success
    assert (await bob.send("system.get_channel_members", channel_id="general")).error == "no_such_channel"
    assert (await bob.send("system.add_channel_member")).error == "bad_input"
    assert (await bob.send("system.add_channel_member", channel_id="../etc")).error == "invalid_event"
    assert {agent["agent_id"] for agent in (await bob.send("system.list_agents")).data["agents"]} == {
        "alice",
        "bob",
        "admin",
    }
    assert (await admin.send("system.unregister_agent", agent_id="bob")).success
    assert (await bob.send("system.list_agents")).error == "unauthenticated"
    unknown = await alice.send("system.shutdown_everything")
    assert (unknown.error, "system.* knows" in str(unknown.message)) == ("unknown_event", True)


async def test_poll_and_subscribe_over_commands(network: AgentNetwork) -> None:
    alice, bob = Outside(network, "alice"), Outside(network, "bob")
    await alice.register()
    await bob.register()
    assert (await alice.send("chat.message", "bob", text="hi")).data == {"delivered": 1}
    (message,) = (await bob.send("system.poll_messages", request_id="r1")).data["messages"]
    assert (message["source_id"], message["payload"], "secret" in message) == ("alice", {"text": "hi"}, False)
    assert (await bob.send("system.poll_messages", wait="long")).error == "bad_input"
    assert (await bob.send("system.subscribe_events", event_patterns=[])).error == "bad_input"
    assert (await bob.send("system.subscribe_events", event_patterns=["Not A Pattern"])).error == "invalid_event"
    assert (await bob.send("system.unsubscribe_events", subscription_id="none")).error == "not_found"


async def test_what_only_the_network_may_say_is_wiped_from_outside_events(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "mirror", """
        @mod_event_handler("test.mirror")
        async def mirror(self, event):
            fields = ("via", "cause", "hops", "attempt", "source_agent_group", "secret")
            return EventResponse(True, data=[getattr(event, field) for field in fields])
    """)  # fmt: skip
    alice = Outside(network, "alice")
    await alice.register(agent_group="guests")
    forged = Event("test.mirror", "alice", secret=alice.secret, via="mod:x", cause="y", hops=-50, attempt=9,
                   source_agent_group="admins")  # fmt: skip
    assert (await network.process_external_event(forged)).data == [None, None, 0, 1, "guests", None]


async def test_a_mod_speaks_in_its_own_name_only(network: AgentNetwork, write_mod: WriteMod) -> None:
    body = """
        @mod_event_handler("test.say")
        async def say(self, event):
            given = event.payload
            sent = Event(given["name"], given["source"], given["to"], payload=given["payload"])
            return await self.context.send_event(sent)
    """
    await load(network, write_mod, "plain", body)
    await load(network, write_mod, "speaker", body, speak_for=["agent:alice", "mod:*"], permissions=["channels"])
    await network.register_agent("bob")

    async def say(mod: str, name: str = "chat.message", *, source: Any = None, to: Any = "bob", **payload: Any) -> Any:
        said = {"name": name, "source": source, "to": to, "payload": payload}
        event = Event("test.say", "agent:x", f"mod:{mod}", payload=said)
        response = await network.process_event(event)
        return response.error if not response.success else response.data

    assert await say("plain") == {"delivered": 1}
    (event,) = await network.poll_events("bob")
    assert (event.source_id, event.via) == ("mod:plain", "mod:plain")
    for source in ("agent:alice", "alice", "mod:speaker", "system:system"):
        assert await say("plain", source=source) == "forbidden"
    assert await say("speaker", source="alice") == {"delivered": 1}
    assert await say("speaker", source="mod:anything") == {"delivered": 1}
    assert [event.via for event in await network.poll_events("bob")] == ["mod:speaker"] * 2
    assert await say("speaker", source="system:system") == "forbidden"
    # commands
    assert await say("plain", "system.mod.load", to=None, mod_path="./plain") == "forbidden"
    assert await say("plain", "system.register_agent", to=None, agent_id="eve") == "forbidden"
    assert await say("plain", "system.poll_messages", to=None, agent_id="bob") == "forbidden"
    assert await say("plain", "system.add_channel_member", to=None, agent_id="bob", channel_id="c") == "forbidden"
    joined = await say("speaker", "system.add_channel_member", to=None, agent_id="bob", channel_id="c")
    assert joined["channel_id"] == "c"
    assert (await say("plain", "system.list_channels", to=None))["channels"] == ["c"]


async def test_agents_groups_and_channels_outlive_a_restart(make_network: Callable[..., AgentNetwork]) -> None:
    first = make_network(agent_groups=GROUPS)
    await first.initialize()
    alice = Outside(first, "alice")
    await alice.register(password_hash=PASSWORD, metadata={"name": "Alice"})
    for name in ("bob", "carol", "dave"):
        await first.register_agent(name)
        await first.process_event(
            Event("system.add_channel_member", payload={"channel_id": "general", "agent_id": name})
        )
    await first.process_event(
        Event("system.remove_channel_member", payload={"channel_id": "general", "agent_id": "carol"})
    )
    await first.unregister_agent("dave")
    await first.shutdown()

    second = make_network(agent_groups=GROUPS)
    await second.initialize()
    alice.network = second
    listed = (await alice.send("system.list_agents")).data["agents"]
    assert {(agent["agent_id"], agent["group"], agent["name"]) for agent in listed} == {
        ("alice", "admins", "Alice"), ("bob", None, "bob"), ("carol", None, "carol"),
    }  # fmt: skip
    assert (await alice.send("system.get_channel_members", channel_id="general")).data["members"] == ["bob"]
    assert (await Outside(second, "alice").register()).error == "id_taken"


async def test_a_damaged_journal_is_set_aside(
    make_network: Callable[..., AgentNetwork], caplog: pytest.LogCaptureFixture
) -> None:
    network = make_network()
    network.state_dir.root.mkdir(parents=True)
    network.state_dir.database.write_bytes(b"this is no database " * 100)
    with caplog.at_level(logging.WARNING):
        await network.initialize()
    assert "The damaged file is now network.db.damaged-" in caplog.text
    assert (await network.register_agent("alice")).success
