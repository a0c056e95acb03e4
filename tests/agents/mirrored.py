"""A mirror as a worker holds it: it applies pages and changes, and knows nothing else."""

from __future__ import annotations

from typing import Any

from modvisor.supervisor.agents import AgentRegistry, Mirror


class Copy:
    """What a worker knows of agents, groups and channels."""

    def __init__(self) -> None:
        self.agents: dict[str, tuple[Any, str | None]] = {}
        self.channels: dict[str, list[str]] = {}
        self.changes: list[list[Any]] = []
        self.pages = 0
        self.is_complete = False

    def page(self, page: dict[str, Any]) -> None:
        assert not self.is_complete
        self.pages += 1
        self.is_complete = page["last"]
        for agent in page["agents"]:
            self.agents[agent["agent_id"]] = agent["metadata"], agent["group"]
        for name, members in page["channels"].items():
            self.channels.setdefault(name, []).extend(members)
        for group, members in page["groups"].items():
            assert all(self.agents[agent_id][1] == group for agent_id in members)

    def change(self, changes: list[list[Any]]) -> None:
        for change in changes:
            self.changes.append(change)
            self._apply(*change)

    def _apply(self, kind: str, *what: Any) -> None:
        match kind, *what:
            case "agent", agent_id, metadata, group:
                self.agents[agent_id] = metadata, group
            case "gone", agent_id:
                assert not any(agent_id in members for members in self.channels.values())
                self.agents.pop(agent_id, None)
            case "join", name, agent_id:
                members = self.channels.setdefault(name, [])
                if agent_id not in members:
                    members.append(agent_id)
            case "leave", name, agent_id:
                members = self.channels.get(name, [])
                if agent_id in members:
                    members.remove(agent_id)
                if not members:
                    self.channels.pop(name, None)
            case "close", name:
                self.channels.pop(name, None)
            case _:
                raise AssertionError(f"unknown change {kind} {what}")

    @classmethod
    def of(cls, agents: AgentRegistry) -> Copy:
        """Copy all at once, and follow the changes from then on."""
        copy = cls()
        mirror = Mirror(agents, copy.change)
        agents.mirrors.add(mirror)
        for step in mirror.pages():
            for page in step:
                copy.page(page)
        return copy


def original(agents: AgentRegistry) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What a true copy holds."""
    registered = {agent.agent_id: (agent.metadata, agent.group) for agent in agents}
    return registered, {name: agents.channel_members(name) or [] for name in agents.channels()}
