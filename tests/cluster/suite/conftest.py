"""Each test of this folder runs twice: with the mods on the node of the agents, and with the mods on another node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork
from tests.cluster.networks import Nodes, nodes
from tests.cluster.servers import Servers
from tests.conftest import until

from .pair import Pair, pair_of

__all__ = ["nodes"]

Running = Callable[..., Awaitable[AgentNetwork]]


@pytest.fixture(scope="package", params=["here", "elsewhere"])
async def pair(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """Two nodes that the tests of this folder share."""
    home = "a" if request.param == "here" else "b"
    async with pair_of(servers, tmp_path_factory.mktemp("pair"), home) as pair:
        yield pair


@pytest.fixture(params=["here", "elsewhere"])
def running(request: pytest.FixtureRequest, nodes: Nodes, write_mod: Callable[..., str]) -> Running:
    """Run a network with mods, given as name=source; return the node of the agents."""

    async def running(**sources: str) -> AgentNetwork:
        home = "a" if request.param == "here" else "b"
        mods: list[dict[str, Any]] = [
            {"path": write_mod(name, source), "config": {"public": True}, "placement": {"on": [home]}}
            for name, source in sources.items()
        ]
        a, b = (nodes(name, mods, lease=10.0) for name in "ab")
        await asyncio.gather(a.initialize(), b.initialize())
        await until(lambda: all(each["state"] == "ready" for each in a.get_loaded_mods().values()))
        assert set(a.mod_nodes().values()) == {home}
        return a

    return running
