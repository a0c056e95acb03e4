"""The bundled mods and those of OpenAgents work under `default`, with every part of it enforced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.cell import missing
from modvisor.supervisor import AgentNetwork, Event
from tests.openagents.driver import Driver, Record
from tests.openagents.ours import our_network
from tests.openagents.script import SCRIPT

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

BUNDLED = ("wiki", "project", "messaging", "analytics")

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("wiki.page.create", {"page": "home", "content": "hello"}),
    ("project.list", {}),
    ("messaging.channels", {}),
    ("analytics.summary", {}),
]


async def test_the_bundled_mods_work(make_network: Callable[..., AgentNetwork]) -> None:
    mods = [{"path": f"modvisor.mods.workspace.{name}", "required": True} for name in BUNDLED]
    network = make_network({"sandbox": "default"}, mods=mods)
    await network.initialize()
    await network.register_agent("alice")
    for mod in network.get_loaded_mods().values():
        assert mod["sandbox"]["profile"] == "default"
        assert missing(mod["sandbox"]["means"]) == {}
    for name, payload in ASKED:
        response = await network.process_event(Event(name, "agent:alice", payload=payload))
        assert response.success, response


@pytest.mark.slow
async def test_the_mods_of_openagents_answer_as_in_their_own_network(theirs: list[Record], tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    async with our_network(folder, sandbox="default") as network:
        ours = await Driver(network, str(folder)).run(SCRIPT)
    assert ours == theirs
