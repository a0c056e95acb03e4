"""A worker of another framework holds a true mirror of agents and channels, and changes channels in order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.events import mirror_requests
from tests.conftest import until

pytestmark = pytest.mark.anyio

WORKER = str(Path(__file__).with_name("foreign_worker.py"))
PATH = "their.mods.workspace.forum"


async def load(network: AgentNetwork, mod_path: str = PATH, config: Any = None, **entry: Any) -> EventResponse:
    loaded = await network.load_mod(mod_path, config or {}, command=[sys.executable, WORKER], **entry)
    assert loaded.success, loaded.message
    return loaded


async def ask(network: AgentNetwork, what: str = "show", mod: str = "forum", **payload: Any) -> Any:
    answer = await network.process_event(Event(f"foreign.{what}", "agent:asker", f"mod:{mod}", payload=payload))
    assert answer.success, (answer.message, answer.data)
    return answer.data


async def requests(network: AgentNetwork, *asked: list[Any], mod: str = "forum") -> list[Any]:
    return (await ask(network, "ask", mod, requests=asked))["answers"]


def channel(do: str, name: str, agent_id: str | None = None) -> list[Any]:
    return ["channel", {"do": do, "channel": name} | ({} if agent_id is None else {"agent_id": agent_id})]


def event(name: str, destination: str | None = None, **more: Any) -> list[Any]:
    return ["send_event", {"event": {"event_name": name, "destination_id": destination, **more}, "cause": None}]


async def members(network: AgentNetwork, name: str) -> Any:
    answer = await network.process_event(Event("system.get_channel_members", payload={"channel_id": name}))
    return answer.data["members"] if answer.success else None


async def inbox(network: AgentNetwork, agent_id: str) -> list[str]:
    return [event.event_name for event in await network.poll_events(agent_id)]


# -- the mirror


async def test_what_is_there_before_the_load_is_known_and_every_change_is_seen_by_the_next_event(
    make_network: Callable[..., AgentNetwork],
) -> None:
    network = make_network(agent_groups={"staff": {}})
    await network.initialize()
    await network.register_agent("alice", {"name": "Alice"}, group="staff")
    await network.register_agent("bob")
    await network.process_event(Event("system.add_channel_member", payload={"channel": "general", "agent_id": "bob"}))
    await load(network)
    seen = await ask(network)
    assert seen["agents"] == {"alice": [{"name": "Alice"}, "staff"], "bob": [{}, None]}
    assert (seen["channels"], seen["changes"]) == ({"general": ["bob"]}, [])
    assert seen["network_id"] == network.config.network_id

    await network.register_agent("carol")
    assert "carol" in (await ask(network))["agents"]
    await network.process_event(Event("system.add_channel_member", payload={"channel": "general", "agent_id": "carol"}))
    assert (await ask(network))["channels"] == {"general": ["bob", "carol"]}
    await network.register_agent("alice", {"name": "Al"})
    assert (await ask(network))["agents"]["alice"] == [{"name": "Al"}, "staff"]
    await network.unregister_agent("bob")
    seen = await ask(network)
    assert (set(seen["agents"]), seen["channels"]) == ({"alice", "carol"}, {"general": ["carol"]})
    await network.process_event(Event("system.remove_channel", payload={"channel": "general"}))
    assert (await ask(network))["channels"] == {}


async def test_each_process_of_a_mod_has_a_mirror_of_its_own(network: AgentNetwork) -> None:
    await network.register_agent("alice")
    await load(network, restart={"first_delay": 0.0}, max_attempts=1)
    mirrors = network._running().agents.mirrors  # type: ignore[attr-defined]
    assert len(mirrors) == 1
    first = (await ask(network))["pid"]
    assert (await network.reload_mod("forum")).success
    await network.register_agent("bob")
    second = await ask(network)
    assert second["pid"] != first
    assert (set(second["agents"]), second["changes"]) == ({"alice", "bob"}, [["agent", "bob", {}, None]])
    assert len(mirrors) == 2, "the previous version rests, and may serve again"
    await network.register_agent("carol")
    await network.process_event(
        Event("foreign.crash", "agent:a", "mod:forum")
    )  # on probation: the previous one is back
    await until(lambda: network.get_loaded_mods()["forum"]["state"] == "ready")
    back = await ask(network)
    assert (back["pid"], set(back["agents"])) == (first, {"alice", "bob", "carol"})
    await network.process_event(Event("foreign.crash", "agent:a", "mod:forum"))
    await until(lambda: network.get_loaded_mods()["forum"]["state"] == "ready")
    third = await ask(network)
    assert (set(third["agents"]), third["changes"]) == ({"alice", "bob", "carol"}, [])
    assert third["pid"] not in (first, second["pid"])
    await network.unload_mod("forum")
    assert len(mirrors) == 0


async def test_workers_and_versions_have_mirrors_of_their_own(network: AgentNetwork) -> None:
    await load(network, workers=2, partition_by="payload.key")
    await load(network, mod_id="forum@2")
    await network.register_agent("alice")
    pids = set()
    for key in range(8):
        seen = await ask(network, key=key)
        pids.add(seen["pid"])
        assert set(seen["agents"]) == {"alice"}
    assert len(pids) == 2
    assert set((await ask(network, mod="forum@2"))["agents"]) == {"alice"}
    assert len(network._running().agents.mirrors) == 3  # type: ignore[attr-defined]


async def test_a_worker_that_asks_for_none_is_told_nothing(network: AgentNetwork) -> None:
    await load(network, config={"mirror": False, "host": None})
    await network.register_agent("alice")
    seen = await ask(network)
    assert (seen["agents"], seen["changes"]) == ({}, [])


async def test_a_worker_gets_one_mirror(network: AgentNetwork) -> None:
    await load(network)
    [refused] = await requests(network, ["mirror", None])
    assert refused == {"refused": "conflict", "message": "mod forum has a mirror already"}


async def test_a_worker_that_does_not_read_is_ended_and_nobody_waits_for_it(
    network: AgentNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_requests, "HIGH_WATER", 100_000)
    monkeypatch.setattr(mirror_requests, "MAX_UNREAD", 300_000)
    await load(network, restart={"first_delay": 0.0}, max_attempts=1, limits={"hang_timeout": 60.0})
    await load(network, mod_id="other")
    first, former = (await ask(network))["pid"], network.get_loaded_mods()["forum"]["pid"]
    asleep = asyncio.create_task(network.process_event(Event("foreign.sleep", "agent:a", "mod:forum", {"seconds": 60})))
    await until(lambda: network.get_network_stats()["mods"]["forum"]["traffic"]["in_flight"] == 1)
    incarnation = network._running().mods.find("forum").incarnation  # type: ignore[attr-defined]
    registry = network._running().agents  # type: ignore[attr-defined]
    most = 0
    while not asleep.done():
        registry.register(f"a{len(registry)}", {"text": "x" * 10_000}, trusted=True)
        most = max(most, incarnation.pipe.buffered)
        await asyncio.sleep(0.0001)
    agents = len(registry)
    assert most < 500_000, "what waits for it is bounded"
    assert not asleep.result().success
    assert len((await ask(network, mod="other"))["agents"]) == agents, "who reads has it all"
    await until(lambda: network.get_loaded_mods()["forum"]["state"] == "ready")
    again = await ask(network)
    assert (len(again["agents"]), again["pid"] != first) == (agents, True)
    crashes = network.get_crashes("forum")  # also the next process, if it starts while all these agents register
    assert all("does not read its pipe" in crash["detail"] for crash in crashes), crashes
    assert crashes[0]["pid"] == former


async def test_a_mirror_of_many_pages_comes_whole_while_agents_come_and_go(network: AgentNetwork) -> None:
    agents = network._running().agents  # type: ignore[attr-defined]
    for number in range(3000):
        agents.register(f"a{number}", {"n": number}, trusted=True)
        agents.join(f"c{number % 7}", f"a{number}")

    async def change() -> None:
        for number in range(0, 3000, 3):
            agents.unregister(f"a{number}")
            agents.register(f"b{number}", {}, trusted=True)
            agents.join("c0", f"b{number}")
            await asyncio.sleep(0)

    await asyncio.gather(load(network), change())
    seen = await ask(network)
    assert seen["agents"] == {agent.agent_id: [agent.metadata, agent.group] for agent in agents}
    assert seen["channels"] == {name: agents.channel_members(name) for name in agents.channels()}


# -- channels


async def test_a_mod_changes_channels_and_hears_of_its_own_changes(network: AgentNetwork) -> None:
    for name in ("alice", "bob"):
        await network.register_agent(name)
    await load(network)
    answers = await requests(
        network,
        channel("join", "general", "alice"),
        channel("join", "general", "bob"),
        channel("join", "general", "bob"),
        channel("leave", "general", "alice"),
        channel("join", "other", "alice"),
        channel("close", "other"),
    )
    assert answers == [None] * 6
    assert (await members(network, "general"), await members(network, "other")) == (["bob"], None)
    seen = await ask(network)
    assert seen["channels"] == {"general": ["bob"]}
    assert seen["changes"] == [
        ["join", "general", "alice"],
        ["join", "general", "bob"],
        ["leave", "general", "alice"],
        ["join", "other", "alice"],
        ["close", "other"],
    ]


async def test_channels_and_events_are_taken_in_the_order_in_which_they_were_sent(network: AgentNetwork) -> None:
    for name in ("alice", "bob"):
        await network.register_agent(name)
    await load(network)
    for _ in range(20):
        answers = await requests(
            network,
            channel("join", "x", "alice"),
            event("said.one", "channel:x"),
            channel("join", "x", "bob"),
            channel("leave", "x", "alice"),
            event("said.two", "channel:x"),
            channel("close", "x"),
            event("said.three", "channel:x"),
        )
        refused = [answer["refused"] for answer in answers if answer is not None and "refused" in answer]
        told = [answer["success"] for answer in answers if answer is not None]
        assert (refused, told) == ([], [True, True, False]), answers
        assert (await inbox(network, "alice"), await inbox(network, "bob")) == (["said.one"], ["said.two"])


async def test_a_change_of_a_channel_that_cannot_be_is_refused_by_name(network: AgentNetwork) -> None:
    await network.register_agent("alice")
    await load(network)
    answers = await requests(
        network,
        channel("join", "general", "nobody"),
        channel("join", "a b", "alice"),
        channel("leave", "none", "alice"),
        channel("close", "none"),
        channel("open", "general", "alice"),
        channel("join", "general"),
        ["channel", None],
    )
    codes = [answer and answer["refused"] for answer in answers]
    assert codes == ["no_such_agent", "invalid_event", None, None, "invalid_event", "invalid_event", "invalid_event"]
    assert "expected {do: join, leave or close, channel: text, agent_id: text}" in answers[4]["message"]
    assert (await ask(network))["changes"] == []


@pytest.mark.parametrize("entry", [{"probation": None}, {}, {"reload": "stop_first"}])
async def test_what_a_replaced_process_removes_at_its_end_stays(network: AgentNetwork, entry: dict[str, Any]) -> None:
    await network.register_agent("alice")
    early, late = [channel("join", "kept", "alice")], [channel("close", "kept")]
    await load(network, config={"early": early, "late": late}, **entry)
    assert (await network.reload_mod("forum")).success
    assert (await network.restart_mod("forum")).success
    assert await members(network, "kept") == ["alice"]
    assert (await network.unload_mod("forum")).success
    assert await members(network, "kept") is None


# -- what a mod of another framework may do


async def test_it_speaks_for_agents_and_changes_channels_without_a_line_of_config(network: AgentNetwork) -> None:
    await network.register_agent("alice")
    early = [channel("join", "early", "alice"), event("said.early", "agent:alice", source_id="agent:bob")]
    await load(network, config={"early": early})
    assert await inbox(network, "alice") == ["said.early"]
    assert (await ask(network))["early"][0] is None
    answers = await requests(
        network,
        event("said.late", "agent:alice", source_id="carol"),
        event("system.add_channel_member", payload={"channel": "late", "agent_id": "alice"}),
        event("said.never", "agent:alice", source_id="mod:other"),
        event("system.mod.unload", payload={"mod_id": "forum"}),
    )
    assert [answer.get("success", answer.get("refused")) for answer in answers] == [True, True, "forbidden", False]
    assert await members(network, "late") == ["alice"]
    figures = network.get_network_stats()["mods"]["forum"]
    assert (figures["host"], figures["permissions"], figures["speak_for"]) == ("openagents", ["channels"], ["agent:*"])


async def test_what_its_entry_says_rules(network: AgentNetwork) -> None:
    await network.register_agent("alice")
    early = [channel("join", "early", "alice"), event("said.early", "agent:alice", source_id="agent:bob")]
    await load(network, config={"early": early}, permissions=[], speak_for=["mod:other"])
    asked = [
        channel("join", "late", "alice"),
        event("said.late", "agent:alice", source_id="agent:bob"),
        event("said.other", "agent:alice", source_id="mod:other"),
    ]
    late = await requests(network, *asked)
    assert [answer["refused"] for answer in [*(await ask(network))["early"], *late[:2]]] == ["forbidden"] * 4
    assert "needs the permission 'channels' in its config" in late[0]["message"]
    assert await inbox(network, "alice") == ["said.other"]


async def test_a_mod_of_modvisor_may_do_only_what_its_entry_says(network: AgentNetwork) -> None:
    await network.register_agent("alice")
    await load(network, config={"host": None})  # it has asked for a mirror, which gives it nothing
    answers = await requests(
        network,
        channel("join", "x", "alice"),
        event("said.it", "agent:alice", source_id="agent:bob"),
        event("said.it", "agent:alice", source_id=f"mod:{PATH}"),
    )
    assert [answer["refused"] for answer in answers] == ["forbidden"] * 3
    await load(network, mod_id="trusted", config={"host": "unheard of"}, permissions=["channels"])
    assert await requests(network, channel("join", "x", "alice"), mod="trusted") == [None]


async def test_a_network_file_that_did_not_change_reloads_no_such_mod(
    make_network: Callable[..., AgentNetwork],
) -> None:
    entry = {"path": PATH, "command": [sys.executable, WORKER]}
    network = make_network(mods=[entry])
    await network.initialize()
    before = (await ask(network))["pid"]
    changes = await network.reconfigure(make_network(mods=[entry]).config)
    assert (changes.changed, (await ask(network))["pid"]) == ({}, before)
    changes = await network.reconfigure(make_network(mods=[{**entry, "permissions": []}]).config)
    assert list(changes.changed) == ["forum"]
    await network.register_agent("alice")
    [refused] = await requests(network, channel("join", "x", "alice"))
    assert refused["refused"] == "forbidden"


# -- its names


async def test_it_is_called_by_its_path_or_its_id(network: AgentNetwork) -> None:
    await network.register_agent("alice")
    await load(network, config={"patterns": ["*"]})
    await load(network, mod_id="other", config={"patterns": ["*"], "host": None})
    for name in ("forum", PATH):
        assert (await ask(network, mod=name))["event"]["destination_id"] == f"mod:{name}"
    # An event of its own passes it, under either name, and comes to the other mod.
    for source in (None, "mod:forum", f"mod:{PATH}"):
        [answer] = await requests(network, event("foreign.show", source_id=source))
        got = answer["data"]["event"]
        assert got["source_id"] == (source or "mod:forum")
        assert (got["via"], answer["data"]["pid"]) == ("mod:forum", (await ask(network, mod="other"))["pid"])
    assert (await network.unload_mod("other")).success
    for source in (None, f"mod:{PATH}"):
        [answer] = await requests(network, event("said.it", "agent:alice", source_id=source))
        assert answer["success"], "delivered: no mod has seen it"
    assert await inbox(network, "alice") == ["said.it", "said.it"]
    assert (await network.unload_mod(PATH)).data["mod_id"] == "forum"
