"""Nodes of one cluster in one process, with the same mods and one server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.cluster.mods.placement import ranked
from modvisor_client import AgentClient
from tests.processes.conftest import Marked

from .servers import SECRET, Servers

LEASE = 3.0

Nodes = Callable[..., AgentNetwork]


def config_of_node(
    servers: Servers, network_id: str, folder: Path, name: str, mods: list[dict[str, Any]] | None = None, **cluster: Any
) -> dict[str, Any]:
    """Return what the network file says, for one node."""
    return {
        "network": {"name": network_id, "storage": str(folder / "state" / name)},
        "cluster": {
            "servers": list(servers.urls),
            "network": network_id,
            "node": name,
            "secret": SECRET,
            "lease": LEASE,
            **cluster,
        },
        "mods": mods or [],
    }


@pytest.fixture
async def nodes(servers: Servers, network_id: str, tmp_path: Path) -> AsyncIterator[Nodes]:
    """Make a node, which a test starts: `nodes("a", mods=[...])`. All end with the test."""
    made: list[AgentNetwork] = []

    def node(name: str, mods: list[dict[str, Any]] | None = None, **cluster: Any) -> AgentNetwork:
        config = config_of_node(servers, network_id, tmp_path, name, mods, **cluster)
        network = AgentNetwork.from_config(config, base_dir=tmp_path)
        made.append(network)
        return network

    yield node
    for network in reversed(made):
        await network.shutdown()


def name_for(node: str, *others: str) -> str:
    """Return the id of a mod that placement gives to a node."""
    return next(name for number in range(100) if ranked(name := f"mod{number}", [node, *others])[0] == node)


def homes(network: AgentNetwork) -> dict[str, str | None]:
    """Return the node of each mod, as a node sees it."""
    return network.mod_nodes()


async def take(client: AgentClient, count: int) -> list[int]:
    """Take messages of an agent, and return the number that each has."""
    taken: list[int] = []
    async with client.events("chat.*") as events:
        async for event in events:
            taken.append(event.payload["number"])
            if len(taken) == count:
                return taken
    return taken


async def ping(network: AgentNetwork, mod: str, **payload: Any) -> EventResponse:
    return await network.process_event(Event("test.ping", "agent:alice", f"mod:{mod}", payload=payload))


class NodeProcess:
    """A node that is a whole `modvisor run`, as on a machine of its own. Killed with all that it started."""

    def __init__(self, config: dict[str, Any], folder: Path, mark: dict[str, str]) -> None:
        node = config["cluster"]["node"]
        file = folder / f"{node}.yaml"
        file.write_text(json.dumps(config))
        self._file = folder / f"{node}.log"
        self._log = self._file.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modvisor", "run", str(file)],
            env=os.environ | mark, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip

    @property
    def log(self) -> str:
        return self._file.read_text()

    @property
    def is_ready(self) -> bool:
        """Whether its network has started, with the mods that it may run."""
        return "ready in" in self.log

    def kill(self) -> None:
        """End the supervisor as a machine that loses its power."""
        self.process.kill()
        self.process.wait()
        self._log.close()

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and wait until it has."""
        self.process.terminate()
        self.process.wait(30)
        self._log.close()


Process = Callable[..., NodeProcess]


@pytest.fixture
def process(servers: Servers, network_id: str, tmp_path: Path, marked: Marked) -> Iterator[Process]:
    """Start a node in a process of its own: `process("b", mods)`. All are killed after the test."""
    made: list[NodeProcess] = []

    def start(name: str, mods: list[dict[str, Any]], **cluster: Any) -> NodeProcess:
        config = config_of_node(servers, network_id, tmp_path, name, mods, **cluster)
        made.append(NodeProcess(config, tmp_path, marked.variable))
        return made[-1]

    yield start
    for each in made:
        each.kill()
