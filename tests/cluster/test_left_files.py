"""Files of mods: who is cancelled, or reads beside a change, sees what is stored; what nothing names is removed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.supervisor.cluster.kept import snapshots as room
from modvisor.supervisor.cluster.kept import sweeping
from modvisor.supervisor.cluster.kept.journal import ClusterJournal
from modvisor.supervisor.cluster.kept.mod_log import ModLog
from modvisor.supervisor.cluster.kept.mods_files import FILE
from modvisor.supervisor.cluster.kept.snapshots import ClusterSnapshots
from modvisor.supervisor.cluster.kept.sweeping import Sweep
from modvisor.supervisor.cluster.link import NoQuorum
from modvisor.supervisor.config import JournalConfig
from modvisor.supervisor.sources.snapshots import Snapshot
from tests.conftest import until

from .conftest import Linked
from .servers import Servers
from .test_kept import journal_of
from .test_mod_files import Holder

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

LARGE = bytes(300_000)


async def files_of(journal: ClusterJournal) -> list[str]:
    """Return the kinds of the files that there are."""
    await journal.checkpoints.files.dropped()
    return sorted(name.partition(".")[0] for name in await journal.checkpoints.files.files.listed())


async def cancelled_as_it_is_written(log: ModLog, work: Coroutine[Any, Any, Any]) -> None:
    """Cancel a change when all that is left of it is the write behind the fence, which goes on."""
    task, before = asyncio.ensure_future(work), log.fenced.write
    begun = asyncio.Event()

    def write(*puts: Any, **more: Any) -> Any:
        begun.set()
        return before(*puts, **more)

    log.fenced.write = write  # type: ignore[method-assign]
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    log.fenced.write = before  # type: ignore[method-assign]
    assert task.cancelled()
    await log.fenced.flush()


async def test_who_was_cancelled_as_a_file_was_written_sees_what_is_stored(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    here = Holder(await linked(servers, "a"), tmp_path, 1)
    await here.journal.join()
    await here.files.put("wiki", "page", b"old")
    log = await here.journal.log.of("wiki")
    await cancelled_as_it_is_written(log, here.files.put("wiki", "page", b"new"))
    assert await here.files.get("wiki", "page") == b"new"
    assert await files_of(here.journal) == ["file"], "the former one was removed"
    await cancelled_as_it_is_written(log, here.files.drop("wiki", "page"))
    assert await here.files.list("wiki") == []
    assert await files_of(here.journal) == []
    await here.journal.leave()


async def test_nothing_stays_of_a_file_whose_writer_was_cancelled(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Holder(await linked(servers, "a"), tmp_path, 1)
    await here.journal.join()
    files = here.journal.checkpoints.files.files
    put, is_put = files.put, asyncio.Event()

    async def put_then(*arguments: Any) -> None:
        await put(*arguments)
        is_put.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(files, "put", put_then)
    task = asyncio.create_task(here.files.put("wiki", "page", b"1"))
    await is_put.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await files_of(here.journal) == []
    await here.journal.leave()


async def test_a_checkpoint_is_read_while_another_one_takes_its_place(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1, checkpoint_bytes=1_000_000) as journal:
        await journal.save_checkpoint("work", "1", LARGE)
        files = journal.checkpoints.files
        get = files.get

        async def saved_meanwhile(name: str) -> bytes | None:
            monkeypatch.setattr(files, "get", get)
            await journal.save_checkpoint("work", "2", LARGE)
            return await get(name)

        monkeypatch.setattr(files, "get", saved_meanwhile)
        checkpoint = await journal.checkpoint("work")
        assert checkpoint is not None
        assert checkpoint.version == "2"


async def test_no_file_stays_of_a_checkpoint_that_is_dropped(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1, checkpoint_bytes=1_000_000) as journal:
        await journal.save_checkpoint("work", "1", LARGE)
        journal.drop_checkpoint("work")
        await (await journal.log.of("work")).fenced.flush()
        assert await files_of(journal) == []


async def test_a_sweep_removes_what_no_head_names_and_nothing_else(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await linked(servers, "a")
    here = Holder(link, tmp_path, 1, checkpoint_bytes=1_000_000)
    await here.journal.join()
    await here.files.put("wiki", "page", b"1")
    await here.journal.save_checkpoint("wiki", "1", LARGE)
    kept = await in_use(here.journal)
    mods_files = here.journal.checkpoints.files
    left = await mods_files.put(FILE, "wiki", b"of a node that died")
    passing = "events/of-another-node/1"
    await mods_files.files.put(passing, b"on its way")
    parts = f"$O.{mods_files.files.name}.C.never-complete"
    await link.call(parts, b"1")
    sweep = Sweep(link, mods_files.files, SimpleNamespace(node="a", nodes={"a": 1}))
    monkeypatch.setattr(sweeping, "SETTLED", 0.0)
    assert await sweep.once() == [], "it may be named soon"
    late = await mods_files.put(FILE, "wiki", b"about to be named")
    assert await sweep.once() == sorted([left, parts])
    assert await in_use(here.journal) == sorted([*kept, passing, late])
    assert await mods_files.files.parts() == {*(await mods_files.files.listed()).values()}
    link.listeners.append(sweep._link_changed)
    link.connection().lose("the test says so")
    await until(lambda: link.is_connected)
    assert await sweep.once() == [], "a head may have waited for the servers"
    await here.journal.leave()


async def in_use(journal: ClusterJournal) -> list[str]:
    return sorted(await journal.checkpoints.files.files.listed())


MODULES = {"work": {"path": "/work.py", "source": b"", "is_package": False}}


def version(number: int) -> dict[str, Any]:
    return {"work": {**MODULES["work"], "source": b"%d" % number}}


def snapshots_of(journal: ClusterJournal, folder: Path) -> ClusterSnapshots:
    link = journal.log._link
    return ClusterSnapshots(folder / link.node, link, journal.log, lambda: journal.checkpoints.files)


async def test_a_version_that_the_servers_did_not_take_is_shared_as_soon_as_they_do(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(room, "RETRY", 0.05)
    async with (
        journal_of(await linked(servers, "a"), tmp_path, 1) as journal,
        journal_of(await linked(servers, "b"), tmp_path, 2) as next_journal,
    ):
        here, there = snapshots_of(journal, tmp_path), snapshots_of(next_journal, tmp_path)
        await here.write("work", "./work", version(1))
        files = journal.checkpoints.files
        put = files.put

        async def refused(*_: Any) -> str:
            raise NoQuorum("the servers did not answer in time")

        monkeypatch.setattr(files, "put", refused)
        await here.write("work", "./work", version(2))
        (note,) = here.notes("a")
        assert (note["mod_id"], note["node"]) == ("work", "a")
        assert "the servers did not answer in time" in note["why"]
        assert await here.read("work") == Snapshot(version(2)), "this node runs what it has"
        await here.write("work", "./work", version(3))
        monkeypatch.setattr(files, "put", put)
        await until(lambda: here.notes("a") == [])
        assert await there.read("work") == Snapshot(version(3))
        assert caplog.text.count("would run the one before") == 2, "once for each version"
        assert await files_of(journal) == ["snapshot"]
        await here.forget("work")
        await (await journal.log.of("work")).fenced.flush()
        assert await files_of(journal) == []


async def test_a_version_is_not_shared_any_more_by_a_node_that_does_not_hold_the_mod(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(room, "RETRY", 0.05)
    tokens = {"work": 1}
    journal = ClusterJournal(tmp_path / "n.db", JournalConfig(), await linked(servers, "a"), lambda name: tokens[name])
    await journal.join()
    here = snapshots_of(journal, tmp_path)

    async def refused(*_: Any) -> str:
        raise NoQuorum("the servers did not answer in time")

    monkeypatch.setattr(journal.checkpoints.files, "put", refused)
    await here.write("work", "./work", version(1))
    tokens["work"] = 0
    await until(lambda: here.notes("a") == [])
    assert "reload it" in caplog.text
    await here.close()
    await journal.leave()
