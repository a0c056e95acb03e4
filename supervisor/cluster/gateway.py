"""The way of an event through a network of several nodes: it follows its mod, and its delivery ends at all nodes."""

from __future__ import annotations

from ..events import Gateway, TracedGateway
from .agents.spread import SpreadGateway
from .events.following import FollowingGateway


class NodeGateway(SpreadGateway, FollowingGateway):
    """Does what each of them does."""


class TracedNodeGateway(NodeGateway, TracedGateway):
    """Records spans, too."""


def gateway_of_node(*, is_traced: bool) -> type[Gateway]:
    """Return the kind of gateway that a node has."""
    return TracedNodeGateway if is_traced else NodeGateway
