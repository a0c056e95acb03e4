"""Writes behind the fence of a mod that the servers do not store, or that nobody waits for any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.cluster.kept.journal import ClusterJournal
from modvisor.supervisor.cluster.link import NoQuorum
from tests.journal.kept_contract import CONFIG, event, letter

from .conftest import Linked
from .servers import Servers
from .test_kept import journal_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


async def test_a_checkpoint_that_the_servers_do_not_store(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    """A mod that is about to end waits for it, and its node with it."""
    link = await linked(servers, "a", timeout=0.1)
    async with journal_of(link, tmp_path, 1) as journal:
        fenced = (await journal.log.of("work")).fenced
        send, tries = fenced._send, list[None]()

        async def not_stored(*_: Any) -> int:
            tries.append(None)
            raise NoQuorum("the servers did not answer in time")

        fenced._send = not_stored  # type: ignore[method-assign]
        with pytest.raises(NoQuorum, match=r"did not store the checkpoint of mod work within 0.2 s"):
            await journal.save_checkpoint("work", "1", "state")
        fenced._send = send  # type: ignore[method-assign]
        await fenced.flush()
        checkpoint = await journal.checkpoint("work")
        assert checkpoint is not None, "it is stored when the servers are back"
        assert tries


async def test_who_waits_for_all_that_is_to_be_written_does_not_wait_for_what_comes_behind(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
        fenced = (await journal.log.of("work")).fenced
        send, is_busy = fenced._send, True

        async def sent_and_more_behind(*arguments: Any) -> int:
            if is_busy:
                fenced.write(fenced.put("busy.x", 1))
            return await send(*arguments)

        fenced._send = sent_and_more_behind  # type: ignore[method-assign]
        fenced.write(fenced.put("first.x", 1))
        try:
            async with asyncio.timeout(5):
                await fenced.flush()
        finally:
            is_busy = False


async def test_an_event_does_not_wait_any_more_whose_dead_letter_was_stored_for_nobody(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
        number = await journal.accept("work", event(1))
        burying = asyncio.create_task(journal.bury(letter(1), seq=number))
        log = await journal.log.of("work")
        while not log.fenced.waiting():
            await asyncio.sleep(0)
        burying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await burying
        await log.fenced.flush()
        assert await journal.pending("work") == []


async def test_an_event_that_was_under_way_to_a_mod_as_it_was_swapped_is_given_to_the_successor(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    """It is stored when all the others are written down; what the successor keeps does not wait for ever behind it."""
    link = await linked(servers, "a", timeout=0.3)
    async with journal_of(link, tmp_path, 1) as journal:
        await journal.accept("work", event(1))
        await journal.open_for("work", "work2")
        journal.hand_on("work", "work2")
        await journal.handed_on("work", "work2")
        await journal.accept("work", event(2))
        await journal.accept("work2", event(3))
        assert [each.event.payload["n"] for each in await journal.pending("work2")] == [1, 2, 3]
    async with journal_of(await linked(servers, "b"), tmp_path, 2) as other:
        assert [each.event.payload["n"] for each in await other.pending("work2")] == [1, 2, 3]
        assert await other.pending("work") == []


async def test_a_swap_that_was_lost_before_it_was_recorded_holds_up_no_later_one(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    link, token = await linked(servers, "a", timeout=0.3), [1]
    journal = ClusterJournal(tmp_path / "a.db", CONFIG, link, lambda _: token[0])
    await journal.join()
    await journal.accept("work", event(1))
    await journal.open_for("work", "work2")
    journal.hand_on("work", "work2")
    token[0] = 2  # the session was lost, and the mods came back
    assert [each.event.payload["n"] for each in await journal.pending("work")] == [1]
    await journal.open_for("work", "work2")
    journal.hand_on("work", "work2")
    async with asyncio.timeout(5):
        await journal.handed_on("work", "work2")
    assert [each.event.payload["n"] for each in await journal.pending("work2")] == [1]
    await journal.leave()
