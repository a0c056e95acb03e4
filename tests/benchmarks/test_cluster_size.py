"""The size of a cluster on paper: the model, and a small cluster that the server counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from benchmarks.cluster_size.checking import checked
from benchmarks.cluster_size.entries import KINDS
from benchmarks.cluster_size.measuring import measured
from benchmarks.cluster_size.model import Constants, Entry, Size, bounds, predicted
from benchmarks.cluster_size.report import report

ENTRY = Entry(written=100, watched=110, cpu_us=10, memory=1000)
CONSTANTS = Constants(dict.fromkeys(KINDS, ENTRY), writes=1000, caught_up=10_000, server_us=5)


def test_sessions_grow_with_the_square_of_the_nodes_and_mirrors_with_the_agents() -> None:
    quiet = Size(nodes=10, mods=0, agents=0, moves=0, changes=0, registrations=0)
    one, two = predicted(quiet, CONSTANTS), predicted(replace(quiet, nodes=20), CONSTANTS)
    assert two.server_messages == 4 * one.server_messages
    more = predicted(replace(quiet, agents=1000), CONSTANTS)
    assert more.node_memory - one.node_memory == 1000 * 4 * ENTRY.memory  # itself, its home, two channels
    assert more.server_messages == one.server_messages


def test_what_breaks_first_is_named_first_with_what_to_do() -> None:
    found = bounds(Size(), CONSTANTS)
    assert [each.used for each in found] == sorted((each.used for each in found), reverse=True)
    assert "then: " in report(Size(), CONSTANTS)


@pytest.mark.slow
def test_a_small_cluster_takes_what_the_model_says() -> None:
    async def run() -> None:
        found = await checked(Size(nodes=3, mods=50, agents=300), await measured())
        assert found.counted_join == pytest.approx(found.predicted_join, rel=0.15)
        assert found.counted_bytes == pytest.approx(found.predicted_bytes, rel=0.15)
        assert found.counted_messages == pytest.approx(found.predicted_messages, rel=0.15)

    asyncio.run(run())
