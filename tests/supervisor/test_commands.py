"""The commands of the network: how a payload is read, and who may use what. The network is a fake."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.ipc.errors import Code
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.agents import AgentRegistry
from modvisor.supervisor.commands import LOAD_KEYS, SystemCommands
from modvisor.supervisor.config import ModConfig
from modvisor.supervisor.config.network.network import AgentsConfig
from modvisor.supervisor.events import Sender

pytestmark = pytest.mark.anyio

INSIDE = Sender(trusted=True)


class FakeNetwork:
    """Answers every request with its own name and arguments."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def note_refused(self, event: Event, why: str, code: str, address: str | None) -> None:
        self.refused.append(why)

    def health(self) -> dict[str, Any]:
        return {"is_running": True}

    def get_loaded_mods(self) -> dict[str, Any]:
        return {"wiki": {}}

    def describe_mods(self) -> list[Any]:
        return [{"mod_id": "wiki"}]

    def list_invites(self) -> list[Any]:
        return []

    async def make_invite(self, **asked: Any) -> EventResponse:
        return EventResponse(True, "make_invite", asked)

    async def revoke_invite(self, *asked: Any) -> EventResponse:
        return EventResponse(True, "revoke_invite", {"asked": asked})

    def get_audience(self, *args: Any) -> EventResponse:
        return EventResponse(True, "get_audience", [list(args), {}])

    def __getattr__(self, name: str) -> Any:
        async def answer(*args: Any, **kwargs: Any) -> EventResponse:
            return EventResponse(True, name, [list(args), kwargs])

        return answer


class Net:
    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.agents = AgentRegistry(AgentsConfig(), {}, lambda _kind, _data: None)
        network: Any = self.network
        self.commands = SystemCommands(network, self.agents)

    async def ask(
        self, name: str, sender: Sender = INSIDE, source: str = "agent:alice", **payload: Any
    ) -> EventResponse:
        return await self.commands(Event(f"system.{name}", source, payload=payload), sender)


@pytest.fixture
async def net() -> Net:
    net = Net()
    net.agents.register("alice", {})
    return net


@pytest.mark.parametrize(
    ("command", "payload", "asked"),
    [
        ("mod.load", {"mod_path": "./wiki"}, ["load_mod", ["./wiki", None], {"mod_id": None}]),
        (
            "mod.load",
            {"path": "./wiki", "mod_path": "", "config": {"a": 1}, "mod_id": "w", "version": "2.0"},
            ["load_mod", ["./wiki", {"a": 1}], {"mod_id": "w", "version": "2.0"}],
        ),
        (
            "mod.load",
            {"mod_path": "./wiki", "limits": {"memory": "64MB"}, "env": {"A": "b"}, "request_id": 7, "python": None},
            ["load_mod", ["./wiki", None], {"mod_id": None, "limits": {"memory": "64MB"}, "env": {"A": "b"}}],
        ),
        ("mod.unload", {"mod_id": "wiki"}, ["unload_mod", ["wiki"], {"cascade": False}]),
        ("mod.unload", {"mod": "wiki", "cascade": True}, ["unload_mod", ["wiki"], {"cascade": True}]),
        ("mod.reload", {"mod_path": "./wiki"}, ["reload_mod", ["./wiki", None, None], {}]),
        ("mod.reload", {"mod_id": "w", "mod_path": "./wiki"}, ["reload_mod", ["w", "./wiki", None], {}]),
        (
            "mod.swap",
            {"mod": "wiki", "mod_path": "./new", "alias": True},
            ["swap_mod", ["wiki", "./new", None], {"mod_id": None, "alias": True}],
        ),
        ("mod.audience", {"mod_id": "wiki"}, ["get_audience", ["wiki"], {}]),
        (
            "mod.audience",
            {"mod_id": "wiki", "percent": 0, "groups": None},
            ["set_audience", ["wiki"], {"everyone": False, "percent": 0}],
        ),
        ("mod.audience", {"mod_id": "wiki", "everyone": True}, ["set_audience", ["wiki"], {"everyone": True}]),
        ("mod.promote", {"mod_id": "wiki"}, ["promote_mod", ["wiki"], {}]),
        ("mod.rollback", {"mod_id": "wiki"}, ["rollback_mod", ["wiki"], {}]),
    ],
)
async def test_what_a_command_asks_of_the_network(net: Net, command: str, payload: dict[str, Any], asked: Any) -> None:
    response = await net.ask(command, **payload)
    assert [response.message, *response.data] == asked


@pytest.mark.parametrize(
    ("command", "payload", "message"),
    [
        ("mod.load", {}, "mod_path: expected text such as 'modvisor.mods.workspace.wiki'"),
        ("mod.load", {"mod_path": 5}, "mod_path: expected text, got int"),
        ("mod.load", {"mod_path": "./wiki", "config": []}, "config: expected a mapping, got list"),
        ("mod.unload", {}, "mod_id: expected the id or path of a loaded mod"),
        ("mod.unload", {"mod_id": "wiki", "cascade": "yes"}, "cascade: expected true or false, got str"),
        ("mod.unload", {"mod_id": "wiki", "cascade": None}, "cascade: expected true or false, got NoneType"),
        ("mod.load", {"mod_path": "./wiki", "limit": {}}, "limit: unknown key; did you mean 'limits'?"),
        ("mod.load", {"mod_path": "./wiki", "enabled": False}, "enabled: unknown key"),
        ("mod.unload", {"mod_id": "wiki", "casscade": True}, "casscade: unknown key; did you mean 'cascade'?"),
        ("mod.reload", {"mod_id": "wiki", "limits": {}}, "limits: unknown key"),
        (
            "mod.swap",
            {"mod": "wiki", "mod_path": "./new", "aliases": []},
            "aliases: unknown key; did you mean 'alias'?",
        ),
        ("mod.audience", {"mod_id": "wiki", "percents": 5}, "percents: unknown key; did you mean 'percent'?"),
        ("mod.promote", {"mod_id": "wiki", "percent": 5}, "percent: unknown key"),
        ("mod.rollback", {"mod_id": "wiki", "to": 5}, "to: unknown key"),
        ("unsubscribe_events", {"subscription": "x"}, "subscription: unknown key; did you mean 'subscription_id'?"),
        ("mod.swap", {"mod": "wiki"}, "expected mod, the id or path of a loaded mod, and mod_path"),
        ("poll_messages", {"wait": -1}, "wait: expected seconds from 0 to 60, got -1"),
        ("poll_messages", {"wait": True}, "wait: expected seconds from 0 to 60, got True"),
        ("poll_messages", {"wait": float("nan")}, "wait: expected seconds from 0 to 60, got nan"),
        ("poll_messages", {"agent_id": 5}, "agent_id: expected the id of an agent"),
        ("register_agent", {"agent_id": None}, "agent_id: expected the id of an agent"),
        ("subscribe_events", {}, "event_patterns: expected a list of at least one pattern"),
        ("subscribe_events", {"event_patterns": "wiki.*"}, "event_patterns: expected a list of texts"),
        ("add_channel_member", {}, "channel_id: expected the name of a channel"),
        ("add_channel_member", {"channel_id": ["a"]}, "channel_id: expected text, got list"),
    ],
)
async def test_a_payload_with_a_mistake_is_refused_by_name(
    net: Net, command: str, payload: dict[str, Any], message: str
) -> None:
    response = await net.ask(command, **payload)
    assert (response.success, response.error) == (False, Code.BAD_INPUT)
    assert str(response.message).startswith(message)


async def test_an_answer_has_the_shape_that_other_networks_give(net: Net) -> None:
    response = await net.ask("mod.list", request_id=7)
    assert response.data == {"type": "system_response", "command": "mod.list", "mods": {"wiki": {}}, "request_id": 7}
    assert "request_id" not in (await net.ask("list_mods")).data
    assert (await net.ask("ping_agent")).data["command"] == "heartbeat"


async def test_members_come_and_go(net: Net) -> None:
    joined = await net.ask("add_channel_member", channel="channel:general")
    assert joined.data == {
        "type": "system_response", "command": "add_channel_member", "channel_id": "general", "agent_id": "alice",
    }  # fmt: skip
    assert (await net.ask("get_channel_members", channel_id="general")).data["members"] == ["alice"]
    left = await net.ask("remove_channel_member", channel_id="general")
    assert (left.message, left.data["command"]) == ("alice left general", "remove_channel_member")
    assert (await net.ask("get_channel_members", channel_id="general")).error == Code.NO_SUCH_CHANNEL


async def test_an_unknown_command_is_answered_with_those_there_are(net: Net) -> None:
    response = await net.ask("reboot")
    assert response.error == Code.UNKNOWN_EVENT
    assert "system.* knows register_agent, unregister_agent, list_agents" in str(response.message)


READS_WITH_RIGHTS = {"list_invites"}
READING = {"list_agents", "list_mods", "get_channel_members", "list_channels", "health_check"}
CHANNELS = {"create_channel", "add_channel_member", "remove_channel_member", "remove_channel"}


async def test_what_a_mod_needs_for_each_command(net: Net) -> None:
    """A mod may read. Whatever it changes, it changes for others: its config must grant it."""
    for name in (each.removeprefix("system.") for each in net.commands._commands):
        needed = "channels" if name in CHANNELS else "mods" if name.startswith("mod.") else "agents"
        for granted in (None, "agents", "channels", "mods"):
            mod = ModConfig("./m", "m", permissions=frozenset({granted} if granted else ()))
            response = await net.ask(name, Sender(mod=mod), source="mod:m")
            is_let = name in READING or granted == needed
            assert (response.error == Code.FORBIDDEN) != is_let, (name, granted, response)
            if not is_let:
                assert f"mod m may not use system.{name}: it needs the permission {needed!r}" in str(response.message)
    assert net.network.refused


async def test_an_agent_needs_a_permission_for_mods_and_for_other_agents(net: Net) -> None:
    net.agents.register("bob", {})
    alice = Sender(agent=net.agents.get("alice"))
    load = await net.ask("mod.load", alice, mod_path="./wiki")
    assert (load.error, "of its agent group" in str(load.message)) == (Code.FORBIDDEN, True)
    other = await net.ask("poll_messages", alice, agent_id="agent:bob")
    assert (other.error, "for agent 'bob'" in str(other.message)) == (Code.FORBIDDEN, True)
    assert (await net.ask("poll_messages", alice, agent_id="agent:alice")).success


@pytest.mark.parametrize("key", sorted(LOAD_KEYS))
async def test_only_the_operator_gives_rights_and_limits_by_a_load(net: Net, key: str) -> None:
    """The permission `mods` loads what the file allows, as the file would without an entry of its own."""
    mod = ModConfig("./m", "m", permissions=frozenset({"mods"}))
    refused = await net.ask("mod.load", Sender(mod=mod), source="mod:m", mod_path="./wiki", **{key: {"a": 1}})
    assert refused.error == Code.FORBIDDEN
    assert str(refused.message).startswith(f"{key}: only the operator may set this")
    assert (await net.ask("mod.load", Sender(mod=mod), source="mod:m", mod_path="./wiki")).success


async def test_what_a_retry_does_not_repeat(net: Net) -> None:
    """All that changes something, but for a registration, whose answer holds a secret."""
    reads = READING | READS_WITH_RIGHTS | {"mod.list", "mod.available", "heartbeat", "ping_agent"}
    others = {name.removeprefix("system.") for name in net.commands._commands} - reads
    assert {name.removeprefix("system.") for name in net.commands.repeated} == others - {"register_agent"}
