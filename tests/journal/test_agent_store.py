"""The journal as a store of agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modvisor.supervisor.agents import AgentRegistry
from modvisor.supervisor.journal import Journal
from tests.agents.store_contract import CONFIG, GROUPS, AgentStoreContract

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class TestJournal(AgentStoreContract):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self._file = tmp_path / "network.db"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AgentRegistry]:
        journal = Journal(self._file)
        kept = await asyncio.to_thread(journal.open)
        registry = AgentRegistry(CONFIG, GROUPS, journal.record, commit=journal.together)
        registry.restore(kept.agents, kept.channels, kept.private, kept.invites)
        try:
            yield registry
        finally:
            await asyncio.to_thread(journal.close)
