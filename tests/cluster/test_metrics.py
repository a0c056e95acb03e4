"""Figures of several nodes, as Prometheus adds them up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modvisor.supervisor import AgentNetwork
from tests.conftest import until

from .networks import Nodes, nodes, ping
from .test_following import DIES

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


async def sums(asked: AgentNetwork, *which: str | None) -> dict[str, float]:
    """Return the sums over the nodes, as they tell their figures when one is asked for each of these."""
    found: dict[str, float] = {}
    assert asked.everywhere is not None
    for node in which:
        text, _ = await asked.everywhere.metrics("text/plain", node)
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return {name: found.get(f"modvisor_{name}", 0.0) for name in ("dead_letters", "agents", "channels", "up")}


async def test_what_all_nodes_know_is_counted_once_whichever_nodes_are_there(
    nodes: Nodes, write_mod: Callable[..., str]
) -> None:
    mods = [
        {"path": write_mod("dies", DIES), "max_attempts": 1, "delivery": "at_least_once", "placement": {"on": ["b"]}}
    ]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    await b.register_agent("ann")
    await until(lambda: a.get_loaded_mods()["dies"]["state"] == "ready")
    assert (await ping(a, "dies", die=True)).error == "dead_lettered"
    await until(lambda: a.network_row()["dead_letters"] == b.network_row()["dead_letters"] == 1)
    await until(lambda: a.network_row()["agents"] == 1)
    expected = {"dead_letters": 1.0, "agents": 1.0, "channels": 0.0, "up": 2.0}
    assert await sums(b, None) == await sums(b, "a", "b") == expected
    await a.shutdown()
    assert await sums(b, None) == {**expected, "up": 1.0}
