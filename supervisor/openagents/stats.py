"""`network.get_network_stats()`: the figures of a network by the names of OpenAgents."""

from __future__ import annotations

from typing import Any

from ..config import GROUP_PASSWORD
from .core import Core
from .topology import Topology


def dynamic_mods(core: Core) -> dict[str, dict[str, Any]]:
    """Return the mods that were loaded while the network ran, by id. Those of the configuration are not."""
    dynamic = {mod.mod_id for mod in core.serving() if not mod.from_file}
    return {mod_id: mod for mod_id, mod in core.get_loaded_mods().items() if mod_id in dynamic}


def network_stats(core: Core, topology: Topology) -> dict[str, Any]:
    """Return the keys that OpenAgents has, each with what is true here; ``modvisor`` holds our own figures."""
    ours, config = core.get_network_stats(), core.config
    loaded = dynamic_mods(core)
    groups = _groups(topology)
    return {
        "network_id": config.network_id,
        "network_name": config.name,
        "initialized": True,
        "is_running": core.is_running,
        "uptime_seconds": core.uptime,
        "agent_count": ours["agent_count"],
        "agents": _agents(topology),
        "groups": groups,
        "group_config": [
            {
                "name": name,
                "description": group.description or "",
                "agent_count": len(groups.get(name, ())),
                "metadata": group.metadata,
                "has_password": group.password_hash is not None,
            }
            for name, group in config.agent_groups.items()
        ],
        "default_agent_group": config.agents.default_group,
        "requires_password": config.agents.registration == GROUP_PASSWORD,
        "mods": [{"name": mod.path, "enabled": mod.enabled, "config": mod.config} for mod in config.mods],
        "dynamic_mods": {"loaded": list(loaded), "count": len(loaded), "details": loaded},
        "topology_mode": "centralized",
        "transports": [] if core.port is None else [{"type": "http", "config": {"port": core.port}}],
        "manifest_transport": "http",
        "recommended_transport": "http",
        "max_connections": config.agents.max_agents,
        "modvisor": ours,
    }


def _agents(topology: Topology) -> dict[str, dict[str, Any]]:
    return {
        agent_id: {
            "capabilities": agent.capabilities,
            "last_seen": agent.last_seen,
            "transport_type": agent.transport_type,
            "address": agent.address,
            "group": topology.agent_group_membership.get(agent_id),
        }
        for agent_id, agent in topology.agent_registry.items()
    }


def _groups(topology: Topology) -> dict[str, list[str]]:
    """Return the members of each group that has some."""
    groups: dict[str, list[str]] = {}
    for agent_id, group in topology.agent_group_membership.items():
        groups.setdefault(group, []).append(agent_id)
    return groups
