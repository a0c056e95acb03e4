"""The bundled mods work under `default`, with every part of it enforced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modvisor.ipc.cell import missing
from modvisor.supervisor import AgentNetwork, Event

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
