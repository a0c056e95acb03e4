"""What is too large for the servers is refused, or kept without what it can do without; nothing waits behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.journal.kept_contract import event, letter

from .conftest import Linked
from .servers import Servers
from .test_kept import journal_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

MOST = 32 * 1024
ROOM = {"durable_bytes": 10**6, "checkpoint_bytes": 10**6}


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A server that takes small messages only."""
    servers = Servers(1, tmp_path_factory.mktemp("nats"), more=[f"max_payload: {MOST}"])
    try:
        yield servers.start()
    finally:
        servers.close()


async def test_nothing_waits_behind_what_the_servers_do_not_take(
    narrow: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(await linked(narrow, "a"), tmp_path, 1, **ROOM) as journal, asyncio.timeout(10):
        await journal.save_checkpoint("work", "1", bytes(MOST + 1000))
        number = await journal.accept("work", event(1, MOST - 5000))
        burden = replace(letter(1), event=event(1, MOST - 5000).to_dict(), report={"trace": "x" * 10_000})
        assert await journal.bury(burden, seq=number)
        answered = await journal.accept("work", event(2))
        journal.answered(answered, bytes(MOST))
        await journal.accept("work", event(3))
        assert [each.event.payload["n"] for each in await journal.pending("work")] == [3]
        (kept,) = await journal.dead_letters()
        assert (kept.event["event_id"], kept.report) == ("event-1", None)
    async with journal_of(await linked(narrow, "b"), tmp_path, 2, **ROOM) as later:
        assert [each.event.payload["n"] for each in await later.pending("work")] == [3]
        checkpoint = await later.checkpoint("work")
        assert checkpoint is not None
        assert checkpoint.size > MOST
