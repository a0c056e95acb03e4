"""Agents, channels and groups as an operator sees them: everything but secrets. Pure."""

from __future__ import annotations

from typing import Any

from .agent import Agent
from .registry import AgentRegistry

POLL = "poll"


def described_agent(agent: Agent, agents: AgentRegistry) -> dict[str, Any]:
    """Return an agent as an operator sees it in a list."""
    inbox = agent.inbox
    return {
        "agent_id": agent.agent_id,
        "group": agent.group,
        "registered_at": agent.registered_at,
        "last_seen_at": agent.last_seen_at,
        "connected": _connected(agent),
        "inbox": {"events": inbox.held, "bytes": inbox.size, "dropped": agent.dropped},
        "subscriptions": len(agent.subscriptions),
        "channels": sorted(agents.channels_of(agent.agent_id)),
        "guest": agent.is_guest,
    }


def described_closely(agent: Agent, agents: AgentRegistry) -> dict[str, Any]:
    """Return an agent as an operator sees it alone: with its rights and subscriptions."""
    rights = agent.rights
    return {
        **described_agent(agent, agents),
        "metadata": agent.metadata,
        "address": agent.address,
        "patterns": sorted({pattern for each in agent.subscriptions.values() for pattern in each.patterns}),
        "rights": {
            "permissions": sorted(rights.permissions),
            "send": str(rights.send),
            "receive": str(rights.receive),
            "directory": rights.directory,
            "inbox_size": rights.inbox_size,
            "inbox_bytes": rights.inbox_bytes,
        },
    }


def described_channels(agents: AgentRegistry) -> list[dict[str, Any]]:
    """Return each channel with its members, by name."""
    return [
        {
            "channel": name,
            "members": agents.channel_members(name) or [],
            "private": name in agents.private,
            "created_by": agents.private.get(name),
        }
        for name in sorted(agents.channels())
    ]


def described_groups(agents: AgentRegistry) -> list[dict[str, Any]]:
    """Return each group of the network file, and each other one that agents are in: rights and number of agents."""
    configured = agents.groups
    return [
        {
            "group": name,
            "agents": len(members),
            "configured": name in configured,
            **({} if name not in configured else _group(configured[name])),
        }
        for name, members in sorted(agents.members_of_groups().items())
    ]


def _group(group: Any) -> dict[str, Any]:
    return {
        "description": group.description,
        "permissions": sorted(group.permissions),
        "send": list(group.send),
        "receive": list(group.receive),
        "directory": group.directory,
        "may_register": list(group.may_register),
        "has_password": group.password_hash is not None,
    }


def _connected(agent: Agent) -> str | None:
    """Return how an agent waits for its events right now; None if it does not wait."""
    stream = agent.stream
    if stream is not None:
        return stream.kind
    return POLL if agent.polling else None
