"""A kicked agent is gone, stays away for a while, and everybody hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modvisor.ipc.event import Event
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.agents import Refusal

from ..registries import Registry, password

pytestmark = pytest.mark.timeout(60)


def test_a_kicked_id_stays_away_for_the_cooldown_but_for_a_trusted_caller() -> None:
    registry = Registry(kick_cooldown=10.0)
    registry.register("bob", {})
    assert registry.kick("bob") is not None
    assert registry.kick("bob") is None
    registry.time = 9.5
    with pytest.raises(Refusal, match="may register again in 1 s") as caught:
        registry.register("bob", {})
    assert (caught.value.code, caught.value.details["retry_after"]) == ("too_many", 1)
    registry.register("bob", {}, trusted=True)
    registry.unregister("bob")
    registry.time = 10.0
    registry.register("bob", {})


def test_ids_whose_time_is_over_are_forgotten() -> None:
    registry = Registry(kick_cooldown=10.0)
    for number in range(50):
        registry.time = float(number)
        registry.register(f"agent{number}", {})
        registry.kick(f"agent{number}")
    assert len(registry._kicked) == 10


def test_without_a_cooldown_a_kicked_agent_may_return_at_once() -> None:
    registry = Registry(kick_cooldown=None)
    registry.register("bob", {})
    registry.kick("bob")
    registry.register("bob", {})


@pytest.mark.anyio
async def test_only_a_manager_of_agents_kicks_and_all_others_hear_of_it(
    make_network: Callable[..., AgentNetwork],
) -> None:
    hashed = password("sesame")
    network = make_network(agent_groups={"admin": {"permissions": ["agents"], "password_hash": hashed}})
    await network.initialize()
    secrets = {}
    for agent, more in (("carol", {"password_hash": hashed}), ("bob", {}), ("alice", {})):
        secrets[agent] = (await _ask(network, "register_agent", agent, None, agent_id=agent, **more)).data["secret"]

    refused = await _ask(network, "kick_agent", "alice", secrets["alice"], target_agent_id="bob")
    assert (refused.success, refused.data["error"]) == (False, "forbidden")
    itself = await _ask(network, "kick_agent", "carol", secrets["carol"], target_agent_id="carol")
    assert (itself.success, itself.data["error"]) == (False, "bad_input")
    absent = await _ask(network, "kick_agent", "carol", secrets["carol"], target_agent_id="zoe")
    assert (absent.success, absent.data["error"]) == (False, "no_such_agent")

    kicked = await _ask(network, "kick_agent", "carol", secrets["carol"], target_agent_id="bob")
    assert kicked.success, kicked
    assert kicked.data["kicked_by"] == "carol"
    (told,) = await network.poll_events("alice")
    assert (told.event_name, told.payload["target_agent_id"]) == ("system.agent_kicked", "bob")
    unknown = await _ask(network, "heartbeat", "bob", secrets["bob"])
    assert unknown.data["error"] == "unauthenticated"
    again = await _ask(network, "register_agent", "bob", None, agent_id="bob")
    assert (again.success, again.data["error"]) == (False, "too_many")


async def _ask(network: AgentNetwork, command: str, agent: str, secret: str | None, **payload: Any) -> Any:
    return await network.process_external_event(Event(f"system.{command}", agent, payload=payload, secret=secret))
