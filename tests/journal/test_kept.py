"""The journal as a store of accepted events, dead letters and checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modvisor.supervisor.journal import Journal

from .kept_contract import CONFIG, Kept, KeptContract

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class TestJournal(KeptContract):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self._file = tmp_path / "network.db"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Kept]:
        journal = Journal(self._file, CONFIG)
        await asyncio.to_thread(journal.open)
        try:
            yield journal
        finally:
            await asyncio.to_thread(journal.close)
