"""The network that the tests of one file share. A file with another one defines `shared` itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.http.serving import TALKER, Served, shared_network


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with shared_network(tmp_path_factory.mktemp("shared"), {"talker": TALKER}) as served:
        yield served


@pytest.fixture
async def served(shared: Served) -> AsyncIterator[Served]:
    """The shared network, with a mod that answers ``test.*`` and with no agent at first."""
    yield shared
    await shared.forget_agents()
