"""The mirror of a network: pages first, then changes."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.ipc.errors import RemoteProtocolError
from modvisor.worker.hosts.openagents.channels import Call
from modvisor.worker.hosts.openagents.mirror import Mirror


def agent(agent_id: str, group: str | None = None) -> dict[str, Any]:
    return {"agent_id": agent_id, "metadata": {"of": agent_id}, "group": group}


def test_pages_add_up_and_changes_come_in_between() -> None:
    mirror = Mirror(lambda _call: None)
    mirror.take_page({"agents": [agent("alice", "admin")], "channels": {"general": ["alice"]}, "last": False})
    mirror.take_changes({"changes": [["agent", "carol", {}, None], ["join", "general", "carol"]]})
    mirror.take_page({"agents": [agent("bob")], "channels": {"general": ["bob"]}, "last": True})
    assert list(mirror.agents) == ["alice", "carol", "bob"]
    assert mirror.agents["alice"].metadata == {"of": "alice"}
    assert mirror.groups == {"alice": "admin"}
    assert mirror.channels.members("general") == ["alice", "carol", "bob"]


def test_changes_are_applied_in_order_and_new_and_gone_agents_are_told() -> None:
    mirror, told = Mirror(lambda _call: None), []
    mirror.on_agent = lambda agent: told.append(("new", agent.agent_id))
    mirror.on_gone = lambda agent_id: told.append(("gone", agent_id))
    mirror.take_changes(
        {
            "changes": [
                ["agent", "alice", {}, "guest"],
                ["join", "general", "alice"],
                ["agent", "alice", {"of": 2}, "admin"],
                ["gone", "alice"],
                ["gone", "nobody"],
                ["agent", "bob", {}, "admin"],
                ["agent", "bob", {}, None],
            ]
        }
    )
    assert told == [("new", "alice"), ("gone", "alice"), ("new", "bob")]
    assert (list(mirror.agents), mirror.groups) == (["bob"], {})
    assert not mirror.channels.exists("general")


def test_a_join_that_waits_for_an_agent_is_sent_when_it_registers() -> None:
    sent: list[Call] = []
    mirror = Mirror(sent.append)
    mirror.channels.add("general", "alice")
    assert sent == []
    mirror.take_changes({"changes": [["agent", "alice", {}, None]]})
    assert [(call.do, call.agent_id) for call in sent] == [("join", "alice")]


@pytest.mark.parametrize("params", [{"changes": [["agent"]]}, {"changes": [["unknown", "alice"]]}])
def test_what_is_no_change_breaks_the_protocol(params: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="changes: unknown change"):
        Mirror(lambda _call: None).take_changes(params)


def test_what_is_no_page_breaks_the_protocol() -> None:
    with pytest.raises(RemoteProtocolError, match="mirror: expected"):
        Mirror(lambda _call: None).take_page({"agents": 3})
