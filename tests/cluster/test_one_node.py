"""Agents of a network without a cluster cost what they cost before: nothing of other nodes is imported or asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from modvisor.supervisor.agents import AgentRegistry, SharedAgents
from modvisor.supervisor.agents.delivery import Inboxes
from modvisor.supervisor.cluster.agents.spread import SpreadGateway
from modvisor.supervisor.events import Gateway

pytestmark = pytest.mark.timeout(60)

WITHOUT = """
import sys
from modvisor.supervisor import AgentNetwork
import modvisor.supervisor.wiring, modvisor.supervisor.http
from modvisor.supervisor.agents import AgentRegistry
found = [name for name in sys.modules if name.endswith((".shared", ".mirrored", ".moving", ".parcels", ".given"))
         or ".supervisor.cluster." in f"{name}." or name.partition(".")[0] == "nats"]
print(*found)
"""

ELSEWHERE = {"home", "node", "elsewhere", "outcome", "arriving", "_parcel", "_given", "bring_home", "is_home"}
"""Names that only what knows of other nodes uses."""


def test_without_a_cluster_nothing_of_other_nodes_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_delivery_on_one_node_asks_nothing_about_nodes() -> None:
    way = [
        *(getattr(Inboxes, name) for name in ("deliver", "_deliver_to_one", "_deliver_to_many", "_put", "_receivers")),
        *(getattr(Inboxes, name) for name in ("poll", "tell", "_has_room", "_make_room")),
        *(getattr(Gateway, name) for name in ("_process", "_walk", "_deliver", "_to_inboxes")),
        AgentRegistry.authenticate,
    ]
    for step in way:
        assert ELSEWHERE.isdisjoint(step.__code__.co_names), step.__qualname__
    assert {"deliver", "_put", "tell", "poll"} <= vars(SharedAgents).keys()
    assert {"_walk", "_to_inboxes"} <= vars(SpreadGateway).keys()
