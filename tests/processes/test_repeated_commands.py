"""A retry of a command of the network gets the first answer, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from modvisor.supervisor import AgentNetwork, Event

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]
GROUPS = {"staff": {"permissions": ["mods"]}}


def load(name: str, event_id: str, **more: object) -> Event:
    return Event("system.mod.load", "agent:boss", event_id=event_id, payload={"mod_path": f"./{name}", **more})


async def test_a_load_is_not_done_twice(network: AgentNetwork, write_mod: WriteMod) -> None:
    write_mod("echo")
    first = await network.process_event(load("echo", "1"))
    again = await network.process_event(load("echo", "1"))
    assert first.success, first
    assert again == first, "the retry would fail: the mod is loaded"
    assert (await network.process_event(load("echo", "2"))).error == "already_loaded"
    unload = Event("system.mod.unload", "agent:boss", event_id="3", payload={"mod_id": "echo"})
    assert (await network.process_event(unload)) == (await network.process_event(unload))


async def test_a_retry_joins_the_command_under_way(network: AgentNetwork, write_mod: WriteMod) -> None:
    write_mod("echo")
    first, again = await asyncio.gather(*(network.process_event(load("echo", "1")) for _ in range(2)))
    assert first.success, first
    assert again == first


async def test_a_command_that_failed_is_tried_again(network: AgentNetwork, write_mod: WriteMod) -> None:
    assert not (await network.process_event(load("echo", "1"))).success
    write_mod("echo")
    assert (await network.process_event(load("echo", "1"))).success


async def test_events_that_a_poll_took_are_not_lost_with_its_answer(network: AgentNetwork) -> None:
    await network.register_agent("alice")
    await network.process_event(Event("note.new", "agent:bob", "agent:alice", payload={"n": 1}))
    poll = Event("system.poll_messages", "agent:alice", event_id="1")
    first, again = [await network.process_event(poll) for _ in range(2)]
    assert [each["payload"] for each in first.data["messages"]] == [{"n": 1}]
    assert again == first
    fresh = await network.process_event(Event("system.poll_messages", "agent:alice", event_id="2"))
    assert fresh.data["messages"] == []


async def test_an_answer_is_for_its_sender_alone_and_a_secret_for_nobody(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    write_mod("echo")
    network = make_network(agent_groups=GROUPS)
    await network.initialize()
    secrets = {name: (await network.register_agent(name, group="staff")).data["secret"] for name in ("ann", "bob")}

    async def ask(name: str) -> tuple[bool, str | None]:
        event = load("echo", "1")
        event.source_id, event.secret = f"agent:{name}", secrets[name]
        response = await network.process_external_event(event)
        return response.success, response.error

    assert await ask("ann") == (True, None)
    assert await ask("bob") == (False, "already_loaded"), "not ann's answer"
    register = Event("system.register_agent", "agent:new", event_id="1", payload={"agent_id": "new"})
    first = await network.process_external_event(register)
    assert first.success
    assert not (await network.process_external_event(register)).success, "nobody gets the secret of another"


async def test_a_load_of_an_agent_with_limits_is_refused_by_name(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    write_mod("echo")
    network = make_network(agent_groups=GROUPS)
    await network.initialize()
    secret = (await network.register_agent("boss", group="staff")).data["secret"]
    event = load("echo", "1", limits={"memory": "1GB"}, env={"A": "b"})
    event.secret = secret
    refused = await network.process_external_event(event)
    assert (refused.error, str(refused.message)[:11]) == ("forbidden", "env, limits")
    assert network.get_loaded_mods() == {}
    granted = await network.process_event(load("echo", "2", limits={"open_files": 99}))
    assert granted.success, granted
    assert network.get_network_stats()["mods"]["echo"]["limits"]["open_files"]["limit"] == 99
