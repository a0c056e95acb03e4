"""More than a hundred events over all thirteen mods, in one order."""

from . import coordination, files, forum, messaging, pages, simple
from .steps import Join, Kept, Leave, Send, Step, at, resolved

GROUPS = {"developers": "d" * 64, "admin": "a" * 64}
"""The groups that have a password, and its hash."""

MODS: dict[str, dict[str, object]] = {
    "openagents.mods.workspace.wiki": {},
    "openagents.mods.workspace.project": {"project_templates": pages.TEMPLATES, "max_concurrent_projects": 2},
    "openagents.mods.workspace.messaging": {"default_channels": ["general", {"name": "dev", "description": "work"}]},
    "openagents.mods.workspace.forum": {},
    "openagents.mods.workspace.documents": {},
    "openagents.mods.workspace.feed": {},
    "openagents.mods.workspace.shared_artifact": {},
    "openagents.mods.workspace.default": {},
    "openagents.mods.core.shared_cache": {},
    "openagents.mods.discovery.agent_discovery": {},
    "openagents.mods.coordination.task_delegation": {},
    "openagents.mods.communication.simple_messaging": {},
    # The last one: it answers each registration, and in OpenAgents the mods behind it hear of none.
    "openagents.mods.test_mods.basic_test": {},
}
"""The mods in load order, and the config of each."""

ARRIVALS: list[Step] = [
    Join("alice", "developers", GROUPS["developers"], {"capabilities": {"skills": ["python", "sql"], "level": 3}}),
    Join("bob", metadata={"capabilities": {"skills": ["prose"]}}),
    Join("carol", "admin", GROUPS["admin"]),
]

DEPARTURES: list[Step] = [
    Leave("bob"),
    Send("alice", "thread.channels.list", {"action": "list_channels"}, unordered=("agents",)),
    Send("alice", "discovery.agents.list", {}, unordered=("agents",)),
    Send("alice", "agent.note", {"text": "after he left"}, to="agent:carol"),
    Join("bob", metadata={"capabilities": {"skills": ["prose", "poems"]}}),
    Send("alice", "discovery.capabilities.get", {"agent_id": "bob"}),
    Send("alice", "thread.channel_message.post", {"channel": "general", "content": {"text": "welcome back"}}),
    Send("alice", "test.get_state", {}, unordered=("registered_agents", "recent_events")),
]

SCRIPT: list[Step] = [
    *ARRIVALS,
    *pages.STEPS,
    *messaging.STEPS,
    *forum.STEPS,
    *files.STEPS,
    *coordination.STEPS,
    *simple.STEPS,
    *DEPARTURES,
]

__all__ = ["GROUPS", "MODS", "SCRIPT", "Join", "Kept", "Leave", "Send", "Step", "at", "resolved"]
