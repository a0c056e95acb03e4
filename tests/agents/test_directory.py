"""What an agent sees of others: lists, members of channels, private channels, through the network's commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.agents import known_by, known_to
from modvisor.supervisor.config import GroupConfig, ModConfig
from modvisor.supervisor.events import Sender

from .registries import Registry, password

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

Make = Callable[..., AgentNetwork]
GROUPS = {
    "admins": {"permissions": ["mods", "agents", "channels"], "password_hash": password("sesame")},
    "moderators": {"permissions": ["agents"], "password_hash": password("order")},
    "hosts": {"permissions": ["channels"], "password_hash": password("tea")},
    "staff": {"password_hash": password("books"), "directory": "group"},
    "hermits": {"password_hash": password("cave"), "directory": "none"},
}
WORDS = {"admins": "sesame", "moderators": "order", "hosts": "tea", "staff": "books", "hermits": "cave"}


class Net:
    """A running network, and its agents with their secrets."""

    def __init__(self, network: AgentNetwork) -> None:
        self.network = network
        self.secrets: dict[str, str] = {}

    async def register(self, agent_id: str, group: str | None = None) -> None:
        given = {} if group is None else {"password_hash": password(WORDS[group])}
        response = await self.ask(agent_id, "register_agent", agent_id=agent_id, **given)
        self.secrets[agent_id] = response.data["secret"]

    async def ask(self, agent_id: str, command: str, /, **payload: Any) -> EventResponse:
        event = Event(f"system.{command}", agent_id, payload=payload, secret=self.secrets.get(agent_id))
        return await self.network.process_external_event(event)

    async def error(self, agent_id: str, command: str, /, **payload: Any) -> str | None:
        return (await self.ask(agent_id, command, **payload)).error

    async def send(self, agent_id: str, to: str) -> EventResponse:
        event = Event("chat.said", agent_id, to, payload={}, secret=self.secrets[agent_id])
        return await self.network.process_external_event(event)

    async def listed(self, agent_id: str) -> list[str]:
        return [each["agent_id"] for each in (await self.ask(agent_id, "list_agents")).data["agents"]]

    async def members(self, agent_id: str, channel: str) -> list[str] | None:
        return (await self.ask(agent_id, "get_channel_members", channel_id=channel)).data.get("members")


@pytest.fixture
async def net(make_network: Make) -> Net:
    network = make_network(agent_groups=GROUPS)
    await network.initialize()
    return Net(network)


async def test_the_directory_of_a_group_says_whom_its_agents_see(net: Net) -> None:
    agents = {"ann": "staff", "ben": "staff", "hal": "hermits", "ida": "hermits", "mo": "moderators", "gus": None}
    for agent_id, group in agents.items():
        await net.register(agent_id, group)
    await net.ask("hal", "add_channel_member", channel_id="cave")
    await net.ask("gus", "add_channel_member", channel_id="cave")
    everybody = list(agents)
    seen = {agent_id: await net.listed(agent_id) for agent_id in everybody}
    assert seen == {
        "ann": ["ann", "ben"], "ben": ["ann", "ben"], "hal": ["hal", "gus"], "ida": ["ida"], "mo": everybody, "gus": everybody,
    }  # fmt: skip
    assert await net.members("ida", "cave") == []
    assert [await net.members(agent_id, "cave") for agent_id in ("hal", "mo")] == [["hal", "gus"]] * 2
    assert list(net.network.agents_known_to("ann")) == ["ann", "ben"]
    kicked = await net.ask("mo", "kick_agent", target_agent_id="ben")
    assert kicked.success
    hear = [event.event_name for agent_id in ("ann", "ida") for event in await net.network.poll_events(agent_id)]
    assert hear == ["system.agent_kicked"], "who did not know of it does not hear of it"


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["staff", "hermits", "open", None]), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=8),
)
def test_who_knows_an_agent_is_who_may_list_it(groups: list[str | None], joined: list[tuple[int, int]]) -> None:
    config = {
        "staff": GroupConfig("staff", directory="group"),
        "hermits": GroupConfig("hermits", directory="none"),
        "open": GroupConfig("open"),
    }
    registry = Registry(config)
    for number, group in enumerate(groups):
        registry.register(f"a{number}", {}, group=group)
    for channel, number in joined:
        if number < len(groups):
            registry.join(f"c{channel}", f"a{number}")
    for agent in registry:
        told = known_by(agent, registry)
        listing = [viewer.agent_id for viewer in registry if agent in known_to(viewer, registry)]
        assert listing == (told if told is not None else [each.agent_id for each in registry])


async def test_a_private_channel_exists_for_its_members_only(net: Net) -> None:
    for agent_id in ("alice", "bob", "eve"):
        await net.register(agent_id)
    assert (await net.ask("alice", "create_channel", channel_id="plans", private=True)).data["private"] is True
    assert await net.error("eve", "create_channel", channel_id="plans") == "conflict"
    for command in ("get_channel_members", "add_channel_member", "remove_channel_member"):
        assert await net.error("eve", command, channel_id="plans") == "no_such_channel"
    assert (await net.ask("eve", "list_channels")).data["channels"] == []
    assert (await net.send("eve", "channel:plans")).error == "no_such_channel"
    assert (await net.ask("alice", "add_channel_member", channel_id="plans", agent_id="bob")).success
    listed = (await net.ask("bob", "list_channels")).data
    assert (listed["channels"], listed["private"], await net.members("bob", "plans")) == (
        ["plans"],
        ["plans"],
        ["alice", "bob"],
    )
    assert (await net.send("alice", "channel:plans")).data["delivered"] == 1
    assert await net.error("bob", "remove_channel_member", channel_id="plans", agent_id="alice") == "forbidden"
    assert (await net.ask("alice", "remove_channel_member", channel_id="plans", agent_id="bob")).success
    assert await net.error("bob", "get_channel_members", channel_id="plans") == "no_such_channel"


async def test_a_channel_is_private_no_longer_than_it_has_members(net: Net) -> None:
    await net.register("alice")
    await net.register("bob")
    await net.ask("alice", "create_channel", channel="plans", private=True)
    await net.ask("alice", "unregister_agent")
    assert (await net.ask("bob", "add_channel_member", channel="plans")).success
    assert (await net.ask("bob", "list_channels")).data["private"] == []
    assert (await net.ask("bob", "create_channel", channel="open")).data["private"] is False
    assert await net.error("bob", "add_channel_member", channel="open", agent_id="carol") == "forbidden"


async def test_holders_of_channels_and_mods_see_private_channels(net: Net) -> None:
    await net.register("alice")
    await net.register("hugo", "hosts")
    await net.ask("alice", "create_channel", channel="plans", private=True)
    assert await net.members("hugo", "plans") == ["alice"]
    assert (await net.ask("hugo", "add_channel_member", channel="plans")).success
    assert (await net.ask("hugo", "remove_channel", channel="plans")).success


async def test_nobody_can_fill_the_channels_of_another_agent(make_network: Make) -> None:
    network = make_network(agents={"channels_per_agent": 4})
    await network.initialize()
    net = Net(network)
    for agent_id in ("alice", "victim"):
        await net.register(agent_id)
    outcomes = []
    for number in range(3):
        await net.ask("alice", "create_channel", channel=f"c{number}", private=True)
        outcomes.append(await net.error("alice", "add_channel_member", channel=f"c{number}", agent_id="victim"))
    assert outcomes == [None, None, "overloaded"]
    assert (await net.ask("victim", "add_channel_member", channel="own")).success


async def test_a_manager_can_do_nothing_to_who_may_do_more(net: Net) -> None:
    for agent_id, group in (("ada", "admins"), ("mo", "moderators"), ("hugo", "hosts"), ("gus", None)):
        await net.register(agent_id, group)
    await net.ask("ada", "add_channel_member", channel="hall")
    subscribed = (await net.ask("ada", "subscribe_events", event_patterns=["chat.*"])).data["subscription_id"]
    about = {"agent_id": "ada"}
    for command, payload in {
        "kick_agent": {"target_agent_id": "ada"},
        "unregister_agent": about,
        "poll_messages": about,
        "subscribe_events": {**about, "event_patterns": ["x.*"]},
        "unsubscribe_events": {**about, "subscription_id": subscribed},
        "register_agent": about,
    }.items():
        response = await net.ask("mo", command, **payload)
        assert (response.error, "may do more than you" in str(response.message)) == ("forbidden", True), command
    assert await net.error("hugo", "remove_channel_member", channel="hall", agent_id="ada") == "forbidden"
    assert net.network.is_running
    assert await net.listed("ada") == ["ada", "mo", "hugo", "gus"]
    assert await net.error("ada", "kick_agent", target_agent_id="mo") is None
    mod = Sender(mod=ModConfig("./m", "m", permissions=frozenset({"agents"})))
    assert net.network._parts is not None
    commands = net.network._parts.gateway._commands
    refused = await commands(Event("system.kick_agent", "mod:m", payload={"target_agent_id": "ada"}), mod)
    assert refused.error == "forbidden"
    assert (await commands(Event("system.kick_agent", "mod:m", payload={"target_agent_id": "gus"}), mod)).success


async def test_who_may_send_or_receive_more_may_do_more(make_network: Make) -> None:
    narrow = {"permissions": ["agents"], "password_hash": password("order"), "receive": ["chat.*"]}
    network = make_network(agent_groups={**GROUPS, "moderators": narrow})
    await network.initialize()
    net = Net(network)
    await net.register("mo", "moderators")
    await net.register("gus", "staff")
    for command, payload in {
        "kick_agent": {"target_agent_id": "gus"},
        "poll_messages": {"agent_id": "gus"},
        "register_agent": {"agent_id": "gus"},
    }.items():
        response = await net.ask("mo", command, **payload)
        assert "may do more than you (receive *)" in str(response.message), command


async def test_managers_invite(net: Net) -> None:
    await net.register("mo", "moderators")
    assert await net.error("mo", "invite", agent_group="admins") == "forbidden"
    assert await net.error("mo", "invite", group="moderators") == "bad_input"
    made = (await net.ask("mo", "invite", agent_group="moderators", agent="max", expires=60, uses=1)).data
    invites = (await net.ask("mo", "list_invites")).data["invites"]
    assert (made["created_by"], [each["invite_id"] for each in invites]) == ("mo", [made["invite_id"]])
    assert made["invite"] not in str(invites)
    joined = await net.ask("max", "register_agent", agent_id="max", invite=made["invite"])
    assert (joined.data["assigned_group"], net.network.is_member("max")) == ("moderators", True)
    other = (await net.ask("mo", "invite")).data["invite_id"]
    assert (await net.ask("mo", "revoke_invite", invite_id=other)).success
    await net.register("gus")
    assert [await net.error("gus", each) for each in ("invite", "list_invites", "revoke_invite")] == ["forbidden"] * 3
