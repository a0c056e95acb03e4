"""`modvisor.openagents`: what a program that embeds a network asks for, by the names of OpenAgents."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import modvisor.openagents
from modvisor.ipc.errors import InvalidEvent, ModvisorError
from modvisor.openagents import AgentNetwork, Event, create_network
from modvisor.supervisor.config import ModConfig
from modvisor.supervisor.openagents.given import network_data
from modvisor.supervisor.openagents.mods import ModView

pytestmark = pytest.mark.anyio

HASH = hashlib.sha256(b"a long password").hexdigest()

COUNTER = """
    import time
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counter(BaseMod):
        version = "1.0"

        def initialize(self):
            self.count = 0
            return True

        @mod_event_handler("count.up")
        async def up(self, event):
            self.count += 1
            return EventResponse(True, data={"count": self.count, "by": event.source_agent_group})

        def get_state(self):
            time.sleep(self.config.get("slow", 0))
            return {"count": self.count, "object": object()} if self.config.get("odd") else {"count": self.count}
"""

GROUPS = {
    "agent_groups": {"users": {"password_hash": HASH, "description": "Users", "metadata": {"level": 1}}},
    "transports": [],
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name in ("counter", "second"):
        folder = tmp_path / "mods" / name
        folder.mkdir(parents=True)
        (folder / "mod.py").write_text(textwrap.dedent(COUNTER))
    return tmp_path


@pytest.fixture
async def make(workspace: Path) -> AsyncIterator[Callable[..., Any]]:
    made: list[AgentNetwork] = []

    async def make(**config: Any) -> AgentNetwork:
        network = AgentNetwork.create_from_config({"name": "T", **GROUPS, **config}, workspace_path=workspace)
        made.append(network)
        assert await network.initialize() is True
        return network

    yield make
    for network in made:
        await network.shutdown()


def up(source: str = "alice", **more: Any) -> Event:
    return Event(event_name="count.up", source_id=source, **more)


# -- events, agents, mods


async def test_a_program_registers_agents_and_processes_events(make) -> None:
    network = await make(mods=[{"name": "./counter"}])
    registered = await network.register_agent("alice", "http", {"capabilities": ["x"]}, None, password_hash=HASH)
    assert registered.success
    assert registered.data["assigned_group"] == "users"
    secret = registered.data["secret"]
    event = up()
    answer = await network.process_event(event)
    assert (answer.success, answer.data) == (True, {"count": 1, "by": "users"})
    assert event.source_agent_group == "users"
    assert not (await network.process_external_event(up())).success  # no secret
    assert (await network.process_external_event(up(secret=secret))).data["count"] == 2
    assert network.secret_manager.validate_secret("alice", secret)
    assert not network.secret_manager.validate_secret("alice", "x")
    assert (network.secret_manager.has_secret("bob"), network.secret_manager.get_agent_count()) == (False, 1)
    assert dict(network.topology.agent_group_membership) == {"alice": "users"}
    assert network.get_agent("alice").capabilities == ["x"]
    assert await network.topology.is_agent_registered("alice")
    assert (await network.unregister_agent("alice")).success
    assert "alice" not in network.topology.agent_registry


async def test_mods_are_views_by_path_with_their_state(make) -> None:
    network = await make(mods=[{"name": "./counter", "config": {"a": 1}}, {"name": "./second", "enabled": False}])
    assert list(network.mods) == ["./counter"]
    await network.process_event(up())
    view = network.mods["./counter"]
    assert (view.mod_name, view.mod_id, view.config, view.get_state()) == (
        "./counter",
        "counter",
        {"a": 1},
        {"count": 1},
    )
    assert (await network.load_mod("./second")).data["mod_id"] == "second"
    assert list(network.mods) == ["./counter", "./second"]
    assert list(network.get_loaded_mods()) == ["second"]  # those of the configuration are not dynamic
    assert network.get_network_stats()["dynamic_mods"]["count"] == 1
    again = await network.load_mod("./second")
    assert not again.success
    assert "already loaded" in again.message
    assert (await network.unload_mod("second")).success
    assert list(network.mods) == ["./counter"]
    assert not (await network.unload_mod("./second")).success
    with pytest.raises(ModvisorError, match="second"):
        network._core.show_state("second", 1)


async def test_a_state_that_does_not_come_in_time_holds_up_nothing_for_longer(make) -> None:
    network = await make(mods=[{"name": "./counter", "config": {"slow": 0.5}}])
    view = network.mods["./counter"]
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="show_state"):
        view.get_state(timeout=0.05)
    assert (await network.process_event(up())).success  # the late answer is nobody's, and the pipe goes on
    assert view.get_state(timeout=30) == {"count": 1}
    assert time.monotonic() - begun >= 1.0


async def test_events_that_come_while_a_state_is_waited_for_are_answered(make) -> None:
    network = await make(mods=[{"name": "./counter"}])
    answers = [asyncio.ensure_future(network.process_event(up())) for _ in range(50)]
    await asyncio.sleep(0)
    assert 0 <= network.mods["./counter"].get_state()["count"] <= 50
    assert sorted(answer.data["count"] for answer in await asyncio.gather(*answers)) == list(range(1, 51))


async def test_a_state_that_cannot_travel_is_an_error_that_says_so(make) -> None:
    network = await make(mods=[{"name": "./counter", "config": {"odd": True}}])
    with pytest.raises(ModvisorError, match="object"):
        network.mods["./counter"].get_state()


async def test_polls_subscriptions_and_channels(make) -> None:
    network = await make()
    gateway = network.event_gateway
    assert gateway is network.events
    for agent in ("alice", "bob"):
        await network.register_agent(agent)
    subscription = gateway.subscribe("bob", ["news.*"])
    assert gateway.get_agent_subscriptions("bob") == [subscription]
    for name in ("news.tech", "talk.small"):
        await gateway.process_event(Event(event_name=name, source_id="alice", destination_id="agent:bob"))
    (polled,) = await gateway.poll_events("bob")
    assert (polled.event_name, polled.source_id, polled.sender_id, type(polled)) == (
        "news.tech",
        "alice",
        "alice",
        Event,
    )
    assert gateway.unsubscribe(subscription.subscription_id)
    assert not gateway.unsubscribe(subscription.subscription_id)
    assert await gateway.poll_events("nobody") == []

    gateway.create_channel("general")
    assert gateway.channel_members == {"general": []}
    gateway.add_channel_member("general", "bob")
    await gateway.process_event(Event(event_name="talk.small", source_id="alice", destination_id="channel:general"))
    assert len(await gateway.poll_events("bob")) == 1
    with pytest.raises(ValueError, match="no member"):
        gateway.remove_channel_member("general", "alice")
    gateway.remove_channel_member("general", "bob")
    assert (gateway.list_channels(), gateway.get_channel_members("general")) == (["general"], [])
    gateway.remove_channel("general")
    assert gateway.list_channels() == []


async def test_an_event_may_reach_mods_only(make) -> None:
    network = await make()
    await network.register_agent("bob")
    event = Event(event_name="news.tech", source_id="alice", destination_id="agent:bob")
    assert (await network.event_gateway.process_event(event, enable_delivery=False)).success
    assert await network.event_gateway.poll_events("bob") == []


async def test_figures_have_the_names_of_openagents(make) -> None:
    network = await make(mods=[{"name": "./counter", "config": {"a": 1}}])
    await network.register_agent("alice", "http", {}, None, password_hash=HASH)
    await network.register_agent("bob", "http", {}, None)
    stats = network.get_network_stats()
    assert stats["groups"] == {"users": ["alice"], "guest": ["bob"]}
    assert stats["group_config"][0] == {
        "name": "users", "description": "Users", "agent_count": 1, "metadata": {"level": 1}, "has_password": True,
    }  # fmt: skip
    assert stats["agents"]["alice"]["group"] == "users"
    assert stats["mods"] == [{"name": "./counter", "enabled": True, "config": {"a": 1}}]
    assert (stats["network_name"], stats["is_running"], stats["agent_count"]) == ("T", True, 2)
    assert (stats["default_agent_group"], stats["requires_password"]) == ("guest", False)
    assert HASH not in repr(stats)


async def test_a_wrong_password_and_a_live_id_are_refused(make) -> None:
    network = await make()
    wrong = await network.register_agent("alice", password_hash="0" * 64, requested_group="users")
    assert (wrong.success, wrong.error) == (False, "unauthenticated")
    assert (await network.register_agent("alice")).success
    assert (await network.register_agent("alice")).error == "id_taken"
    assert (await network.register_agent("alice", force_reconnect=True)).success


async def test_a_workspace_outlives_the_program_and_its_agents_may_register_again(workspace: Path) -> None:
    for _ in range(2):
        network = AgentNetwork.create_from_config({"name": "T", "transports": []}, workspace_path=workspace)
        assert await network.initialize()
        assert (await network.register_agent("alice")).success
        assert await network.shutdown()
    assert (workspace / ".modvisor").is_dir()


async def test_without_a_workspace_nothing_is_left(make) -> None:
    network = AgentNetwork.create_from_config({"name": "T", "transports": []})
    storage = network._core.config.storage
    assert await network.initialize()
    assert storage.exists()
    await network.shutdown()
    assert not storage.exists()


async def test_a_network_that_cannot_start_says_so(workspace: Path) -> None:
    config = {"name": "T", "transports": []}
    first = AgentNetwork.create_from_config(config, workspace_path=workspace)
    assert await first.initialize()
    try:
        assert await AgentNetwork.create_from_config(config, workspace_path=workspace).initialize() is False
    finally:
        await first.shutdown()


# -- what it is made from


class Mode(StrEnum):
    CENTRALIZED = "centralized"


class Modelled(SimpleNamespace):
    """Dumps what was set, as pydantic's models do."""

    def model_dump(self, exclude_unset: bool = False) -> dict[str, Any]:
        return vars(self) if exclude_unset else {**vars(self), "max_connections": 100}


@pytest.mark.parametrize("kind", [dict, SimpleNamespace, Modelled])
def test_a_configuration_may_be_of_any_class(kind: Any) -> None:
    config = kind(name="T", mode=Mode.CENTRALIZED, mods=[kind(name="./a", config={"x": {1}})], node_id=None)
    assert network_data(config) == {
        "network": {
            "name": "T", "mode": "centralized", "mods": [{"name": "./a", "config": {"x": [1]}}], "node_id": None,
        }
    }  # fmt: skip


def test_a_configuration_with_mistakes_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"network\.mods\[0\]\.name"):
        AgentNetwork.create_from_config({"name": "T", "mods": [{"name": "no path"}]})
    with pytest.raises(TypeError, match="expected a NetworkConfig"):
        AgentNetwork.create_from_config(["T"])


def test_a_file_is_loaded_by_name_or_found_in_the_workspace(tmp_path: Path) -> None:
    file = tmp_path / "network.yaml"
    with pytest.raises(FileNotFoundError):
        AgentNetwork.load(file)
    file.write_text("network: {name: T, mode: centralized, transports: [{type: http, config: {port: 8123}}]}")
    assert AgentNetwork.load(str(file)).network_name == "T"
    assert create_network(file).network_id == "t"
    found = AgentNetwork.load(workspace_path=tmp_path, port=0)
    assert found._core.config.port == 0
    file.write_text("network: {name: T, mode: peer}")
    with pytest.raises(ValueError, match="expected centralized"):
        AgentNetwork.load(file)
    with pytest.raises(TypeError, match="create_from_config"):
        AgentNetwork.load(SimpleNamespace(name="T"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="workspace_path"):
        AgentNetwork.load()


def test_an_unknown_name_is_an_error_that_says_where_the_names_are() -> None:
    network = AgentNetwork.create_from_config({"name": "T"})
    for part in (network, network.topology, network.event_gateway, network.secret_manager):
        with pytest.raises(AttributeError, match=r"no 'agent_manager'; docs/openagents\.md"):
            _ = part.agent_manager
    assert not hasattr(network, "agent_manager")


def test_an_event_is_checked_when_it_is_built() -> None:
    with pytest.raises(InvalidEvent):
        Event(event_name="nodot")
    event = Event("ab.cd.ef", payload={"x": 1})
    assert event.matches_pattern("ab.c*")
    assert not event.matches_pattern("ab.c")
    assert Event.from_dict({**event.to_dict(), "more": 1}) == event


# -- what it imports


def test_the_face_imports_openagents_for_the_code_of_mods_only() -> None:
    script = """
import sys
import modvisor.openagents as face
face.AgentNetwork, face.Event, face.EventResponse
print("openagents" in sys.modules)
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "openagents": raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hidden())
try:
    face.BaseMod
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    first, second = done.stdout.splitlines()
    assert first == "False"
    assert "pip install 'modvisor[openagents]'" in second


@pytest.mark.slow  # imports openagents
def test_the_class_of_mods_is_theirs() -> None:
    script = (
        "from modvisor.openagents import BaseMod, mod_event_handler; print(BaseMod.__module__); "
        "import sys; print([n for n in sys.modules if n.startswith('modvisor.supervisor')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["openagents.sdk.base_mod", "[]"]


def test_the_face_has_what_it_lists() -> None:
    assert set(modvisor.openagents.__all__) <= set(dir(modvisor.openagents))
    with pytest.raises(AttributeError, match="docs/openagents"):
        _ = modvisor.openagents.Nothing


def test_the_page_lists_the_names_that_there_are() -> None:
    text = (Path(__file__).parents[2] / "docs" / "openagents.md").read_text("utf-8")
    table = text[text.index("| of | these names |") : text.index("Any other name is")]
    rows = {cells[1].strip(): re.findall(r"`(\w+)[()]*`", cells[2]) for cells in map(_cells, table.splitlines()[2:-1])}
    network = AgentNetwork.create_from_config({"name": "T"})
    for name, part in (
        ("`AgentNetwork`", network),
        ("`event_gateway`", network.event_gateway),
        ("`topology`", network.topology),
        ("`secret_manager`", network.secret_manager),
        ("`modvisor.openagents`", modvisor.openagents),
        ("`mods`, by path", ModView(network._core, ModConfig("./a", "a"))),
    ):
        public = {each for each in {*dir(part), *vars(part)} if each[0] != "_" and each not in _IMPORTED}
        assert public == set(rows[name])


_IMPORTED = {"annotations", "import_module", "TYPE_CHECKING", "Any"}


def _cells(line: str) -> list[str]:
    return line.split("|")
