"""Who stands behind an event from outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event
from modvisor.supervisor.agents import AgentRegistry
from modvisor.supervisor.config.network.network import AgentsConfig
from modvisor.supervisor.events.senders import Sender, authenticated


@pytest.fixture
def agents() -> AgentRegistry:
    return AgentRegistry(AgentsConfig(), {}, lambda _kind, _data: None)


@pytest.fixture
def secret(agents: AgentRegistry) -> str:
    return agents.register("alice", {})[1]


def refusal(of: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ModvisorError) as caught:
        of()
    return caught.value.code, str(caught.value)


def test_an_agent_is_known_by_its_secret(agents: AgentRegistry, secret: str) -> None:
    sender = authenticated(Event("test.ask", "agent:alice", secret=secret), agents)
    assert sender == Sender(agent=agents.get("alice"))
    assert not sender.trusted


@pytest.mark.parametrize(("source", "secret"), [("agent:alice", "wrong"), ("agent:alice", None), ("agent:bob", "any")])
def test_an_agent_without_its_secret_is_told_what_to_do(agents: AgentRegistry, secret: str | None, source: str) -> None:
    agents.register("alice", {})
    code, text = refusal(lambda: authenticated(Event("test.ask", source, secret=secret), agents))
    assert code == Code.UNAUTHENTICATED
    assert "register and send the secret you get" in text


@pytest.mark.parametrize("source", [None, "mod:wiki", "system:system", "channel:general"])
@pytest.mark.parametrize("name", ["test.ask", "system.poll_messages"])
def test_only_agents_come_from_outside(agents: AgentRegistry, name: str, source: str | None) -> None:
    code, text = refusal(lambda: authenticated(Event(name, source), agents))
    assert (code, (source or "nobody") in text) == (Code.FORBIDDEN, True)


def test_two_commands_are_open_to_agents_that_are_not_registered(agents: AgentRegistry, secret: str) -> None:
    for name in ("system.register_agent", "system.health_check"):
        assert authenticated(Event(name), agents) == Sender()
        assert authenticated(Event(name, "agent:new"), agents) == Sender()
        assert authenticated(Event(name, "agent:alice", secret="wrong"), agents) == Sender()
        assert authenticated(Event(name, "agent:alice", secret=secret), agents).agent is agents.get("alice")
        code, text = refusal(lambda name=name: authenticated(Event(name, "mod:wiki"), agents))
        assert (code, text) == (Code.FORBIDDEN, "an event from outside cannot speak for mod:wiki")
