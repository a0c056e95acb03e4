"""The network that the tests of one file share: a talking mod, a wiki, a group with a password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from tests.http.serving import TALKER, Served, shared_network

PASSWORD = "crew's own"
GROUPS = {"crew": {"password_hash": sha256(PASSWORD.encode()).hexdigest(), "permissions": []}}


@pytest.fixture(scope="module")
async def served_to_all(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("network")
    mods = ["./talker", "modvisor.mods.workspace.wiki"]
    async with shared_network(folder, {"talker": TALKER}, mods=mods, agent_groups=GROUPS) as served:
        yield served


@pytest.fixture
async def served(served_to_all: Served) -> AsyncIterator[Served]:
    """It, with nobody registered."""
    yield served_to_all
    await served_to_all.forget_agents()
