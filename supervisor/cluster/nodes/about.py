"""What a node knows of its cluster without asking the others: who is there, how the servers are reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ....ipc.event import EventResponse
from ...config import ClusterConfig
from ...fleet import Mod, ModElsewhere, units_of

NO_NODE = "no node that is there may run it now"


class Reached(Protocol):
    """The connection to the servers."""

    problem: str

    @property
    def dropped(self) -> Mapping[str, int]: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def server(self) -> str: ...


class Member(Protocol):
    """One node, as it tells of itself."""

    @property
    def node(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def labels(self) -> Iterable[str]: ...
    @property
    def value(self) -> Mapping[str, Any]: ...


def about(
    config: ClusterConfig, link: Reached, nodes: Iterable[Member], mods: Iterable[Mod], mixed: list[dict[str, str]]
) -> dict[str, Any]:
    """Return the cluster: the servers, the nodes as they tell of themselves, and what is not as it should be.

    Args:
        mixed: mods whose code is not the same on all nodes.
    """
    return {
        "network": config.network,
        "node": config.node,
        "servers": list(config.servers),
        "server": link.server,
        "is_connected": link.is_connected,
        "problem": link.problem or None,
        "replicas": config.replicas,
        "lease": config.lease,
        "dropped": dict(link.dropped),
        "nodes": [_of_node(each) for each in sorted(nodes, key=lambda each: each.node)],
        "unplaced": list(_unplaced(mods)),
        "mixed": mixed,
    }


def _of_node(member: Member) -> dict[str, Any]:
    draining = bool(member.value.get("draining"))
    return {"node": member.node, "version": member.version, "labels": list(member.labels), "draining": draining}


def _unplaced(mods: Iterable[Mod]) -> Iterable[dict[str, Any]]:
    for mod in units_of(mods):
        if isinstance(mod, ModElsewhere) and mod.node is None:
            yield {"mod_id": mod.mod_id, "why": mod.last_error or NO_NODE}


def handed_over(node: str, before: list[str], left: list[str]) -> EventResponse:
    """Return what came of a drain, from the mods that could move and those that run there still."""
    count = len(set(before) - set(left))
    text = f"node {node} has handed over {count} mod{'' if count == 1 else 's'}"
    if left:
        text += f"; these stay, as no other node may run them: {', '.join(left)}"
    return EventResponse(True, text, {"node": node, "left": left})
