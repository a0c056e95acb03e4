"""The bundled mods work under `default`, with every part of it enforced; else they would not be loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BUNDLED = ("wiki", "project", "messaging", "analytics")

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("wiki.page.create", {"path": "home", "title": "Home", "content": "hello"}),
    ("project.create", {"name": "demo"}),
    ("messaging.channel.create", {"channel": "plans"}),
    ("analytics.summary.get", {}),
]


async def test_the_bundled_mods_work(make_network: Callable[..., AgentNetwork]) -> None:
    mods = [{"path": f"modvisor.mods.workspace.{name}", "required": True} for name in BUNDLED]
    network = make_network({"sandbox": "default"}, mods=mods)
    await network.initialize()
    await network.register_agent("alice")
    for name, payload in ASKED:
        response = await network.process_event(Event(name, "agent:alice", payload=payload))
        assert response.success, response
